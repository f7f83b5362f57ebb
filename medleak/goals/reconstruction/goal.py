"""The reconstruction game: which messages are asked about, and the figures of what was rebuilt.

An attack is asked for the records behind some of the observed messages of federated training. The
bench keeps which records these are; the gallery in which they are looked for is the whole challenge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import (
    Guarantee,
    MedleakError,
    Metric,
    ReconstructionChallenge,
    Reconstructions,
    ReconstructionTruth,
)
from medleak.config.instantiate import build
from medleak.core.keys import rng_for
from medleak.core.store import Store
from medleak.core.validation import whole
from medleak.data.experiment import ExperimentData
from medleak.goals.base import AttackOutputs, Game, gain
from medleak.training.observations import ObservationLog
from medleak.training.stored_model import facts_of

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row

AGES = ("fresh model", "trained model")
"""Of the attacked checkpoint: the first observed rounds, and the last. Fresh models leak more."""
CANDIDATE = "random candidate"
"""The baseline of an adversary that is told whom a record may be."""
CERTAIN = 1e-6
"""Chance, left out of account, that a record takes part more often than is assumed."""


class Reconstruction(Game):
    """The records behind observed messages of federated training."""

    persons = True
    options = {"n_trials": 16, "n_candidates": 32}

    def reasons(self, cell: Cell) -> list[str]:
        for name in self.options:
            whole(f"attack.knowledge.{name}", cell.knowledge[name], least=1)
        if len(cell.shadowed_targets) > 1:
            return ["n_targets > 1: a reconstruction game asks about the messages of one run"]
        return []

    def asked(self, cell: Cell, shadowed: ShadowedTarget, store: Store) -> ReconstructionChallenge:
        return _reconstruction_task(cell, shadowed, store).challenge

    def rows(self, cell: Cell, store: Store, played: AttackOutputs) -> list[Row]:
        """A row for each age of the attacked model."""
        (shadowed,), (output,) = cell.shadowed_targets, played.outputs
        experiment = shadowed.target.experiment
        asked = _reconstruction_task(cell, shadowed, store)
        metrics = {name: build(block) for name, block in cell.metrics.items()}
        guarantees = cell.binding(played.shared["guarantees"])
        rows = []
        for age in [age for age in AGES if (asked.age == age).any()]:
            rebuilt, truth = asked.part(output.reconstructions, age, experiment)
            labels = asked.challenge.labels
            mine = None if labels is None else [labels[i] for i in np.flatnonzero(asked.age == age)]
            found = measured(
                metrics,
                guarantees,
                rebuilt,
                truth,
                experiment=experiment,
                n_members=facts_of(shadowed.target, store)["n_members"],
                labels=mine,
                candidates=asked.named(age, experiment),
            )
            rows.append(
                cell.row(**played.shared, **found, records=age, unit=experiment.problem.unit)
            )
        arrays = {"images": output.reconstructions.astype(np.float32), "positions": asked.positions}
        store.save("rebuilt", cell.key, {"ages": asked.age.tolist()}, arrays)
        return rows


def _reconstruction_task(cell: Cell, shadowed: ShadowedTarget, store: Store) -> ReconstructionTask:
    from medleak.goals.reconstruction.informed import informed

    known = cell.attack.requires.knowledge
    transcript, experiment = ObservationLog(store, shadowed.target.key), shadowed.target.experiment
    n_trials = cell.knowledge["n_trials"]
    asked = reconstruction_task(transcript, experiment, n_trials=n_trials, labels="labels" in known)
    if "all_but_one" not in known:
        return asked
    return informed(
        asked,
        transcript,
        experiment,
        member=experiment.secret(shadowed.target.column).member,
        n_candidates=cell.knowledge["n_candidates"],
        clip=facts_of(shadowed.target, store).get("clip"),
        rng=rng_for("informed", shadowed.target.key),
    )


@dataclass(frozen=True)
class ReconstructionTask:
    """What is asked about one run, and the truth.

    Attributes:
        age: of each message, ``(T,)`` strings.
        positions: in the gallery, ``(T, B)`` int, -1 where padded.
        candidates: positions of those named to an informed adversary, ``(T, M)``, in random order.
    """

    challenge: ReconstructionChallenge
    age: np.ndarray
    positions: np.ndarray
    candidates: np.ndarray | None = None

    def part(
        self, images: np.ndarray, age: str, experiment: ExperimentData
    ) -> tuple[Reconstructions, ReconstructionTruth]:
        """What was rebuilt from the messages of one age, and what should have been."""
        mine = self.age == age
        records = experiment.challenge.records
        rebuilt = Reconstructions(
            images[mine], self.challenge.n_records[mine], pixels(records.x), records.patients
        )
        return rebuilt, ReconstructionTruth(self.positions[mine])

    def named(self, age: str, experiment: ExperimentData) -> np.ndarray | None:
        """The candidates' images of one age, ``(T, M, C, H, W)``; None where none were named."""
        if self.candidates is None:
            return None
        return pixels(experiment.challenge.records.x[self.candidates[self.age == age]])


def pixels(x: np.ndarray) -> np.ndarray:
    """Records as floats in 0..1, ``(N, C, H, W)``."""
    return x.astype(np.float64) / 255 if x.dtype == np.uint8 else x.astype(np.float64)


def reconstruction_task(
    transcript: ObservationLog, experiment: ExperimentData, *, n_trials: int, labels: bool
) -> ReconstructionTask:
    """Ask about up to `n_trials` messages of each age; empty ones tell nothing and are left out.

    Args:
        labels: whether the adversary is given the labels behind each message.

    Raises:
        MedleakError: no message was observed, or none holds a record.
    """
    contents = transcript.contents
    if not contents:
        raise MedleakError("no message was observed: federated training with observe > 0 is needed")
    ages = ages_of(contents)
    indices: list[int] = []
    for age in AGES:
        full = [i for i, m in enumerate(contents) if ages[i] == age and m["n_records"]]
        indices += full[:n_trials]
    if not indices:
        raise MedleakError("every observed message is empty: its batches had no record")
    truth = [transcript.truth(i) for i in indices]
    if any((one < 0).any() for one in truth):
        raise MedleakError("a defense replaced the training records: no truth to compare with")
    counts = np.array([len(one) for one in truth])
    positions = np.full((len(truth), counts.max()), -1)
    for row, one in zip(positions, truth, strict=True):
        row[: len(one)] = one
    known = tuple(_in_order(experiment.challenge.y[one]) for one in truth) if labels else None
    challenge = ReconstructionChallenge(
        np.array(indices), counts, experiment.problem.in_shape, known
    )
    return ReconstructionTask(challenge, np.array([ages[i] for i in indices]), positions)


def ages_of(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the model that each message answers; `contents` as of a `ObservationLog`."""
    middle = (contents[0]["round"] + contents[-1]["round"]) / 2
    return [AGES[message["round"] > middle] for message in contents]


def _in_order(y: np.ndarray) -> np.ndarray:
    """Labels sorted, so that their order tells nothing; rows of labels as whole rows."""
    return np.sort(y) if y.ndim == 1 else y[np.lexsort(y.T[::-1])]


def measured(
    metrics: Mapping[str, Metric],
    guarantees: Sequence[Guarantee],
    rebuilt: Reconstructions,
    truth: ReconstructionTruth,
    *,
    experiment: ExperimentData,
    n_members: int,
    labels: Sequence[np.ndarray] | None,
    candidates: np.ndarray | None = None,
) -> dict[str, Any]:
    """The parts of a row that are measured on rebuilt images: leakage, baselines, ceilings, violations.

    Args:
        n_members: patients of the challenge who were trained on.
        labels: those behind each message, where the adversary is given them.
        candidates: their images, where they were named: ``(T, M, C, H, W)``, in random order.
    """
    from medleak.metrics import baselines
    from medleak.metrics.privacy.upper_bounds import VIOLATION_LEVEL

    auxiliary = experiment.auxiliary
    others = pixels(auxiliary.x)
    priors = {
        "mean image": baselines.mean_image(rebuilt, others, y=auxiliary.y, labels=labels),
        "typical image": baselines.typical_image(rebuilt, others),
    }
    if len(rebuilt.images) > 1:
        priors["other messages"] = baselines.other_observations(rebuilt)
    if candidates is not None:
        priors[CANDIDATE] = replace(rebuilt, images=candidates[:, :1])
    named = None if candidates is None else candidates.shape[1]
    leakage = {name: metric(rebuilt, truth) for name, metric in metrics.items()}
    roofs = {
        name: _upper_bound(m, guarantees, rebuilt, experiment, n_members, named)
        for name, m in metrics.items()
    }
    violations = [
        name
        for name, metric in metrics.items()
        if roofs[name] is not None
        and (low := metric.lower_bound(rebuilt, truth, VIOLATION_LEVEL)) is not None
        and low > roofs[name]
    ]
    return {
        "leakage": leakage,
        "ceilings": roofs,
        "violations": tuple(violations),
        "baselines": {
            prior: {name: metric(guess, truth) for name, metric in metrics.items()}
            for prior, guess in priors.items()
        },
        "excess": {
            name: gain(metric, [metric.excess(rebuilt, guess, truth) for guess in priors.values()])
            for name, metric in metrics.items()
        },
    }


def _upper_bound(
    metric: Metric,
    guarantees: Sequence[Guarantee],
    rebuilt: Reconstructions,
    experiment: ExperimentData,
    n_members: int,
    named: int | None,
) -> float | None:
    """What the guarantees allow, given that the scored records were in the scored messages.

    Besides the message itself, a record takes part in other steps: by its coins, almost surely in no
    more than the `CERTAIN` quantile of their number.
    """
    from scipy.stats import binom

    from medleak.metrics.privacy.reconstruction_robustness import given_participation, uniform_prior
    from medleak.metrics.privacy.upper_bounds import applicable

    fitting = applicable(
        guarantees, unit=experiment.problem.unit, max_records=experiment.problem.max_records
    )
    known: list[Guarantee] = []
    for promise in fitting:
        if {"q", "steps"} <= promise.mechanism.keys():
            steps, q = int(promise.mechanism["steps"]), float(promise.mechanism["q"])
            times = 1 + int(binom.isf(CERTAIN, max(steps - 1, 1), q))
            known += given_participation([promise], times)
    if not known:
        return None
    if named is not None:  # all of one label, each with the same chance
        return metric.upper_bound(known, uniform_prior(named, guesses=getattr(metric, "k", 1)))
    # Of the gallery's patients, the other members are known to an informed adversary.
    candidates = max(1, len(np.unique(rebuilt.patients)) - n_members + 1)
    guesses = int(rebuilt.n_records.max(initial=1)) * getattr(metric, "k", 1)
    kappa = uniform_prior(candidates, guesses=guesses, labels=experiment.problem.n_outputs)
    return metric.upper_bound(known, kappa)
