"""Originals next to their reconstructions: for the holder of the data, published only if simulated.

The report itself never holds a picture: they are on a page of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import Estimate, MedleakError, Reconstructions, ReconstructionTruth
from medleak.api.data import pixels
from medleak.engine.answers import NOTE, stored_answers
from medleak.report import formatting
from medleak.report.images import address
from medleak.report.inversion_gallery import Portrait, portraits
from medleak.report.specs import spec_of
from medleak.results.aggregate import Aggregate

if TYPE_CHECKING:
    from medleak.core.store import Store
    from medleak.data.experiment import ExperimentData
    from medleak.results.row import Row

NAMED = "identified"
MESSAGES, IMAGES = 8, 4
"""The first of them are shown: chosen before anything is seen."""


@dataclass(frozen=True)
class Pair:
    """An original, its reconstruction, how similar they are, and whether the patient was named."""

    original: str
    rebuilt: str
    alike: tuple[str, ...]
    named: str


@dataclass(frozen=True)
class Message:
    """The first images behind one message, `n_records` in all."""

    n_records: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Gallery:
    """The images of one attack under one defense, or `missing`: why they cannot be shown."""

    one: Aggregate
    messages: tuple[Message, ...] = ()
    portraits: tuple[Portrait, ...] = ()
    missing: str = ""


def galleries(
    aggregates: Iterable[Aggregate],
    store: Store,
    *,
    world_of: Callable[[Row], ExperimentData] | None = None,
) -> list[Gallery]:
    """A gallery for each line with images, of its first measured seed.

    Args:
        store: where the images were kept.
        world_of: the patients that a row is about; by default made again from its overrides.
    """
    find = world_of or experiment
    made = []
    for one in aggregates:
        kind = spec_of(one.row.goal, [one]).gallery
        if one.status == "ok" and kind:
            try:
                if kind == "pairs":
                    made.append(Gallery(one, _messages(one.row, store, find)))
                else:
                    made.append(Gallery(one, portraits=portraits(one.row, store, find)))
            except MedleakError as error:
                made.append(Gallery(one, missing=str(error)))
    places: dict[tuple, int] = {}
    for gallery in made:
        places.setdefault(_place(gallery), len(places))
    return sorted(made, key=lambda gallery: places[_place(gallery)])


def _place(gallery: Gallery) -> tuple:
    """The ages of a model stand together."""
    one = gallery.one
    return one.target, one.row.n_members, one.defense, one.attack


def page(shown: Sequence[Gallery], title: str) -> str:
    """The galleries as a self-contained page, with a warning unless all are simulated."""
    from medleak.report.pages import rendered

    real = not all(gallery.one.row.simulated for gallery in shown)
    return rendered("gallery.html.j2", title=title, galleries=shown, real=real)


def experiment(row: Row) -> ExperimentData:
    """The patients that a row is about, from the overrides that repeat it.

    Raises:
        MedleakError: its target is not known here, or its data are missing.
    """
    about = ("target", "n_members")
    words = row.provenance.get("overrides", ())
    names = [str(word).lstrip("+~").partition("=")[0].partition("@")[0] for word in words]
    mine = [w for w, name in zip(words, names, strict=True) if name.split(".")[0] in about]
    return _world(tuple(map(str, mine)))


@functools.lru_cache(maxsize=8)
def _world(overrides: tuple[str, ...]) -> ExperimentData:
    from medleak.config.compose import expand
    from medleak.data.experiment import load_experiment_data

    (job,) = expand(overrides)
    return load_experiment_data(job.config["target"], job.config["n_members"])


def _messages(row: Row, store: Store, find: Callable[[Row], ExperimentData]) -> tuple[Message, ...]:
    from medleak.metrics.image_matching import match

    (kept,) = stored_answers(store, row)
    rebuilt, truth = _part(row, kept.facts, kept.arrays, find(row))
    figures, matched = _figures(row, rebuilt, truth), match(rebuilt, truth)
    found = []
    for trial in range(min(MESSAGES, len(rebuilt.images))):
        mine = np.flatnonzero(matched.trials == trial)
        pairs = [
            Pair(
                address(matched.originals[i]) or "",
                address(matched.rebuilt[i]) or "",
                tuple(
                    _alike(name, values[i]) for name, values in figures.items() if _likeness(name)
                ),
                _verdict({name: values[i] for name, values in figures.items()}),
            )
            for i in mine[:IMAGES]
        ]
        found.append(Message(len(mine), tuple(pairs)))
    return tuple(found)


def _part(
    row: Row, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], experiment: ExperimentData
) -> tuple[Reconstructions, ReconstructionTruth]:
    """What was rebuilt from the messages of the row's age, and its originals."""
    records = experiment.challenge.records
    mine = np.array(facts["ages"]) == row.records
    positions = arrays[f"{NOTE}positions"][mine]
    if experiment.dataset.fingerprint != row.fingerprint or positions.max(initial=-1) >= len(
        records
    ):
        raise MedleakError("the data have changed since")
    counts = (positions >= 0).sum(axis=1)
    images = arrays["reconstructions"][mine].astype(np.float64)
    rebuilt = Reconstructions(images, counts, pixels(records.x), records.patients)
    return rebuilt, ReconstructionTruth(positions)


def _figures(
    row: Row, rebuilt: Reconstructions, truth: ReconstructionTruth
) -> dict[str, np.ndarray]:
    """Metric -> its value for each original; checked against the row, lest the wrong ones be shown.

    Raises:
        MedleakError: the originals are not those that were measured.
    """
    from medleak.config.compose import metrics
    from medleak.config.instantiate import build
    from medleak.metrics.reconstruction import ReconstructionMetric

    known = metrics()
    made = {name: build(known[name]) for name in row.leakage if name in known}
    found = {}
    for name, metric in made.items():
        measured = row.leakage[name]
        usual = isinstance(metric, ReconstructionMetric) and isinstance(measured, Estimate)
        if not usual or measured.value is None:
            continue
        sample = metric.sample(rebuilt, truth)
        # What was stored has single precision, which moves a mean by less, and may tip a nearest one.
        slack = 0.02 if (metric.least, metric.most) == (0.0, 1.0) else 1e-6
        if abs(sample.mean - measured.value) > 1e-3 * abs(measured.value) + slack:
            raise MedleakError("its figures cannot be repeated from what is stored")
        found[name] = sample.values
    return found


def _likeness(name: str) -> bool:
    return name not in (NAMED, "recovered", "mse")  # PSNR says the same as MSE


def _alike(name: str, value: float) -> str:
    spec = spec_of("reconstruction")
    shown = formatting.number(value, formatting.label_of(name, spec).digits)
    return f"{shown} dB" if name == "psnr" else f"{formatting.metric(name, spec)} {shown}"


def _verdict(figures: Mapping[str, float]) -> str:
    """ "named, recovered"; a tie with other patients is not a name."""
    words = {NAMED: "named", "recovered": "recovered"}
    found = [word for name, word in words.items() if figures.get(name, 0.0) > 0.5]
    return ", ".join(found) or "not named" * (NAMED in figures)
