"""Membership scores from stored logits: a target and shadows that somebody trained elsewhere.

A folder holds ``target.npz`` and ``shadow_*.npz``, each with `logits` ``(N, C)`` and `member` ``(N,)`` for
the same N records in the same order, and ``labels.npz`` with `y`. The attacks are the bench's own: what
they take for records are positions, which a release looks up in the stored logits. One file is open at a
time, so memory does not grow with the number of shadows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medleak.api import (
    Challenge,
    DataError,
    Knowledge,
    NotApplicable,
    ProblemSpec,
    Records,
    Release,
    Shadow,
    Task,
    multiclass,
    multilabel,
)
from medleak.audit.given_scores import COLUMNS, Sample, arrays_of, both, known, people, truths
from medleak.core.keys import rng_for
from medleak.core.suggestions import unknown

TARGET, LABELS, SHADOWS = "target.npz", "labels.npz", "shadow_*.npz"
ATTACKS = ("lira", "rmia")
FEWEST = 4
HELD_OUT = 0.2
"""Share of the patients set aside for RMIA's population where the folder names none."""
MOST_SCORES = 2000


@dataclass(frozen=True)
class Folder:
    """What a folder holds in addition to logits.

    Attributes:
        path: of the folder.
        shadows: their files, sorted.
        y: ``(N,)`` classes or ``(N, L)`` 0/1.
        columns: `patients`, `patients_known` and `groups`, as keywords of `Sample`.
        population: ``(N,)`` bool or None; records that the target was not trained on.
        outputs: C, or L of a multi-label task.
    """

    path: Path
    shadows: tuple[Path, ...]
    y: np.ndarray
    columns: dict[str, Any]
    population: np.ndarray | None
    outputs: int

    @property
    def task(self) -> Task:
        """Several labels where `y` has a column for each, else classes."""
        return multilabel if self.y.ndim == 2 else multiclass


def read(path: str | Path) -> list[Sample]:
    """LiRA's and RMIA's scores of the stored target, with whether the shadows are its replicas.

    Records are asked about in one challenge, the same for both attacks. RMIA compares with a population
    that the target never saw: the records that `population` marks, else the non-members among a fifth of
    the patients, drawn by a fixed seed; that fifth is left out of the challenge, members too, so that
    members remain a fair sample. Attacks are online where shadows were trained on challenge records,
    else offline (`a` then tuned on the last shadow, which is held out).

    Raises:
        DataError: a file or array that is missing or malformed.
    """
    folder = _folder(Path(path))
    logits, target = model(folder, folder.path / TARGET)
    both(folder.path / TARGET, target)
    told = _facts(folder, logits, target)
    memberships = []
    replicas = []
    for file in folder.shadows:
        answers, member = model(folder, file)
        memberships.append(member)
        replicas.append(_facts(folder, answers, member))
    challenge, population = _split(folder, target)
    online = bool(np.any([member[challenge] for member in memberships]))
    reasons = _replicas(told, replicas, online=online)
    return [
        _scored(folder, name, logits, target, challenge, population, reasons, online=online)
        for name in ATTACKS
    ]


def model(folder: Folder, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """`logits` ``(N, C)`` and `member` ``(N,)`` of one model, checked."""
    arrays = arrays_of(file)
    names = ("logits", "member")
    known_only(file, arrays, names)
    logits, n = arrays["logits"], len(folder.y)
    if not np.issubdtype(logits.dtype, np.floating):
        raise DataError(f"'{file}': logits are {logits.dtype}: floats are needed")
    if logits.shape != (n, folder.outputs):
        raise DataError(
            f"'{file}': logits have shape {logits.shape}: ({n}, {folder.outputs}) is needed"
        )
    if np.isnan(logits).any() or (logits == np.inf).any():
        raise DataError(f"'{file}': logits hold NaN or +inf")
    if folder.task.one_class and (logits == -np.inf).all(axis=1).any():
        raise DataError(f"'{file}': a record's logits are all -inf")
    return logits, truths(file, "member", arrays["member"], n)


def known_only(file: Path, arrays: dict[str, np.ndarray], names: Sequence[str]) -> None:
    """Refuse a model's file that lacks an array or has one that nothing reads."""
    for name in arrays:
        if name not in names:
            raise DataError(f"'{file}': {unknown('array', name, names)}")
    known(file, arrays, names, needed=names)


def _folder(path: Path) -> Folder:
    if not path.is_dir():
        raise DataError(f"'{path}' is no folder")
    for name in (TARGET, LABELS):
        if not (path / name).is_file():
            raise DataError(f"'{path}' has no {name}")
    shadows = tuple(sorted(path.glob(SHADOWS)))
    if len(shadows) < FEWEST:
        raise DataError(f"'{path}' has {len(shadows)} {SHADOWS}: at least {FEWEST} are needed")
    file = path / LABELS
    arrays = arrays_of(file)
    known(file, arrays, ("y", "population", *COLUMNS[2:]), needed=("y",))
    outputs = _outputs(path / TARGET)
    y = _labels(file, arrays["y"], outputs)
    population = arrays.get("population")
    if population is not None:
        population = truths(file, "population", population, len(y))
    return Folder(path, shadows, y, people(file, arrays, len(y)), population, outputs)


def _outputs(file: Path) -> int:
    arrays = arrays_of(file)
    known_only(file, arrays, ("logits", "member"))
    if arrays["logits"].ndim != 2:
        raise DataError(f"'{file}': logits have shape {arrays['logits'].shape}: (N, C) is needed")
    return arrays["logits"].shape[1]


def _labels(file: Path, y: np.ndarray, outputs: int) -> np.ndarray:
    if y.dtype.kind not in "iub" or y.ndim not in (1, 2) or not len(y):
        raise DataError(f"'{file}': y is {y.dtype} {y.shape}: integers (N,) or (N, L) are needed")
    y = y.astype(np.int64)
    least, most = int(y.min()), int(y.max())
    if y.ndim == 2:
        if y.shape[1] != outputs or least < 0 or most > 1:
            raise DataError(f"'{file}': y {y.shape}: 0 or 1 for each of {outputs} labels is needed")
    elif outputs < 2:
        raise DataError(f"'{file}': logits of {outputs} class: write (N, 2) for a binary task")
    elif least < 0 or most >= outputs:
        raise DataError(f"'{file}': y holds {least}..{most}: classes 0..{outputs - 1} are needed")
    return y


def _split(folder: Folder, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the challenge and of the population."""
    patients, given = folder.columns["patients"], folder.population
    if given is not None:
        if (given & target).any():
            raise DataError(f"'{folder.path / LABELS}': population holds members of the target")
        aside = np.isin(patients, patients[given])
        challenge, population = np.flatnonzero(~aside), np.flatnonzero(given)
    else:
        names = np.unique(patients)
        rng = rng_for("audit signals", "population")
        drawn = rng.permutation(names)[: int(len(names) * HELD_OUT)]
        aside = np.isin(patients, drawn)
        challenge, population = np.flatnonzero(~aside), np.flatnonzero(aside & ~target)
    if not len(population):
        raise DataError(f"'{folder.path}': no record outside the target serves as population")
    both(folder.path / LABELS, target[challenge])
    return challenge, population


# --------------------------------------------------------------------------- attacking


@dataclass(frozen=True)
class Stored:
    """A re-iterable pool of stored shadows, one open at a time."""

    folder: Folder
    files: Sequence[Path]
    challenge: np.ndarray
    population: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Shadow]:
        return (self.open(file) for file in self.files)

    def open(self, file: Path) -> Shadow:
        """One shadow as the attacker sees it."""
        logits, member = model(self.folder, file)
        release = lookup_release(logits, task=self.folder.task)
        return Shadow(member[self.challenge], member[self.population], release)


def lookup_release(logits: np.ndarray, *, task: Task) -> Release:
    """A release whose records are positions ``(M, 1)`` in stored logits."""

    def scores(x: np.ndarray) -> np.ndarray:
        return task.log_probabilities(logits[x[:, 0]])

    return Release({"scores": scores, "labels": lambda x: task.predictions(scores(x))})


def _scored(
    folder: Folder,
    name: str,
    logits: np.ndarray,
    target: np.ndarray,
    challenge: np.ndarray,
    population: np.ndarray,
    reasons: Sequence[str],
    *,
    online: bool,
) -> Sample:
    attack = _attack(name, online=online)
    files = folder.shadows if online else folder.shadows[:-1]
    pool = Stored(folder, files, challenge, population)
    asked = _records(folder, challenge)
    known_pool = "audit" if online else "auxiliary"
    knowledge = Knowledge(
        problem=_problem(folder, int(target[challenge].sum()), asked),
        auxiliary=_records(folder, population),
        shadows=pool,
        pool=known_pool,
        rng=rng_for("audit signals", name),
        reference=None if online else pool.open(folder.shadows[-1]),
    )
    refused = attack.incompatibilities(
        knowledge.problem, {"pool": known_pool, "n_shadows": len(pool)}
    )
    if refused:
        raise NotApplicable(*refused)
    release = lookup_release(logits, task=folder.task)
    given = Challenge(asked, np.full(len(asked), "natural"))
    output = attack.execute(release.granting(attack.requires.access), given, knowledge)
    facts: dict[str, Any] = {
        "pool": known_pool,
        "n_shadows": len(pool),
        "adversary": attack.requires.adversary,
        "controls": {"replica": {"ok": not reasons, "notes": list(reasons)}},
        "cost": {"attack_seconds": output.seconds, "queries": output.queries},
    }
    if reasons:
        said = f"control failed: replica check: {'; '.join(reasons)}"
        facts |= {"status": "invalid", "reason": said}
    return Sample(
        name if online else f"{name}_offline",
        output.scores,
        target[challenge],
        asked.patients,
        folder.columns["patients_known"],
        asked.groups,
        facts,
    )


def _attack(name: str, *, online: bool) -> Any:
    """The bench's own attack, as its YAML sets it."""
    import yaml

    from medleak.config.instantiate import build
    from medleak.config.plugins import options

    option = options("attack")[name if online else f"{name}_offline"]
    return build(yaml.safe_load(option.file.read_text()))


def _records(folder: Folder, at: np.ndarray) -> Records:
    groups = {name: column[at] for name, column in folder.columns["groups"].items()}
    return Records(at[:, None], folder.y[at], folder.columns["patients"][at], groups)


def _problem(folder: Folder, n_members: int, asked: Records) -> ProblemSpec:
    counts = np.unique(asked.patients, return_counts=True)[1]
    known = folder.columns["patients_known"]
    return ProblemSpec(
        n_records=n_members,
        n_patients=len(counts) // 2,
        max_records=int(counts.max()),
        in_shape=(1,),
        n_outputs=folder.outputs,
        task=folder.task.name,
        unit="patient" if known else "image (patient unknown)",
    )


# --------------------------------------------------------------------------- control


def _facts(folder: Folder, logits: np.ndarray, member: np.ndarray) -> dict[str, Any]:
    """What the replica check compares, on records that the model was not trained on."""
    outside = np.flatnonzero(~member)
    scores = folder.task.log_probabilities(logits[outside])
    labels = folder.task.predictions(scores)
    with np.errstate(invalid="ignore"):
        spread = folder.task.spread(scores)
    return {
        "n_members": len(np.unique(folder.columns["patients"][member])),
        "accuracy": float((labels == folder.y[outside]).mean()) if len(outside) else None,
        "collapsed": folder.task.collapsed(labels),
        "scores": spread[:: max(1, len(spread) // MOST_SCORES)],
    }


def _replicas(
    target: dict[str, Any], shadows: Sequence[dict[str, Any]], *, online: bool
) -> list[str]:
    """Reasons why the shadows are no replicas of the target; see `medleak.release.pool.replica_check`."""
    from medleak.release.replicas import replica_check

    sizes = [shadow["n_members"] for shadow in shadows]
    if not online:  # trained on other records: their sizes cannot be compared
        target = target | {"n_members": 0}
        shadows, sizes = [shadow | {"n_members": 0} for shadow in shadows], [0]
    expected = 2 * float(np.mean(sizes))
    return replica_check(target, shadows, n_target=expected, n_pool=expected, p=0.5)
