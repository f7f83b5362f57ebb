"""An attack against the examples of its goal: what `medleak.testing.check_attack` runs."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, NotApplicable, Output, Release, Shadow
from medleak.api.goal import Example, Goal, Outcome
from medleak.testing.contract import attempt, rebuilt, strings

FOUND = 0.4
"""How far above chance, as a share of what is possible, the answer to a planted leak has to be."""
TELLING = 0.85
"""Where chance and its slack may end, so that a planted leak can be told: else more examples are taken."""
ROUNDING = 1e-9


class Answer(NamedTuple):
    """What an attack said of an example."""

    example: Example
    output: Output


@dataclass(frozen=True)
class AttackCheck:
    """An attack against the examples of its goal.

    Attributes:
        knowledge: the attack's block, with the `policy` of its YAML.
        seed: of the examples.
    """

    attack: Attack
    goal: Goal
    knowledge: Mapping[str, Any]
    seed: int

    def problems(self) -> list[str]:
        """What keeps the attack from being one of its goal.

        Raises:
            NotApplicable: no example suits it.
        """
        found: list[str] = []
        reasons: list[str] = []
        fitting = []
        for setting in self.goal.example_settings:
            problem = self.example(False, setting).knowledge.problem
            refused = strings(
                found,
                "incompatibilities",
                lambda p=problem: self.attack.incompatibilities(p, self.knowledge),
            )
            reasons += refused
            if not refused:
                fitting.append(setting)
        if found or not fitting:
            refused = "; ".join(dict.fromkeys(reasons))
            return list(dict.fromkeys(found)) or [f"refuses every example of its goal: {refused}"]
        for setting in fitting[1:]:
            self.answer(found, self.example(True, setting))
        return list(dict.fromkeys(found + self.thorough(fitting[0])))

    def example(self, leak: bool, setting: Mapping[str, Any], *, trial: int = 0) -> Example:
        known = {**self.knowledge, **({"example": setting} if setting else {})}
        seed = self.seed + 1000 * trial
        return self.goal.example(self.attack, known, leak=leak, seed=seed)

    def thorough(self, setting: Mapping[str, Any]) -> list[str]:
        found: list[str] = []
        planted = self.answer(found, self.example(True, setting))
        if planted is None:
            return found
        again = self.answer(found, self.example(True, setting))
        if again is not None and not _same(planted.output, again.output):
            found.append("answers differ between two runs under the same Knowledge.rng")
        if isinstance(planted.example.question.challenge, Challenge):
            found += self.order_problems(planted)
        found += self.control(True, planted, setting)
        harmless = self.answer(found, self.example(False, setting))
        return found if harmless is None else found + self.control(False, harmless, setting)

    def answer(self, found: list[str], example: Example, *, rng: int = 0) -> Answer | None:
        """What a fresh copy of the attack says of `example`, watched."""
        access, answered = self.attack.requires.access, [0]
        challenge = example.question.challenge
        release = _counted(example.release.granting(access), answered)
        knowledge = replace(example.knowledge, rng=np.random.default_rng([self.seed, 3, rng]))
        knowledge = _with_shadows(
            knowledge, lambda s: replace(s, release=s.release.granting(access))
        )
        given = {"challenge": challenge, "auxiliary": knowledge.auxiliary, "release": release}
        before, state, modules = _inputs(given), _global_state(), len(sys.modules)
        output = attempt(
            found, "run", lambda: rebuilt(self.attack).execute(release, challenge, knowledge)
        )
        after = _inputs(given)
        found += [f"it changes its input {name}" for name in before if before[name] != after[name]]
        drawn = _global_state()
        # A library may draw while it is imported (scikit-learn does), which the next run tells from
        # an attack that draws; and torch may only have been imported by the attack.
        for name in state if len(sys.modules) == modules else ():
            if drawn[name] != state[name]:
                found.append(f"it changes {name}'s global generator: draw from Knowledge.rng")
        if answered[0] > release.queries:
            found.append("it queries past the counter: call release.scores(x) or release.labels(x)")
        return None if output is None else Answer(example, output)

    def order_problems(self, first: Answer) -> list[str]:
        """Where shuffled records change scores by more than another `Knowledge.rng` does."""
        found: list[str] = []
        example, scores = first.example, _scores(first.output)
        challenge = example.question.challenge
        order = np.random.default_rng([self.seed, 4]).permutation(len(challenge))
        shuffled = replace(
            example.question,
            challenge=Challenge(challenge.records.take(order), challenge.kind[order]),
        )
        moved = _with_shadows(example.knowledge, lambda s: replace(s, member=s.member[order]))
        again = self.answer(found, Example(example.release, shuffled, moved))
        if again is None or np.allclose(_scores(again.output), scores[order], rtol=1e-6, atol=1e-9):
            return found
        other = self.answer(found, example, rng=1)
        by_order = _agreement(_scores(again.output), scores[order])
        if other is None or by_order < _agreement(_scores(other.output), scores) - 0.1:
            found.append("scores depend on the order of the records")
        return found

    def control(self, leak: bool, first: Answer, setting: Mapping[str, Any]) -> list[str]:
        """Where a planted leak is not found, or one is found where there is none."""
        found: list[str] = []
        outcomes = list(self.outcomes(found, leak, first, setting))
        if found:
            return found
        value, chance = (
            float(np.mean([getattr(o, n) for o in outcomes])) for n in ("value", "chance")
        )
        slack = float(np.mean([o.slack for o in outcomes])) / np.sqrt(len(outcomes))
        least = max(chance + slack, chance + FOUND * (1 - chance))
        if leak and not value > least:
            return [f"positive control: {value:.3f} on a planted leak, above {least:.3f} is needed"]
        if not leak and not abs(value - chance) <= slack + ROUNDING:
            return [
                f"null control: {value:.3f} where nothing leaks, {chance:.3f} +- {slack:.3f} is allowed"
            ]
        return []

    def outcomes(
        self, found: list[str], leak: bool, first: Answer, setting: Mapping[str, Any]
    ) -> Iterator[Outcome]:
        """Of as many examples as it takes for chance to stay below what a planted leak gives."""
        one = self.goal.outcome(first.example.question, first.output)
        yield one
        room = max(TELLING - one.chance, 0.1)
        for trial in range(1, int(np.ceil((one.slack / room) ** 2))):
            answer = self.answer(found, self.example(leak, setting, trial=trial))
            if answer is None:
                return
            yield self.goal.outcome(answer.example.question, answer.output)


def unexercised(attack: Attack, goal: Goal, knowledge: Mapping[str, Any]) -> str:
    """Why no example of the goal suits the attack; "" where one does."""
    try:
        goal.example(attack, knowledge, leak=True)
    except NotApplicable as error:
        return str(error)
    return ""


def _counted(release: Release, answered: list[int]) -> Release:
    """`release`, adding the number of records really answered to `answered`."""

    def counting(view: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        def ask(x: np.ndarray) -> np.ndarray:
            answered[0] += len(x)
            return view(x)

        return ask

    return release.replaced(**{n: counting(v) for n, v in release.views.items() if callable(v)})


@dataclass(frozen=True)
class _Changed:
    """Shadows of a pool, each changed as it is made."""

    shadows: Any
    change: Callable[[Shadow], Shadow]

    def __len__(self) -> int:
        return len(self.shadows)

    def __iter__(self) -> Iterator[Shadow]:
        return map(self.change, self.shadows)


def _with_shadows(knowledge: Knowledge, change: Callable[[Shadow], Shadow]) -> Knowledge:
    """`knowledge` with every shadow, and the reference, changed."""
    pool, reference = knowledge.shadows, knowledge.reference
    changed = None if pool is None else _Changed(pool, change)
    return replace(knowledge, shadows=changed, reference=reference and change(reference))


def _inputs(given: Mapping[str, Any]) -> dict[str, bytes]:
    """What the attack is handed, part by part, as bytes; views that answer questions are left out."""
    found: dict[str, bytes] = {}
    for name, value in given.items():
        if isinstance(value, Release):
            held = {n: v for n, v in value.views.items() if not callable(v)}
            found |= _inputs({f"{name}.{n}": v for n, v in held.items()})
        elif is_dataclass(value):
            found |= _inputs({f"{name}.{f.name}": getattr(value, f.name) for f in fields(value)})
        else:
            found[name] = pickle.dumps(value)
    return found


def _global_state() -> dict[str, str]:
    state = np.random.get_state()
    found = {"Python": repr(random.getstate()), "NumPy": repr((state[1].tobytes(), *state[2:]))}
    if "torch" in sys.modules:
        found["torch"] = repr(sys.modules["torch"].get_rng_state().numpy().tobytes())
    return found


def _scores(output: Output) -> np.ndarray:
    return np.asarray(output.scores, dtype=np.float64)


def _same(one: Output, other: Output) -> bool:
    pairs = [(getattr(one, n), getattr(other, n)) for n in ("scores", "reconstructions")]
    return all(a is b or np.array_equal(a, b) for a, b in pairs)


def _agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 1 where both are constant."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    if any(np.ptp(r) == 0 for r in ranks):
        return float(all(np.ptp(r) == 0 for r in ranks))
    return float(np.corrcoef(*ranks)[0, 1])
