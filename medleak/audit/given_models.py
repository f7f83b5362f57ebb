"""An attack on somebody's model in a script: a release, records, and no grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    ConfigError,
    DataError,
    Knowledge,
    NotApplicable,
    Output,
    ProblemSpec,
    Records,
    Release,
    Shadow,
    Task,
    multiclass,
    task_of,
)

GOAL = "membership"


@dataclass(frozen=True)
class _Pool:
    """Shadows as attacks walk them, each under the view that they were granted."""

    shadows: Sequence[Shadow]

    def __len__(self) -> int:
        return len(self.shadows)

    def __iter__(self) -> Iterator[Shadow]:
        return iter(self.shadows)


def attack(
    attack: Attack,
    release: Release,
    x: np.ndarray,
    y: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    auxiliary: tuple[np.ndarray, np.ndarray] | None = None,
    shadows: Sequence[tuple[Any, ...]] = (),
    network: Callable[..., Any] | None = None,
    task: str = multiclass.name,
    seed: int = 0,
) -> Output:
    """Run a membership attack on records ``(x, y)``, of which the truth is not asked for.

    Args:
        attack: of goal "membership", such as ``medleak.attacks.membership.lira.LiRA()``.
        release: what the adversary sees; see `Release.from_torch` and `Release.from_callable`.
        x: images ``(N, C, H, W)``, uint8 or float32 in 0..1, or a table ``(N, F)``.
        y: their labels, ``(N,)`` or as the task has them.
        patients: patient of each record, ``(N,)``; None: each record is a patient.
        auxiliary: ``(x, y)`` of patients who are in no half of the challenge.
        shadows: pairs of a `Release` and which of `x` it was trained on, ``(N,)`` bool; a third array
            says which of `auxiliary` it was trained on (None at all).
        network: `Knowledge.network`, for attacks that rebuild the architecture.
        task: name of the `Task`.
        seed: of the attack's own generator.

    Returns:
        `scores` ``(N,)`` float64, higher for members; seconds and queries.

    Raises:
        NotApplicable: the attack cannot be mounted, with every reason.
        ConfigError: options out of range.
        DataError: arrays that do not fit together.
    """
    known = task_of(task)
    asked = _records(x, y, patients, name="x")
    others = None if auxiliary is None else _records(*auxiliary, None, name="auxiliary")
    access = attack.requires.access
    pool = _Pool(tuple(_shadow(one, len(asked), len(others or ()), access) for one in shadows))
    knowledge = Knowledge(
        _problem(asked, known, patients_known=patients is not None),
        auxiliary=others,
        shadows=pool if len(pool) else None,
        pool="audit" if any(s.member.any() for s in pool) or not len(pool) else "auxiliary",
        rng=np.random.default_rng(seed),
        network=network,
    )
    seen = release.granting(access)
    _refuse(attack, seen, knowledge, len(pool))
    return attack.execute(seen, Challenge(asked, np.full(len(asked), "natural")), knowledge)


def _refuse(attack: Attack, seen: Release, knowledge: Knowledge, n_shadows: int) -> None:
    """Refuse what cannot be mounted, with all reasons at once."""
    requires, name = attack.requires, type(attack).__name__
    if requires.goal != GOAL:
        raise NotApplicable(f"{name} is about {requires.goal}: medleak.attack asks for {GOAL}")
    if faults := attack.invalid_parameters():
        raise ConfigError(f"{name}: {'; '.join(faults)}")
    seen.view(requires.access)
    reasons = attack.incompatibilities(
        knowledge.problem, {"pool": knowledge.pool, "n_shadows": n_shadows}
    )
    if "auxiliary" in requires.knowledge and knowledge.auxiliary is None:
        reasons = [*reasons, f"{name} needs records of others: auxiliary=(x, y)"]
    if reasons:
        raise NotApplicable(*reasons)


def _records(x: Any, y: Any, patients: Any, *, name: str) -> Records:
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim not in (2, 4) or len(x) != len(y) or not len(x):
        raise DataError(
            f"{name}: {x.shape} with labels {y.shape}: (N, C, H, W) or (N, F), and N labels, are needed"
        )
    if y.dtype.kind not in "iub":
        raise DataError(f"{name}: labels are {y.dtype}: whole numbers are needed")
    who = np.arange(len(x)) if patients is None else np.asarray(patients)
    if who.shape != (len(x),):
        raise DataError(f"patients have shape {who.shape}: ({len(x)},) is needed")
    numbers = np.unique(who, return_inverse=True)[1]
    kept = x if x.dtype in (np.uint8, np.float32) else x.astype(np.float32)
    return Records(kept, y.astype(np.int64), numbers)


def _shadow(one: tuple[Any, ...], n: int, n_auxiliary: int, access: str) -> Shadow:
    if len(one) not in (2, 3):
        raise DataError(f"a shadow of {len(one)} parts: (release, member) is needed")
    release, member, *rest = one
    members = _which("a shadow's member", member, n)
    others = rest[0] if rest else np.zeros(n_auxiliary, bool)
    own = _which("a shadow's auxiliary members", others, n_auxiliary)
    return Shadow(members, own, release.granting(access))


def _which(name: str, flags: Any, n: int) -> np.ndarray:
    flags = np.asarray(flags)
    if flags.shape != (n,) or flags.dtype != bool:
        raise DataError(f"{name}: {flags.dtype} {flags.shape}: bool ({n},) is needed")
    return flags


def _problem(asked: Records, task: Task, *, patients_known: bool) -> ProblemSpec:
    """Public facts, as far as the records show them: members are about half."""
    in_shape = asked.x.shape[1:]
    counts = np.unique(asked.patients, return_counts=True)[1]
    # Classes are counted in the labels; of several labels, along their axis.
    candidates = (int(asked.y.max()) + 1, *asked.y.shape[1:2])
    fitting = [n for n in candidates if task.label_shape(n, in_shape) == asked.y.shape[1:]]
    if not fitting or asked.y.min() < 0:
        raise DataError(
            f"labels {asked.y.shape} from {asked.y.min()} do not fit task '{task.name}'"
        )
    return ProblemSpec(
        n_records=len(asked) // 2,
        n_patients=len(counts) // 2,
        max_records=int(counts.max()),
        in_shape=in_shape,
        n_outputs=fitting[0],
        task=task.name,
        unit="patient" if patients_known else "image (patient unknown)",
    )
