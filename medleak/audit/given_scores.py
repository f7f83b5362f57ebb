"""Audits without training: membership scores of any model, or stored logits of somebody's shadows.

`read_scores` and `medleak.audit.stored_logits` give samples, `measured` makes rows of them with the metrics of
every grid, and `write` leaves a page and a JSON file. Nothing here needs torch.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medleak.api import ConfigError, DataError, Guarantee, Metric, Records
from medleak.core.suggestions import unknown
from medleak.results.row import Row

OUT = Path("results/audits")
GROUP = "group_"
"""Arrays and columns with this prefix are subgroups: ``group_sex``, ``group_site``."""
COLUMNS = ("scores", "member", "patients")
UNITS = ("record", "patient")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Sample:
    """Membership scores and the truth.

    Attributes:
        attack: what gave the scores, as printed.
        scores: ``(N,)`` float64, higher for members; may be infinite.
        member: ``(N,)`` bool.
        patients: ``(N,)`` int64; one each where `patients_known` is False.
        groups: subgroup columns, name -> ``(N,)`` strings; "" is unknown.
        facts: what the row says of the threat model ("pool", "n_shadows", "controls", "reason" ...).
    """

    attack: str
    scores: np.ndarray
    member: np.ndarray
    patients: np.ndarray
    patients_known: bool
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


# --------------------------------------------------------------------------- reading


def read_scores(path: str | Path) -> Sample:
    """The sample in an npz or CSV file with `scores`, `member`, and maybe `patients`, `group_*`.

    Raises:
        DataError: no such file, a column that is missing, unknown or of the wrong shape, NaN, a
            member other than 0 or 1, or one kind of member only.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"'{path}' is no file")
    read = {".npz": arrays_of, ".csv": _csv}.get(path.suffix.lower())
    if read is None:
        raise DataError(f"'{path}': a file that ends in .npz or .csv is needed")
    columns = read(path)
    known(path, columns, COLUMNS, needed=COLUMNS[:2])
    scores = numbers(path, "scores", columns["scores"])
    n = len(scores)
    if not n:
        raise DataError(f"'{path}' has no records")
    member = truths(path, "member", columns["member"], n)
    both(path, member)
    return Sample("given scores", scores, member, **people(path, columns, n))


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Every array of an npz file; pickled objects are refused, never loaded."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"'{path}' is no npz file: write it with numpy.savez")
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        reason = "an array of Python objects" if "pickle" in str(error).lower() else error
        raise DataError(f"'{path}' cannot be read: {reason}") from None


def _csv(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            rows = [row for row in lines if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    if len(set(header)) < len(header):
        raise DataError(f"'{path}': two columns of one name in {header}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"'{path}': line {number} has {len(row)} values for {len(header)} columns"
            )
    texts = dict(zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True))
    return {name: np.array([text.strip() for text in column]) for name, column in texts.items()}


def known(path: Path, given: Iterable[str], names: Sequence[str], *, needed: Sequence[str]) -> None:
    """Refuse an array or column that is missing, or that nothing reads: a misspelt `patients` would
    otherwise narrow every interval."""
    given = list(given)
    for name in given:
        if name not in names and not name.startswith(GROUP):
            raise DataError(f"'{path}': {unknown('column', name, [*names, GROUP + 'NAME'])}")
    missing = [name for name in needed if name not in given]
    if missing:
        raise DataError(f"'{path}' has no column '{missing[0]}' (there are: {', '.join(given)})")


def numbers(path: Path | str, name: str, values: np.ndarray) -> np.ndarray:
    """`values` as ``(N,)`` float64 without NaN."""
    try:
        found = np.asarray(values).astype(np.float64, casting="unsafe")
    except (TypeError, ValueError) as error:
        raise DataError(f"'{path}': {name} are no numbers: {error}") from None
    if np.iscomplexobj(values) or found.ndim != 1:
        raise DataError(f"'{path}': {name} are {values.dtype} {values.shape}: (N,) is needed")
    if np.isnan(found).any():
        raise DataError(f"'{path}': {int(np.isnan(found).sum())} of the {name} are NaN")
    return found


def truths(path: Path | str, name: str, values: np.ndarray, n: int) -> np.ndarray:
    """`values` as ``(n,)`` bool: 0 and 1, or false and true."""
    values = np.asarray(values)
    if values.shape != (n,):
        raise DataError(f"'{path}': {name} has shape {values.shape}: ({n},) is needed")
    if values.dtype == bool:
        return values
    words = np.char.lower(values) if values.dtype.kind == "U" else values
    accepted = {"U": ("0", "1", "false", "true")}.get(values.dtype.kind, (0, 1))
    strange = ~np.isin(words, accepted)
    if strange.any():
        raise DataError(f"'{path}': {name} holds {values[strange][0]!s}: 0 or 1 is needed")
    return np.isin(words, accepted[1::2])


def both(path: Path | str, member: np.ndarray) -> None:
    """Refuse a sample of members only, or of non-members only."""
    if member.all() or not member.any():
        raise DataError(f"'{path}': all records are {'' if member.all() else 'non-'}members")


def people(path: Path | str, columns: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Patients and subgroups of `n` records, as keywords of `Sample`."""
    for name, column in columns.items():
        if (name == "patients" or name.startswith(GROUP)) and column.shape != (n,):
            raise DataError(f"'{path}': {name} has shape {column.shape}: ({n},) is needed")
    names = columns.get("patients")
    if names is not None and names.dtype.kind == "f" and np.isnan(names).any():
        raise DataError(f"'{path}': {int(np.isnan(names).sum())} of the patients are NaN")
    patients = np.arange(n) if names is None else np.unique(names, return_inverse=True)[1]
    groups = {
        name.removeprefix(GROUP): column.astype(str)
        for name, column in columns.items()
        if name.startswith(GROUP)
    }
    return {"patients": patients, "patients_known": names is not None, "groups": groups}


# --------------------------------------------------------------------------- measuring


def claim(epsilon: float | None, delta: float | None, unit: str = "record") -> list[Guarantee]:
    """The promise to compare with, as guarantees; none where no epsilon is claimed.

    Raises:
        ConfigError: numbers out of range, or an epsilon without a delta.
    """
    if unit not in UNITS:
        raise ConfigError(unknown("unit of a claim", unit, UNITS))
    if delta is not None and not 0 <= delta < 1:
        raise ConfigError(f"delta {delta}: a number from 0 to 1 is needed")
    if epsilon is None:
        return []
    if not 0 <= epsilon < float("inf"):
        raise ConfigError(f"epsilon {epsilon}: zero or more is needed")
    if delta is None:
        raise ConfigError("epsilon is claimed at some delta: give delta, too (1e-5, say)")
    said = ("as claimed, not computed here",)
    who = "anyone who sees the scores"
    return [Guarantee("dp", unit, who, epsilon, delta, assumptions=said, accountant="claimed")]


def claimed(
    samples: Iterable[Sample], epsilon: float | None, delta: float | None, unit: str | None
) -> list[Guarantee]:
    """`claim` about these samples; `unit` None is the record, where that is the patient as well.

    Raises:
        ConfigError: as `claim`, or no unit is said and patients have several records.
    """
    found = claim(epsilon, delta, unit or UNITS[0])
    if found and unit is None and any(map(repeated, samples)):
        raise ConfigError(
            "patients have several records: say the unit that was promised, record or patient"
        )
    return found


def membership_metrics(delta: float | None = None) -> dict[str, Metric]:
    """Every membership metric of `conf/metric`, plugins' too; `delta` for the one-run bound."""
    import yaml

    from medleak.config import plugins
    from medleak.config.catalogue import entries
    from medleak.config.instantiate import build
    from medleak.metrics.privacy.epsilon import OneRunEpsilon

    plugins.enable()
    made = {}
    for entry in entries("metric"):
        if entry.problem or entry.goal != "membership":
            continue
        metric = build(yaml.safe_load(entry.file.read_text()), of=Metric)
        if delta is not None and isinstance(metric, OneRunEpsilon):
            metric.delta = delta
        made[entry.name] = metric
    return made


def measured(
    sample: Sample,
    *,
    name: str,
    metrics: Mapping[str, Metric],
    guarantees: Sequence[Guarantee] = (),
) -> Row:
    """One row: every metric by patient, subgroups, ceilings and violations of what is claimed.

    Raises:
        DataError: a patient who is both member and non-member.
    """
    from medleak.core.keys import array_digest, digest
    from medleak.engine.figures import figures
    from medleak.goals.membership.goal import sample as sample_of
    from medleak.goals.membership.target_scores import TargetScores

    n = len(sample.scores)
    records = Records(np.zeros((n, 0)), np.zeros(n, int), sample.patients, sample.groups)
    target_scores = TargetScores(sample.scores[None], sample.member[None], records)
    unit = "patient" if sample.patients_known else "record (patient unknown)"
    judged = sample_of(guarantees, [target_scores], records="natural", unit="patient")
    found = figures(metrics, judged)
    given = array_digest(sample.scores, sample.member, sample.patients)
    key = digest(["audit", given, sample.attack, [repr(m) for m in metrics.values()]])
    return Row(
        key=key[:12],
        cell=key,
        target=name,
        defense="given model",
        attack=sample.attack,
        n_members=len(np.unique(sample.patients[sample.member])),
        seed=0,
        data=name,
        fingerprint=given,
        records="natural",
        unit=unit,
        guarantees=tuple(asdict(g) for g in guarantees),
        **{"status": "ok", "access": "scores", **sample.facts},
        **found,
    )


def repeated(sample: Sample) -> bool:
    """Whether a patient has several records: a claim for single ones then limits no patient's."""
    return len(np.unique(sample.patients)) < len(sample.patients)


def bounds(sample: Sample, metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    """Every one-run bound on epsilon with its assumptions, each at 95% by itself; none where members
    cannot have been drawn by fair coins."""
    from medleak.metrics.privacy import audit
    from medleak.metrics.privacy.epsilon import OneRunEpsilon
    from medleak.metrics.statistics.roc import per_patient

    found = []
    scores, _, member = per_patient(sample.scores, sample.patients, sample.member)
    for metric in metrics.values():
        if not isinstance(metric, OneRunEpsilon):
            continue
        if metric.refusal(member, np.arange(len(member))):
            continue
        kinds = [audit.one_run_epsilon, audit.fdp_epsilon]
        kinds += [audit.fdp_gaussian] if metric.delta > 0 else []
        plan = {"shares": metric.shares, "delta": metric.delta, "level": metric.level}
        made = [audit.audit_one_run(scores, member, bound=kind, **plan) for kind in kinds]
        found += [{"attack": sample.attack} | asdict(one) for one in made]
    return found


# --------------------------------------------------------------------------- the command's work


@dataclass(frozen=True)
class Audit:
    """Rows and bounds of one audit, under a `name`; `source` says what was read, in words."""

    name: str
    source: str
    rows: tuple[Row, ...]
    bounds: tuple[Mapping[str, Any], ...]


def of_samples(
    samples: Sequence[Sample],
    *,
    name: str,
    source: str,
    guarantees: Sequence[Guarantee] = (),
    delta: float | None = None,
) -> Audit:
    """Measure every sample against the same claim."""
    metrics = membership_metrics(delta)
    rows = [measured(s, name=name, metrics=metrics, guarantees=guarantees) for s in samples]
    told = [one for s, row in zip(samples, rows, strict=True) if row.status == "ok"
            for one in bounds(s, metrics)]  # fmt: skip
    return Audit(name, source, tuple(rows), tuple(told))


def named(name: str | None, path: str | Path) -> str:
    """The name of an audit: as given, else that of what is read.

    Raises:
        ConfigError: it cannot be a folder.
    """
    found = name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).resolve().stem).strip("-.")
    if not _NAME.fullmatch(found):
        raise ConfigError(f"'{found}' cannot name an audit: letters, digits, '.', '_', '-' only")
    return found
