"""What fillings of the train slot share: a recipe of which a few arguments are replaced."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from medleak.api import ConfigError, Defense, GradientRule, ProblemSpec, Trainer, task_of
from medleak.targets._rules import MeanGradient


class RecipeFilling(Defense):
    """Returns the recipe that it received with the arguments in `changes` replaced.

    `needs` names the recipe's arguments that are read or replaced; a trainer without them is refused.
    """

    slot = "train"
    needs: ClassVar[tuple[str, ...]] = ()

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        if missing := [name for name in self.needs if name not in trainer.arguments()]:
            who = type(self).__name__
            return [f"{who} sets a recipe's {missing[0]}: {type(trainer).__name__} has none"]
        return self.objections(problem, trainer)

    def objections(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        """Reasons against, for a trainer that has what is needed."""
        return []

    @abstractmethod
    def changes(self, trainer: Trainer, problem: ProblemSpec) -> Mapping[str, Any]:
        """Arguments of the recipe and their new values."""

    def apply(self, subject: Trainer, *, problem: ProblemSpec) -> Trainer:
        """The recipe as changed.

        Raises:
            ConfigError: any of the faults, refusals, or faults of the recipe as changed.
        """
        refuse(self, self.invalid_parameters())
        refuse(self, self.incompatibilities(problem, subject))
        recipe = changed(subject, **self.changes(subject, problem))
        refuse(self, recipe.invalid_parameters())
        return recipe


class RuleFilling(RecipeFilling):
    """Exchanges the recipe's gradient rule for `rule`.

    A rule that follows something else than the mean loss of a batch `replaces` the one before it,
    and refuses a recipe that has one. The others work inside of it, record by record. One that reads
    labels of whole records has no `masks`.
    """

    needs = ("sampler", "gradient")
    replaces: ClassVar[bool] = False
    masks: ClassVar[bool] = True

    @abstractmethod
    def rule(self, inner: GradientRule) -> GradientRule:
        """The new rule around `inner`, or in its place."""

    def objections(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        who, reasons = type(self).__name__, []
        if not self.masks and task_of(problem.task).spatial:
            reasons.append(f"{who} is for labels of whole records; the task is {problem.task}")
        if not self.replaces or (trainer.sampler is None and trainer.gradient is None):
            return reasons
        return [
            *reasons,
            f"{who} replaces the gradient of the mean loss, and a defense before it "
            "has replaced the recipe's sampler or gradient already: two such rules do not compose",
        ]

    def changes(self, trainer: Trainer, problem: ProblemSpec) -> Mapping[str, Any]:
        return {"gradient": self.rule(trainer.gradient or MeanGradient())}


def changed(component: Any, **changes: Any) -> Any:
    """A copy of a component that stores its arguments, with some of them replaced."""
    import inspect

    names = [n for n in inspect.signature(type(component).__init__).parameters if n != "self"]
    return type(component)(**{name: getattr(component, name) for name in names} | changes)


def refuse(stage: Defense, reasons: list[str]) -> None:
    """Raise `reasons`, if there are any, in the name of `stage`."""
    if reasons:
        raise ConfigError(f"{type(stage).__name__}: {'; '.join(reasons)}")


def number(value: Any) -> bool:
    """Whether `value` is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: Any, least: int) -> bool:
    """Whether `value` is a whole number of at least `least`."""
    return type(value) is int and value >= least
