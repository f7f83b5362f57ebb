"""Patient-level split into challenge, auxiliary, validation and evaluation records, and membership matrix.

A data set is split by patient into a challenge (members and non-members of each run), auxiliary
patients (the attacker's), validation (model choice) and evaluation (utility). Each column of the
membership matrix makes an independent fair coin decide, patient by patient, who of the challenge is
a member: five parts in all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medleak.api import (
    Challenge,
    DataError,
    Dataset,
    DatasetSource,
    MembershipTruth,
    ProblemSpec,
    Records,
    multiclass,
)
from medleak.config.instantiate import build
from medleak.core.files import stamps
from medleak.core.keys import array_digest, digest, rng_for
from medleak.data.canaries import plant_canaries
from medleak.data.splits import PARTS, split_identities, split_patients

COMMON_KEYS = {"n_auxiliary", "n_validation", "n_evaluation", "seed"}
SPLIT_KEYS = COMMON_KEYS | {"n_members", "n_reference", "sources", "canaries"}
IDENTITY_KEYS = COMMON_KEYS | {"n_identities"}
"""Of a split whose classes are persons: evaluation and validation are then counted in scans of each."""


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


def halves(column: int, patients: np.ndarray, *, seed: int) -> np.ndarray:
    """Half of the records of each patient (of an odd number one more or less, by a coin), ``(N,)`` bool.

    Where patients are the classes, each has to be among the members with some scans. Nobody asks then
    who was a member, so that counts may tell.
    """
    member = np.zeros(len(patients), dtype=bool)
    for patient in np.unique(patients):
        mine, rng = (
            np.flatnonzero(patients == patient),
            rng_for("halves", seed, column, int(patient)),
        )
        n = (len(mine) + int(rng.random() < 0.5)) // 2
        member[rng.permutation(mine)[:n]] = True
    return member


def _no_records() -> Records:
    none = np.zeros(0, dtype=np.int64)
    return Records(none.astype(np.uint8), none, none)


@dataclass(frozen=True)
class ExperimentData:
    """One target's patients, split, with canaries planted: everything before training.

    Attributes:
        challenge: the challenge records and their kinds.
        auxiliary: the attacker's records, prepared in the same way (canaries included).
        shadow_share: probability that an auxiliary patient is in a shadow of pool "auxiliary".
        reference: other images of the challenge patients, who are known by name; never trained on, and
            empty unless ``split.n_reference`` asks for some of each.
        identities: whether the classes are the patients; half of the scans of each are then members.
    """

    dataset: Dataset
    challenge: Challenge
    auxiliary: Records
    validation: Records
    evaluation: Records
    problem: ProblemSpec
    split_seed: int
    shadow_share: float
    identities: bool = False
    reference: Records = field(default_factory=_no_records)

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the challenge, auxiliary and evaluation records."""
        parts = (self.challenge.records, self.auxiliary, self.evaluation)
        parts += (
            (self.reference,) if len(self.reference) else ()
        )  # else as before there was such a part
        arrays = [a for p in parts for a in (p.x, p.y, p.patients, *p.groups.values())]
        return array_digest(self.challenge.kind, *arrays)

    def content_digest(self, *, groups: bool) -> str:
        """Digest of the whole data set; `groups`: with its subgroup columns, which hardly any run reads.

        A column that is added trains nothing again.
        """
        return self._digests[groups]

    @functools.cached_property
    def _digests(self) -> tuple[str, str]:
        records, names = self.dataset.records, sorted(self.dataset.records.groups)
        plain = array_digest(records.x, records.y, records.patients)
        texts = [np.asarray(records.groups[name]).astype(str) for name in names]
        return plain, digest([plain, names, array_digest(*texts)])

    @functools.cached_property
    def _contents(self) -> list[tuple[np.ndarray, str]]:
        parts = (self.challenge.records, self.auxiliary, self.evaluation)
        return [(part.x, array_digest(part.x)) for part in parts]

    def content(self, x: np.ndarray) -> str:
        """Digest of `x`; known beforehand where it is the very array of one of the parts."""
        return next((known for part, known in self._contents if part is x), None) or array_digest(x)

    def member(self, pool: str, column: int) -> np.ndarray:
        """Column of the membership matrix over the pool's records, ``(N,)`` bool.

        Of pool "complement" are those of the challenge who are not in the column.
        """
        if pool == "complement":
            return ~self.member("audit", column)
        records = self.pool(pool)
        if self.identities and pool == "audit":
            return halves(column, records.patients, seed=self.split_seed)
        p = 0.5 if pool == "audit" else self.shadow_share
        return membership(pool, column, records.patients, seed=self.split_seed, p=p)

    def pool(self, pool: str) -> Records:
        """The records that runs of this pool are trained on."""
        return self.auxiliary if pool == "auxiliary" else self.challenge.records

    def secret(self, column: int) -> MembershipTruth:
        """The truth about the target that is column `column`."""
        return MembershipTruth(self.member("audit", column))


def load_experiment_data(target: Mapping[str, Any], n_members: int | None) -> ExperimentData:
    """Load, split and label the patients of a target; remembered per process, until a file that the
    data set's block names changes.

    Raises:
        DataError: see the data set and `split_patients`.
    """
    split = dict(target["split"])
    if n_members:
        split["n_members"] = n_members
    # Not canonical JSON: the order of keys is part of the meaning (class names, say).
    block = json.dumps(target["dataset"])
    return _load_experiment_data(block, json.dumps(split), stamps(target["dataset"]))


@functools.lru_cache(maxsize=2)
def _load_dataset(block: str, stamped: tuple[Any, ...]) -> Dataset:
    return build(json.loads(block), of=DatasetSource).load()


@functools.lru_cache(maxsize=8)
def _load_experiment_data(block: str, split_block: str, stamped: tuple[Any, ...]) -> ExperimentData:
    from medleak.core.suggestions import unknown

    dataset, split = _load_dataset(block, stamped), json.loads(split_block)
    known = IDENTITY_KEYS if "n_identities" in split else SPLIT_KEYS
    for name in split:
        if name not in known:
            raise DataError(unknown("key of target.split", name, known))
    experiment = (_identities if "n_identities" in split else _patients)(dataset, split)
    parts = (experiment.challenge.records, experiment.auxiliary, experiment.evaluation)
    for records in (*parts, experiment.reference):
        # Their digests are computed once: an attack that writes into them must fail.
        records.x.flags.writeable = False
    return experiment


def _patients(dataset: Dataset, split: Mapping[str, Any]) -> ExperimentData:
    """Members and non-members are patients."""
    n = _count(split, "n_members")
    sizes = {"challenge": 2 * n} | {p: _count(split, f"n_{p}") for p in PARTS[1:]}
    seed = int(split.get("seed", 0))
    n_reference = _count(split, "n_reference")
    if n_reference and not dataset.patients_known:
        raise DataError(f"n_reference: the patients of {dataset.name} are unknown")
    parts = split_patients(
        dataset, sizes, sources=split.get("sources"), n_reference=n_reference, seed=seed
    )
    shares = split.get("canaries") or {}
    part = {name: dataset.records.take(getattr(parts, name)) for name in PARTS}
    challenge = plant_canaries(dataset, part["challenge"], shares, seed=seed)
    auxiliary = plant_canaries(dataset, part["auxiliary"], shares, seed=seed).records
    problem = _problem(dataset, challenge.records, n, len(dataset.classes))
    share = min(1.0, n / sizes["auxiliary"]) if sizes["auxiliary"] else 0.0
    return ExperimentData(
        dataset,
        challenge,
        auxiliary,
        part["validation"],
        part["evaluation"],
        problem,
        seed,
        share,
        reference=dataset.records.take(parts.reference),
    )


def _identities(dataset: Dataset, split: Mapping[str, Any]) -> ExperimentData:
    """Patients are the classes, members and non-members their scans; all others are of no class, -1."""
    n, seed = _count(split, "n_identities"), int(split.get("seed", 0))
    sizes = {"identities": n, "auxiliary": _count(split, "n_auxiliary")}
    sizes["validation"] = _count(split, "n_validation")
    if not dataset.patients_known:
        raise DataError(f"n_identities: the patients of {dataset.name} are unknown")
    scans = _count(split, "n_evaluation")
    parts, persons = split_identities(dataset, sizes, scans=scans, seed=seed)
    label = {int(patient): i for i, patient in enumerate(persons)}
    part = {}
    for name in PARTS:
        records = dataset.records.take(getattr(parts, name))
        y = np.array([label.get(int(patient), -1) for patient in records.patients], dtype=np.int64)
        part[name] = replace(records, y=y)
    challenge = Challenge(part["challenge"], np.full(len(part["challenge"]), "natural"))
    problem = replace(_problem(dataset, challenge.records, n, n), task=multiclass.name)
    return ExperimentData(
        dataset,
        challenge,
        part["auxiliary"],
        part["validation"],
        part["evaluation"],
        problem,
        seed,
        0.0,
        identities=True,
    )


def _problem(dataset: Dataset, challenge: Records, n_patients: int, n_outputs: int) -> ProblemSpec:
    counts = np.unique(challenge.patients, return_counts=True)[1]
    return ProblemSpec(
        n_records=max(1, round(len(challenge) / 2)),
        n_patients=n_patients,
        max_records=int(counts.max(initial=1)),
        in_shape=tuple(dataset.records.x.shape[1:]),
        n_outputs=n_outputs,
        task=dataset.task,
        unit=dataset.unit,
    )


def _count(split: Mapping[str, Any], name: str) -> int:
    value = split.get(name, 0)
    low = 2 if name in ("n_members", "n_identities") else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise DataError(f"target.split.{name} is {value!r}: a whole number from {low} is needed")
    return value


def member_digest(records: Records, member: np.ndarray) -> str:
    """Digest of the member set: content, labels and patients of its records."""
    chosen = records.take(member)
    return array_digest(chosen.x, chosen.y, chosen.patients)
