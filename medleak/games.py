"""Who is asked about, and the truth that only the bench keeps.

A data set is split by patient into a challenge (members and non-members of each run), auxiliary
patients (the attacker's), validation (model choice) and evaluation (utility). Each column of the
membership matrix makes an independent fair coin decide, patient by patient, who of the challenge is
a member: five parts in all.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Challenge, DataError, Dataset, Records, Secret, Setting
from medleak.canaries import plant_canaries
from medleak.components import build
from medleak.keys import array_digest, rng_for

PARTS = ("challenge", "auxiliary", "validation", "evaluation")
SPLIT_KEYS = {
    "n_members",
    "n_auxiliary",
    "n_validation",
    "n_evaluation",
    "sources",
    "canaries",
    "seed",
}


@dataclass(frozen=True)
class Parts:
    """Positions of the records of each part in the data set, each sorted by draw order of patient."""

    challenge: np.ndarray
    auxiliary: np.ndarray
    validation: np.ndarray
    evaluation: np.ndarray


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
    seed: int = 0,
) -> Parts:
    """Split a data set by patient, after removing duplicate images.

    The challenge is drawn from the front of a fixed shuffle and the other parts from its end, so that
    a smaller challenge is contained in a larger one and the other parts do not move.

    Args:
        sizes: patients in each of `PARTS`.
        sources: part -> official split it is drawn from; members and non-members share one.
        seed: of the shuffle.

    Raises:
        DataError: too few patients, an unknown source, or a patient in two sources.
    """
    from medleak.messages import unknown

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


def _positions(patients: np.ndarray, keep: np.ndarray) -> dict[int, np.ndarray]:
    order = keep[np.argsort(patients[keep], kind="stable")]
    names, starts = np.unique(patients[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def membership(pool: str, column: int, patients: np.ndarray, *, seed: int, p: float) -> np.ndarray:
    """Column `column` of the membership matrix, for each record, ``(N,)`` bool.

    Independent coins rather than exactly balanced rows: in a balanced matrix the counts over the
    other columns tell the one left out. `patients` is in draw order, so the coin of a patient does not
    depend on how many follow.
    """
    first = np.sort(np.unique(patients, return_index=True)[1])
    names = patients[first]
    coins = rng_for("membership", pool, seed, column).random(len(names)) < p
    truth = dict(zip(names.tolist(), coins.tolist(), strict=True))
    return np.array([truth[int(q)] for q in patients], dtype=bool)


@dataclass(frozen=True)
class World:
    """One target's patients, split, with canaries planted: everything before training.

    Attributes:
        challenge: the challenge records and their kinds.
        auxiliary: the attacker's records, made alike (canaries included).
        shadow_share: probability that an auxiliary patient is in a shadow of pool "auxiliary".
    """

    dataset: Dataset
    challenge: Challenge
    auxiliary: Records
    validation: Records
    evaluation: Records
    setting: Setting
    split_seed: int
    shadow_share: float

    @functools.cached_property
    def digest(self) -> str:
        """Digest of everybody who is asked about, asks, or is measured on."""
        parts = (self.challenge.records, self.auxiliary, self.evaluation)
        arrays = [a for p in parts for a in (p.x, p.y, p.patients, *p.groups.values())]
        return array_digest(self.challenge.kind, *arrays)

    @functools.cached_property
    def _contents(self) -> list[tuple[np.ndarray, str]]:
        parts = (self.challenge.records, self.auxiliary, self.evaluation)
        return [(part.x, array_digest(part.x)) for part in parts]

    def content(self, x: np.ndarray) -> str:
        """Digest of `x`; known beforehand where it is the very array of one of the parts."""
        return next((told for part, told in self._contents if part is x), None) or array_digest(x)

    def member(self, pool: str, column: int) -> np.ndarray:
        """Column of the membership matrix over the pool's records, ``(N,)`` bool."""
        records = self.pool(pool)
        p = 0.5 if pool == "audit" else self.shadow_share
        return membership(pool, column, records.patients, seed=self.split_seed, p=p)

    def pool(self, pool: str) -> Records:
        """The records that runs of this pool are trained on."""
        return self.challenge.records if pool == "audit" else self.auxiliary

    def secret(self, column: int) -> Secret:
        """The truth about the target that is column `column`."""
        return Secret(self.member("audit", column))


def load_world(target: Mapping[str, Any], n_members: int | None) -> World:
    """Load, split and label the patients of a target; remembered per process.

    Raises:
        DataError: see the data set and `split_patients`.
    """
    split = dict(target["split"])
    if n_members:
        split["n_members"] = n_members
    # Not canonical JSON: the order of keys is part of the meaning (class names, say).
    return _load_world(json.dumps(target["dataset"]), json.dumps(split))


@functools.lru_cache(maxsize=2)
def _load_dataset(block: str) -> Dataset:
    return build(json.loads(block)).load()


@functools.lru_cache(maxsize=8)
def _load_world(block: str, split_block: str) -> World:
    from medleak.messages import unknown

    dataset, split = _load_dataset(block), json.loads(split_block)
    for name in split:
        if name not in SPLIT_KEYS:
            raise DataError(unknown("key of target.split", name, SPLIT_KEYS))
    n = _count(split, "n_members")
    sizes = {"challenge": 2 * n} | {p: _count(split, f"n_{p}") for p in PARTS[1:]}
    seed = int(split.get("seed", 0))
    parts = split_patients(dataset, sizes, sources=split.get("sources"), seed=seed)
    shares = split.get("canaries") or {}
    part = {name: dataset.records.take(getattr(parts, name)) for name in PARTS}
    challenge = plant_canaries(dataset, part["challenge"], shares, seed=seed)
    auxiliary = plant_canaries(dataset, part["auxiliary"], shares, seed=seed).records
    for records in (challenge.records, auxiliary, part["evaluation"]):
        # Their digests are computed once: an attack that writes into them must fail.
        records.x.flags.writeable = False
    counts = np.unique(challenge.patients, return_counts=True)[1]
    setting = Setting(
        n_records=max(1, round(len(challenge) / 2)),
        n_patients=n,
        max_records=int(counts.max(initial=1)),
        in_shape=tuple(dataset.records.x.shape[1:]),
        n_outputs=len(dataset.classes),
        task=dataset.task,
        unit=dataset.unit,
    )
    share = min(1.0, n / sizes["auxiliary"]) if sizes["auxiliary"] else 0.0
    return World(
        dataset, challenge, auxiliary, part["validation"], part["evaluation"], setting, seed, share
    )


def _count(split: Mapping[str, Any], name: str) -> int:
    value = split.get(name, 0)
    low = 2 if name == "n_members" else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise DataError(f"target.split.{name} is {value!r}: a whole number from {low} is needed")
    return value


def member_digest(records: Records, member: np.ndarray) -> str:
    """Digest of the member set: content, labels and patients of its records."""
    chosen = records.take(member)
    return array_digest(chosen.x, chosen.y, chosen.patients)
