"""An attack against the synthetic worlds: what `medleak.testing.check_attack` runs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medleak.api import (  # fmt: skip
    Attack,
    Challenge,
    Knowledge,
    ProblemSpec,
    Release,
    Shadow,
    Task,
)
from medleak.goals.membership.membership_world import Pool, membership_world
from medleak.testing.contract import attempt, rebuilt, strings

WORLDS: tuple[tuple[Task, tuple[int, ...]], ...] = (
    ("multiclass", (1, 8, 8)),
    ("multiclass", (12,)),
    ("multilabel", (1, 8, 8)),
)
LEAK = 6.0
FOUND = 0.7
NULL_SIGMAS = 3.29
MOST_SHADOWS = 64


@dataclass(frozen=True)
class AttackCheck:
    """An attack against the synthetic worlds."""

    attack: Attack
    knowledge: Mapping[str, Any]
    seed: int

    def problems(self) -> list[str]:
        found: list[str] = []
        reasons: list[str] = []
        fitting = []
        for task, in_shape in WORLDS:
            problem = self.experiment(0.0, task, in_shape)[3].problem
            refused = strings(
                found, "incompatibilities", lambda s=problem: self.incompatibilities(s)
            )
            reasons += refused
            if not refused:
                fitting.append((task, in_shape))
        if found or not fitting:
            refused = "; ".join(dict.fromkeys(reasons))
            return list(dict.fromkeys(found)) or [f"refuses every world of the check: {refused}"]
        for kind in fitting[1:]:
            self.scores(found, self.experiment(LEAK, *kind))
        return list(dict.fromkeys(found + self.thorough(*fitting[0])))

    def incompatibilities(self, problem: ProblemSpec) -> list[str]:
        return self.attack.incompatibilities(problem, self.knowledge)

    def thorough(self, task: Task, in_shape: tuple[int, ...]) -> list[str]:
        found: list[str] = []
        planted = self.experiment(LEAK, task, in_shape)
        scores = self.scores(found, planted)
        if scores is None:
            return found
        again = self.scores(found, self.experiment(LEAK, task, in_shape))
        if again is not None and not np.array_equal(scores, again):
            found.append("scores differ between two runs under the same Knowledge.rng")
        found += self.order_problems(scores, planted)
        found += _control("positive", scores, planted)
        harmless = self.experiment(0.0, task, in_shape)
        scores = self.scores(found, harmless)
        return found if scores is None else found + _control("null", scores, harmless)

    def experiment(self, leak: float, task: Task, in_shape: tuple[int, ...]) -> tuple:
        n_shadows = min(MOST_SHADOWS, int(self.knowledge.get("n_shadows") or 0))
        release, challenge, secret, knowledge = membership_world(
            leak=leak,
            seed=self.seed,
            n_shadows=n_shadows,
            pool=self.knowledge.get("pool", "audit"),
            task=task,
            in_shape=in_shape,
        )
        knowledge.budget = self.knowledge.get("budget")
        if not self.knowledge.get("reference"):
            knowledge.reference = None
        if "architecture" not in self.attack.requires.knowledge:
            knowledge.network = None
        return release, challenge, secret, knowledge

    def scores(self, found: list[str], experiment: tuple, *, rng: int = 0) -> np.ndarray | None:
        """Scores of a fresh copy of the attack on `experiment`, watched."""
        release, challenge, _, knowledge = experiment
        access, answered = self.attack.requires.access, [0]
        release = _counted(release.granting(access), answered)
        knowledge = replace(knowledge, rng=np.random.default_rng([self.seed, 3, rng]))
        knowledge = _with_shadows(
            knowledge, lambda s: replace(s, release=s.release.granting(access))
        )
        before, state, modules = _inputs(challenge, knowledge), _global_state(), len(sys.modules)
        output = attempt(
            found, "run", lambda: rebuilt(self.attack).execute(release, challenge, knowledge)
        )
        for name, array in _inputs(challenge, knowledge).items():
            if not np.array_equal(array, before[name]):
                found.append(f"it changes its input {name}")
        after = _global_state()
        # A library may draw while it is imported (scikit-learn does), which the next run tells from
        # an attack that draws; and torch may only have been imported by the attack.
        for name in state if len(sys.modules) == modules else ():
            if after[name] != state[name]:
                found.append(f"it changes {name}'s global generator: draw from Knowledge.rng")
        if answered[0] > release.queries:
            found.append("it queries past the counter: call release.scores(x) or release.labels(x)")
        if output is None:
            return None
        return np.asarray(output.scores, dtype=np.float64)

    def order_problems(self, scores: np.ndarray, experiment: tuple) -> list[str]:
        """Where shuffled records change scores by more than another `Knowledge.rng` does."""
        found: list[str] = []
        release, challenge, secret, knowledge = experiment
        order = np.random.default_rng([self.seed, 4]).permutation(len(challenge))
        shuffled = Challenge(challenge.records.take(order), challenge.kind[order])
        moved = _with_shadows(knowledge, lambda s: replace(s, member=s.member[order]))
        again = self.scores(found, (release, shuffled, secret, moved))
        if again is None or np.allclose(again, scores[order], rtol=1e-6, atol=1e-9):
            return found
        other = self.scores(found, experiment, rng=1)
        if other is None or _agreement(again, scores[order]) < _agreement(other, scores) - 0.1:
            found.append("scores depend on the order of the records")
        return found


def _counted(release: Release, answered: list[int]) -> Release:
    """`release`, adding the number of records really answered to `answered`."""

    def counting(view: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def ask(x: np.ndarray) -> np.ndarray:
            answered[0] += len(x)
            return view(x)

        return ask

    return release.replaced(**{n: counting(v) for n, v in release.views.items() if callable(v)})


def _with_shadows(knowledge: Knowledge, change: Callable[[Shadow], Shadow]) -> Knowledge:
    """`knowledge` with every shadow, and the reference, changed."""
    pool, reference = knowledge.shadows, knowledge.reference
    if pool is not None:
        pool = Pool(lambda k, make=pool.make: change(make(k)), len(pool))
    return replace(knowledge, shadows=pool, reference=reference and change(reference))


def _inputs(challenge: Challenge, knowledge: Knowledge) -> dict[str, np.ndarray]:
    """Copies of all arrays that the attack is handed."""
    arrays = {f"challenge.{n}": getattr(challenge, n) for n in ("x", "y", "patients", "kind")}
    if knowledge.auxiliary is not None:
        arrays |= {
            f"auxiliary.{n}": getattr(knowledge.auxiliary, n) for n in ("x", "y", "patients")
        }
    return {name: array.copy() for name, array in arrays.items()}


def _global_state() -> dict[str, str]:
    state = np.random.get_state()
    found = {"Python": repr(random.getstate()), "NumPy": repr((state[1].tobytes(), *state[2:]))}
    if "torch" in sys.modules:
        found["torch"] = repr(sys.modules["torch"].get_rng_state().numpy().tobytes())
    return found


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 1 where both are constant."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    if any(np.ptp(r) == 0 for r in ranks):
        return float(all(np.ptp(r) == 0 for r in ranks))
    return float(np.corrcoef(*ranks)[0, 1])


def _control(kind: str, scores: np.ndarray, experiment: tuple) -> list[str]:
    from medleak.metrics.statistics.roc import auc

    member = experiment[2].member
    value, n, m = auc(scores, member), int(member.sum()), int((~member).sum())
    slack = NULL_SIGMAS * np.sqrt((n + m + 1) / (12 * n * m))
    if kind == "positive" and value <= FOUND:
        return [f"positive control: AUC {value:.3f} on a planted leak, above {FOUND} is needed"]
    if kind == "null" and abs(value - 0.5) > slack:
        return [f"null control: AUC {value:.3f} where nothing leaks, .5 +- {slack:.3f} is allowed"]
    return []
