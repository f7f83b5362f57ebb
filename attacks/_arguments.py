"""Checks of arguments and tasks: lists of errors for `invalid_parameters` and `incompatibilities`."""

from __future__ import annotations

from collections.abc import Iterable

from medleak.api import ProblemSpec, task_of
from medleak.core.suggestions import unknown


def choice(name: str, value: object, choices: Iterable[str]) -> list[str]:
    """An option among `choices`."""
    return [] if value in choices else [unknown(name, value, choices)]


def whole(name: str, value: object, *, least: int = 1) -> list[str]:
    """A whole number from `least` up."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return []
    return [f"{name} {value!r} must be a whole number from {least} up"]


def number(
    name: str, value: object, *, above: float | None = None, most: float | None = None
) -> list[str]:
    """A number above `above`, or from 0 up where that is None, and at most `most`."""
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        right
        and (value >= 0 if above is None else value > above)
        and (most is None or value <= most)
    ):
        return []
    bounds = "from 0 up" if above is None else f"above {above:g}"
    return [f"{name} {value!r} must be a number {bounds}{'' if most is None else f' to {most:g}'}"]


def no_masks(who: str, problem: ProblemSpec) -> list[str]:
    """The reason why `who`, made for classes or labels of whole records, says nothing about masks."""
    if not task_of(problem.task).spatial:
        return []
    return [f"{who} is for labels of whole records; the task is {problem.task}"]


def one_class(who: str, problem: ProblemSpec) -> list[str]:
    """The reason why `who` needs a task with one class for each record, where it is another."""
    if task_of(problem.task).one_class:
        return []
    return [f"{who} needs one class for each record; the task is {problem.task}"]
