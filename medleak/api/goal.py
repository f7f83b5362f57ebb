"""Interface of a goal, which plugins may implement: its challenge and truth, its controls and its scoring.

A goal is a folder with a YAML in ``conf/goal/``. The engine asks it for a `Question` about each attacked
run, lets the attack answer, stores the answer, and asks for the `Sample` of each row. Figures, the excess
over the baselines, upper bounds, violations and the worst subgroup are computed by the engine, in the same
way for every goal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from medleak.api.attack import Attack, Output
from medleak.api.component import Component
from medleak.api.guarantee import Guarantee
from medleak.api.knowledge import Knowledge
from medleak.api.release import Release

if TYPE_CHECKING:
    from medleak.api.metric import Estimate, Metric


@dataclass(frozen=True)
class Question:
    """The challenge on one run and its truth; made together, once.

    Attributes:
        challenge: what the attack is given.
        truth: what the answer is scored against; no attack ever sees it.
        baselines: answers made without an attack, name -> array shaped like an answer; they are
            stored with the answer.
        notes: arrays that a gallery needs to show the answer (positions of originals, say).
        facts: the same in plain words and numbers.
    """

    challenge: Any
    truth: Any
    baselines: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Subgroup(NamedTuple):
    """A part of a sample: an answer and its truth, of `n` units; `too_few` says why nothing is measured."""

    answer: Any
    truth: Any
    n: int = 0
    too_few: str = ""


@dataclass(frozen=True)
class Sample:
    """What one row is measured on.

    Attributes:
        records: the kind of record, as printed.
        unit: what one decision is about: "patient", "record", "message" ...
        answer, truth: what each metric reads.
        baselines: name -> an answer without the release, for the excess.
        shown: name -> an answer that is shown with the baselines but is not one of them.
        guarantees: the promises that bound these figures; None: none can, and every bound is vacuous.
        prior: metric -> chance of success without the release, for bounds that depend on it.
        subgroups: "sex=F" -> its part of the sample.
        worst: whether the most exposed subgroup is looked for.
        targets: the parts of the single runs, where several are pooled.
        whole_runs: False where the sample does not hold every patient of its runs.
        more: measures of the goal's own, from its metrics.
        controls: what the row says in addition to the common controls.
        invalid: why the figures mean nothing.
    """

    records: str
    unit: str
    answer: Any
    truth: Any
    baselines: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)
    guarantees: Sequence[Guarantee] | None = None
    prior: Callable[[Metric], float] | None = None
    subgroups: Mapping[str, Subgroup] = field(default_factory=dict)
    worst: bool = False
    targets: Sequence[tuple[Any, Any]] = ()
    whole_runs: bool = True
    more: Callable[[Mapping[str, Metric]], Mapping[str, Estimate]] | None = None
    controls: Mapping[str, Any] = field(default_factory=dict)
    invalid: str = ""


class Answered(NamedTuple):
    """One attacked run: the run with its shadows, what was asked, and what the attack said."""

    shadowed: Any
    question: Question
    output: Output


@dataclass(frozen=True)
class AttackOutputs:
    """What an attack answered in one cell.

    Attributes:
        targets: one for each attacked run.
        guarantees: the promises that bind this adversary.
        controls: name -> output on a run that holds nothing to be found.
    """

    targets: Sequence[Answered]
    guarantees: Sequence[Guarantee] = ()
    controls: Mapping[str, Output] = field(default_factory=dict)


class Example(NamedTuple):
    """A small synthetic setting of a goal, with a planted leak or without any."""

    release: Release
    question: Question
    knowledge: Knowledge


class Outcome(NamedTuple):
    """How well an answer to an example does: `value`, at most 1, what guessing gives, and how far chance may stray."""

    value: float
    chance: float
    slack: float


class Goal(Component):
    """How one goal is pursued and judged. It has no state: one object serves every cell.

    A `case` is the cell as a goal sees it: `experiment` (the patients and their split), `target` (its
    resolved block), `knowledge` (the attack's block, with `options` filled in), `attack`, `pipeline` (the
    defense), `shadowed_targets` (attacked runs), `most_vulnerable_fraction`. `runs` opens stored runs:
    ``runs.release(run)``, ``runs.facts(run)``, ``runs.log(run)``, ``runs.model(run)``.

    Class attributes:
        options: keys of ``attack.knowledge`` that only this goal reads, with their defaults.
        artefacts: kinds of artefact that can be attacked.
        model_free_control: whether members and non-members have the same distribution, so that nothing may tell
            them apart without the release.
        supports_identity_targets: whether the classes may be the patients, all of whom are members.
        example_settings: what `example` finds under "example" in the attack's block: one example for each,
            as attacks may refuse some kinds of record or task.
        report: a `medleak.api.GoalReport`: how tables and pages show its rows; None: generically.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    artefacts: ClassVar[Sequence[str]] = ("classifier",)
    model_free_control: ClassVar[bool] = True
    supports_identity_targets: ClassVar[bool] = False
    example_settings: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    report: ClassVar[Any] = None

    def pool(self, case: Any, pool: str) -> str:
        """The pool that runs of "audit" or "auxiliary" patients are drawn from."""
        return pool

    def reasons(self, case: Any) -> list[str]:
        """Every reason why this goal makes no sense in this cell.

        Raises:
            ConfigError: an option out of its range.
        """
        return []

    def controls(self, case: Any) -> Mapping[str, Any]:
        """Name -> a control run, with its shadows, that contains nothing to find."""
        return {}

    def evaluators(self, case: Any) -> list[Any]:
        """Runs that nobody attacks; their models score the answers."""
        return []

    @abstractmethod
    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        """The challenge on one attacked run, and its truth."""

    @abstractmethod
    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """What each row of the cell is measured on.

        Raises:
            NotApplicable: nothing can be measured.
        """

    @abstractmethod
    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        """A small synthetic setting that suits `attack`, with a planted leak or without any.

        Args:
            knowledge: the attack's block, with the `policy` of its YAML where there is one.
            leak: whether there is something to be found.
            seed: of everything in it.

        Raises:
            NotApplicable: no example suits it, with the reason.
        """

    @abstractmethod
    def outcome(self, question: Question, output: Output) -> Outcome:
        """How well an answer to an example does."""


__all__ = [
    "Answered",
    "AttackOutputs",
    "Example",
    "Goal",
    "Outcome",
    "Question",
    "Sample",
    "Subgroup",
]
