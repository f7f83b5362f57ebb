"""One result row: what was asked, what was measured, and where it came from.

A row is plain JSON. Each cell of a grid yields one row per kind of challenge record ("natural",
"mislabelled" canaries ...) and per unit; a cell that was not measured yields a single row that says
why. Nothing in a row names a patient or an image.

A row says the version of its schema. Rows of older versions are read through `RENAMED`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from medleak.api import Curve, Estimate

Status = Literal["ok", "not_applicable", "not_run", "failed", "invalid"]
SCHEMA = 2
"""Version of the rows written now. Version 1 had no key `schema`, and the same fields."""
RENAMED: Mapping[int, Mapping[str, str]] = {
    2: {"ceilings": "upper_bounds", "twin": "plaintext_surrogate"},
}
"""Version -> the fields that it renamed, old name -> new name: a rename is one entry here."""


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        key: short digest that `medleak explain` takes.
        cell: digest of the cell (run keys, attack, knowledge, metric versions, seed).
        status, reason: `ok`, or why there is no figure.
        target, defense, attack, n_members, seed: the coordinates; `extra` holds any other axis.
        data: name of the data set; `data_note` and `fingerprint` say which file it was.
        simulated: phantom data, said in every table.
        records: kind of challenge record.
        unit: what one membership decision is about: "patient", "record", "image (patient unknown)".
        goal, access, adversary, pool, n_shadows, plaintext_surrogate: the threat model as run.
        utility: metric name -> Estimate, on evaluation patients through the released view.
        utility_groups: "sex=F" -> metric name -> Estimate.
        guarantees: `medleak.api.Guarantee` as dictionaries.
        leakage: metric name -> Estimate or Curve.
        groups: "sex=F" -> metric name -> Estimate.
        worst_group: metric name -> {"group": ..., **Estimate}: the most exposed subgroup.
        n_targets: how many runs served as the target in turn (leave-one-out); beyond one, `leakage`
            pools their scores and `utility` is their mean.
        spread: metric name -> "mean", "sd", "min" and "max" over the targets, where there are several.
        upper_bounds: metric name -> the largest value that the guarantees allow; None is vacuous.
        violations: metrics whose one-sided 99.9% lower bound lies above the ceiling.
        baselines: "mean image", "other messages" ... -> metric name -> Estimate: what is rebuilt without
            the message; `excess`: metric name -> Estimate of the gain over the best of them.
        controls: "blind_auc" -> Estimate (model-free members against non-members), "replica" ->
            {"ok": bool, "notes": [...]}, "excluded" -> which clients of a federation
            were left out, why and how often; "tampering" -> how well clients can tell the models that a
            dishonest server sends from honest ones: {"auc": Estimate, "tpr_at_1fpr": Estimate, "roc":
            Curve, ..., "architecture_kept": bool}; "twin" ->
            real encrypted queries next to the plaintext surrogate that answered in their place: "n", "error" ...
        cost: seconds and counts: "train_seconds", "shadow_seconds", "attack_seconds", "queries"; of
            federated training "client_bytes", "server_bytes", "client_seconds" and "server_seconds" of
            the messages, over all rounds; of encrypted inference "query_seconds", "query_bytes_in" ...
        provenance: overrides that repeat the row, run keys, versions, hardware.
        schema: version of these fields.
    """

    key: str
    cell: str
    status: Status
    target: str
    defense: str
    attack: str
    n_members: int
    seed: int
    reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    data_note: str = ""
    fingerprint: str = ""
    simulated: bool = False
    records: str = ""
    unit: str = ""
    goal: str = "membership"
    access: str = ""
    adversary: str = ""
    pool: str = ""
    n_shadows: int = 0
    n_targets: int = 1
    plaintext_surrogate: bool = False
    utility: Mapping[str, Estimate | Curve] = field(default_factory=dict)
    utility_groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    guarantees: tuple[Mapping[str, Any], ...] = ()
    leakage: Mapping[str, Estimate | Curve] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    worst_group: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spread: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    upper_bounds: Mapping[str, float | None] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    baselines: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    excess: Mapping[str, Estimate] = field(default_factory=dict)
    controls: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """The inverse of `to_json`, for rows of every version; unknown fields are left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**revive({k: v for k, v in migrated(data).items() if k in known}))


def migrated(data: Mapping[str, Any]) -> dict[str, Any]:
    """A row of any older version with the fields of this one; a newer one stays as it is."""
    found, version = dict(data), data.get("schema", 1)
    for step in range(version + 1, SCHEMA + 1):
        names = RENAMED.get(step, {})
        found = {names.get(name, name): value for name, value in found.items()}
    return found | {"schema": SCHEMA}


def revive(value: Any) -> Any:
    """Plain JSON with its `Estimate` and `Curve` dictionaries made objects, and lists made tuples."""
    if isinstance(value, Mapping):
        keys = value.keys()
        if {"value", "low", "high", "n"} <= keys and "group" not in keys:
            return Estimate(**value)
        if {"x", "y", "low", "high", "n"} <= keys:
            return Curve(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})
        return {k: revive(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(revive(v) for v in value)
    return value
