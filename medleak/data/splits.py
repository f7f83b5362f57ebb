"""Assignment of patients to challenge, auxiliary, validation and evaluation parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medleak.api import DataError, Dataset, Records
from medleak.core.keys import rng_for
from medleak.core.suggestions import unknown

PARTS = ("challenge", "auxiliary", "validation", "evaluation")


@dataclass(frozen=True)
class Parts:
    """Positions of the records of each part in the data set, each sorted by draw order of patient.

    `reference` holds other images of the challenge patients, whose names the adversary knows.
    """

    challenge: np.ndarray
    auxiliary: np.ndarray
    validation: np.ndarray
    evaluation: np.ndarray
    reference: np.ndarray = field(default_factory=lambda: np.array([], dtype=int))


def unique_images(records: Records) -> np.ndarray:
    """Positions of records whose content no earlier record has: duplicates would be in two parts."""
    seen: set[bytes] = set()
    keep = []
    for i, row in enumerate(records.x):
        digest = hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            keep.append(i)
    return np.array(keep, dtype=np.int64)


def split_patients(
    dataset: Dataset,
    sizes: Mapping[str, int],
    *,
    sources: Mapping[str, str] | None = None,
    n_reference: int = 0,
    seed: int = 0,
) -> Parts:
    """Split a data set by patient, after removing duplicate images.

    The challenge is drawn from the front of a fixed shuffle and the other parts from its end, so that
    a smaller challenge is contained in a larger one and the other parts do not move.

    Args:
        sizes: patients in each of `PARTS`.
        sources: part -> official split it is drawn from; members and non-members share one.
        n_reference: images of each challenge patient that become the part `reference`; the challenge is
            then drawn from patients who have more than that.
        seed: of the shuffle.

    Raises:
        DataError: too few patients, an unknown source, or a patient in two sources.
    """
    sources = dict(sources or {})
    available = sorted(set(dataset.source.tolist()))
    for part, source in sources.items():
        if part not in PARTS:
            raise DataError(unknown("part of split.sources", part, PARTS))
        if source not in available:
            raise DataError(
                unknown(f"source of {dataset.name} for split.{part}", source, available)
            )
    if sources and (missing := [part for part in PARTS if part not in sources]):
        raise DataError(f"split.sources names some parts only: {', '.join(missing)} missing")
    keep = unique_images(dataset.records)
    owner: dict[int, str] = {}
    if len(set(sources.values())) > 1:
        for patient, source in zip(dataset.records.patients, dataset.source, strict=True):
            if owner.setdefault(int(patient), source) != source:
                raise DataError(
                    f"patient {int(patient)} of {dataset.name} is in two sources: "
                    f"{owner[int(patient)]} and {source}"
                )
    orders: dict[str | None, list[int]] = {}
    totals: dict[str | None, int] = {}
    chosen: dict[str, np.ndarray] = {}
    by_patient = _positions(dataset.records.patients, keep)
    for part in PARTS:
        source = sources.get(part)
        if source not in orders:
            pool = keep if source is None else keep[dataset.source[keep] == source]
            patients = np.unique(dataset.records.patients[pool])
            orders[source] = rng_for("split", seed, source).permutation(patients).tolist()
            totals[source] = len(patients)
        order, n = orders[source], int(sizes[part])
        if n_reference and part == "challenge":
            taken = _with_images(dataset, order, by_patient, n, least=n_reference + 1)
            orders[source] = [p for p in order if p not in set(taken)]
            split = [_set_aside(by_patient[p], p, n_reference, seed) for p in taken]
            chosen["reference"], chosen[part] = map(np.concatenate, zip(*split, strict=True))
            continue
        if n > len(order):
            where = f" in source '{source}'" if source else ""
            others = [int(sizes[p]) for p in PARTS[1:] if sources.get(p) == source]
            most = max(0, totals[source] - sum(others)) // 2
            half = int(sizes["challenge"]) // 2
            limit = (
                f"; n_members={half} takes {2 * half} of {totals[source]}, and {most} is the most"
            )
            raise DataError(
                f"too few patients in {dataset.name}: {part} needs {n}, {len(order)} are left{where}"
                + limit * (source == sources.get("challenge"))
            )
        front = part == "challenge"
        taken = order[:n] if front else order[len(order) - n :]
        orders[source] = order[n:] if front else order[: len(order) - n]
        chosen[part] = (
            np.concatenate([by_patient[p] for p in taken]) if taken else np.array([], int)
        )
    return Parts(**chosen)


def _with_images(
    dataset: Dataset, order: list[int], by_patient: Mapping[int, np.ndarray], n: int, *, least: int
) -> list[int]:
    """The first `n` patients of `order` who have `least` different images."""
    able = [patient for patient in order if len(by_patient[patient]) >= least]
    if n <= len(able):
        return able[:n]
    raise DataError(
        f"too few patients in {dataset.name}: n_reference={least - 1} needs {n} challenge patients with "
        f"{least} images or more, {len(able)} of {len(order)} have them"
    )


def _set_aside(
    positions: np.ndarray, patient: int, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`n` images of a patient, drawn by lot, and the others; each in order."""
    drawn = rng_for("reference", seed, int(patient)).permutation(positions)
    return np.sort(drawn[:n]), np.sort(drawn[n:])


def _positions(patients: np.ndarray, keep: np.ndarray) -> dict[int, np.ndarray]:
    order = keep[np.argsort(patients[keep], kind="stable")]
    names, starts = np.unique(patients[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def split_identities(
    dataset: Dataset, sizes: Mapping[str, int], *, scans: int, seed: int = 0
) -> tuple[Parts, np.ndarray]:
    """Split for a task whose classes are persons: who is on this image?

    Some patients become the classes. Their scans are shared out between challenge and evaluation (and
    validation, where that has any); all other parts are other patients.

    Args:
        sizes: "identities" (patients who become classes), "auxiliary" (others) and "validation" (scans
            of each identity for model choice).
        scans: of each identity, for evaluation.
        seed: of the draw.

    Returns:
        The parts, and the patient of each class.

    Raises:
        DataError: too few patients with so many scans.
    """
    keep = unique_images(dataset.records)
    by_patient = _positions(dataset.records.patients, keep)
    aside = scans + sizes["validation"]
    order = rng_for("identities", seed).permutation(sorted(by_patient)).tolist()
    able = [patient for patient in order if len(by_patient[patient]) >= aside + 2]
    n = sizes["identities"]
    if n > len(able):
        raise DataError(
            f"too few patients in {dataset.name}: n_identities={n} needs as many with {aside + 2} scans "
            f"or more (two to be divided by coins), {len(able)} have them"
        )
    chosen = able[:n]
    others = [patient for patient in order if patient not in set(chosen)]
    if sizes["auxiliary"] > len(others):
        raise DataError(
            f"too few patients in {dataset.name}: auxiliary needs {sizes['auxiliary']}, "
            f"{len(others)} are left"
        )
    parts: dict[str, list[np.ndarray]] = {name: [np.array([], int)] for name in PARTS}
    for patient in chosen:
        mine = rng_for("scans", seed, int(patient)).permutation(by_patient[patient])
        for name, some in zip(
            ("evaluation", "validation", "challenge"), np.split(mine, [scans, aside]), strict=True
        ):
            parts[name].append(np.sort(some))
    parts["auxiliary"] += [by_patient[patient] for patient in others[: sizes["auxiliary"]]]
    found = Parts(**{name: np.concatenate(some) for name, some in parts.items()})
    return found, np.array(chosen)
