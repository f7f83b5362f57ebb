"""What a model is asked for (a class, several labels, a mask), and all that depends on it.

Configurations, keys and stored data hold a task's name; `task_of` gives the object. Nothing else asks
which task it is: a new one is a subclass of `Task` and a call of `register_task`.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medleak.api import scores
from medleak.api.answers import Answered
from medleak.api.errors import ConfigError, DataError

FLOOR = scores.FLOOR
SUM_SLACK = 0.01
"""How far the probabilities of a record may miss a sum of one: services round them."""


@dataclass(unsafe_hash=True)  # by class: there is nothing else in it
class Task(ABC):
    """Base of every task: frozen, without state, free of torch until a loss is computed.

    A record answers ``L`` questions with ``C`` outcomes each: one class is one question, ``L`` labels
    are as many, a mask is a question a pixel. Scores are log-probabilities ``(N, ..., C)``, float64,
    and true labels have their shape without the last axis: ``y[i]`` is the outcome of ``scores[i]``.
    A new task says what is abstract here; the rest follows from it.

    Class attributes:
        name: as configurations, keys and stored data hold it.
        criterion: name of the loss, a fact of each run that its shadows have to share.
        one_class: whether a record has one class of several, which attacks that rebuild or picture a
            class need.
        spatial: whether labels lie on the pixels, so that what moves an image moves its label.
        utility: statistics of `medleak.metrics.utility`, the one that tables show first.
    """

    name: ClassVar[str]
    criterion: ClassVar[str]
    one_class: ClassVar[bool] = False
    spatial: ClassVar[bool] = False
    utility: ClassVar[tuple[str, ...]]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refused, in subclasses too: one object serves every run."""
        raise AttributeError(f"a task has no state: '{name}' cannot be set")

    # ------------------------------------------------------------------ labels

    @abstractmethod
    def label_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one record's label."""

    @abstractmethod
    def n_values(self, n_outputs: int) -> int:
        """Values that each entry of a label may take, from 0."""

    @abstractmethod
    def one_hot(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        """Labels as few numbers, for regressions on them: float64 ``(N, n_outputs)``."""

    @abstractmethod
    def classes(self, y: np.ndarray) -> np.ndarray:
        """Class of each scored question, ``(N, L)`` int: what is compared within classes."""

    def label_faults(self, y: np.ndarray, n_outputs: int, in_shape: tuple[int, ...]) -> list[str]:
        """Where labels do not have the shape, type or range of this task."""
        wanted = (len(y), *self.label_shape(n_outputs, in_shape))
        top = self.n_values(n_outputs)
        if y.shape != wanted or y.dtype != np.int64:
            return [f"y is {y.dtype} {y.shape}: int64 {wanted} is needed"]
        if y.size and not 0 <= y.min() <= y.max() < top:
            return [f"y lies in {y.min()}..{y.max()}: 0..{top - 1} is needed"]
        return []

    def relabelled(self, y: np.ndarray, n_outputs: int, draws: np.ndarray) -> np.ndarray:
        """Labels of which no entry stays what it was; `draws` ``(N,)`` in 0..1 choose among the others."""
        n = self.n_values(n_outputs)
        shift = 1 + (draws * (n - 1)).astype(np.int64)
        return (y + shift.reshape(-1, *[1] * (y.ndim - 1))) % n

    def random_label(
        self, n_outputs: int, in_shape: tuple[int, ...], rng: np.random.Generator
    ) -> np.ndarray | int:
        """One record's label, drawn uniformly."""
        shape = self.label_shape(n_outputs, in_shape)
        return rng.integers(self.n_values(n_outputs), size=shape or None)

    def in_order(self, y: np.ndarray) -> np.ndarray:
        """The labels of a batch sorted, so that their order tells nothing; each record's stay together."""
        flat = y.reshape(len(y), math.prod(y.shape[1:]))
        return y[np.lexsort(flat.T[::-1])]

    # ------------------------------------------------------------------ a model's outputs

    @abstractmethod
    def output_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a network's answer to one record: logits."""

    @abstractmethod
    def losses(self, z: Any, y: Any) -> Any:
        """Training loss of each record, a tensor ``(N,)``, from logits and labels (tensors)."""

    @abstractmethod
    def soft_losses(self, z: Any, p: Any) -> Any:
        """Cross-entropy to probabilities `p`, shaped as scores; tensors, ``(N,)``."""

    @abstractmethod
    def log_probabilities(self, z: np.ndarray) -> np.ndarray:
        """Scores of logits: float64 log-probabilities, outcomes along the last axis."""

    def logits_of(self, p: np.ndarray) -> np.ndarray:
        """Logits that stand for probabilities `p` of the classes along axis 1, float64.

        Raises:
            DataError: they are no probabilities.
        """
        p = unit_interval(p)
        worst = np.abs(p.sum(axis=1) - 1).max(initial=0.0)
        if worst > SUM_SLACK:
            raise DataError(f"the probabilities of a record miss a sum of 1 by {worst:.3g}")
        with np.errstate(divide="ignore"):
            return np.log(p)

    @abstractmethod
    def decided(self, z: Any) -> Any:
        """Labels that logits stand for; arrays or tensors alike."""

    @abstractmethod
    def drawn(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Labels drawn with the probabilities of logits."""

    @abstractmethod
    def towards(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        """Direction in logits in which the true label grows more probable; shape of the logits."""

    def total_loss(self, z: Any, y: Any) -> Any:
        """Loss of each record, summed over its labels, summed over records: a scalar tensor."""
        return self.losses(z, y).sum()

    def hits(self, z: Any, y: Any) -> Any:
        """Share of each record's label that is right, a tensor ``(N,)``."""
        return (self.decided(z) == y).float().flatten(1).mean(1)

    def predictions(self, log_p: np.ndarray) -> np.ndarray:
        """The most probable labels, of the shape of y."""
        return log_p.argmax(-1)

    # ------------------------------------------------------------------ a record's scores

    def questions(self, log_p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores as ``(N, L, C)`` and labels as ``(N, L)``."""
        log_p = np.asarray(log_p, dtype=np.float64)
        shape = (len(y), math.prod(y.shape[1:]))  # not -1: there may be no record
        return log_p.reshape(*shape, log_p.shape[-1]), y.reshape(shape)

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """Values of each question ``(N, L)`` as those that are scored apart."""
        return values

    def true_log_probability(
        self, log_p: np.ndarray, y: np.ndarray, *, floor: float = FLOOR
    ) -> np.ndarray:
        """Log-probability of the true outcome, float64 ``(N, L)``, at least `floor`: minus the loss."""
        log_p, y = self.questions(log_p, y)
        return self.pooled(np.maximum(scores.of_outcome(log_p, y), floor))

    def logit_score(self, log_p: np.ndarray, y: np.ndarray, *, floor: float = FLOOR) -> np.ndarray:
        r"""Logit of the true outcome against all others, float64 ``(N, L)``, always finite.

        .. math:: \phi(x, y) = \log p_y - \log \sum_{j \ne y} p_j

        with each :math:`\log p_j` no smaller than `floor` (Carlini et al. 2022).
        """
        return scores.blockwise(self._logit_score, log_p, y, floor)

    def tempered_log_probability(
        self, log_p: np.ndarray, y: np.ndarray, *, temperature: float
    ) -> np.ndarray:
        r"""Log-probability of the true outcome at `temperature`, ``(N,)``; several labels: the sum.

        .. math:: \log p_T(y | x) = \tfrac1T \log p_y - \log \sum_j p_j^{1/T}
        """
        return scores.blockwise(self._tempered, log_p, y, temperature)

    def tempered_probability(
        self, log_p: np.ndarray, y: np.ndarray, *, temperature: float
    ) -> np.ndarray:
        r"""Probability of the true outcome at `temperature`, ``(N,)``; several labels: the product.

        .. math:: p_T(y | x) = \frac{p_y^{1/T}}{\sum_j p_j^{1/T}}
        """
        return np.exp(self.tempered_log_probability(log_p, y, temperature=temperature))

    def modified_entropy(self, log_p: np.ndarray, y: np.ndarray) -> np.ndarray:
        r"""Modified prediction entropy of Song & Mittal (2021), ``(N, L)``; low for members.

        .. math:: -(1 - p_y) \log p_y - \sum_{j \ne y} p_j \log(1 - p_j)
        """
        return self.pooled(scores.entropies(*self.questions(log_p, y)))

    def _logit_score(self, log_p: np.ndarray, y: np.ndarray, floor: float) -> np.ndarray:
        return scores.logits(*self.questions(log_p, y), floor)

    def _tempered(self, log_p: np.ndarray, y: np.ndarray, temperature: float) -> np.ndarray:
        found = scores.tempered(*self.questions(np.maximum(log_p, FLOOR), y), temperature)
        return self.pooled(found).sum(axis=1)

    # ------------------------------------------------------------------ a model's use

    @abstractmethod
    def answered(self, y: np.ndarray, labels: np.ndarray, log_p: np.ndarray | None) -> Answered:
        """Truth and answers as the statistics in `utility` read them; `log_p` None: labels only."""

    def collapsed(self, labels: np.ndarray) -> bool:
        """Whether a model gives every record the same answer."""
        return len(np.unique(labels, axis=0)) == 1

    def spread(self, log_p: np.ndarray) -> np.ndarray:
        """Log-odds of the surest against the least sure outcome, one dimension: how sure a model is."""
        return np.ptp(log_p, axis=-1).ravel()


def unit_interval(p: np.ndarray) -> np.ndarray:
    """`p` as float64, all of it in 0..1.

    Raises:
        DataError: some of it is not.
    """
    p = np.asarray(p, dtype=np.float64)
    outside = ~((p >= -SUM_SLACK) & (p <= 1 + SUM_SLACK))
    if outside.any():
        raise DataError(f"{p[outside][0]:.4g} is no probability: 0 to 1 is needed")
    return p.clip(0, 1)


_TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Make a task known by its name; return it.

    Raises:
        ConfigError: another task has that name.
    """
    known = _TASKS.get(task.name)
    if known is not None and type(known).__qualname__ != type(task).__qualname__:
        raise ConfigError(f"task '{task.name}' is {type(known).__qualname__} already")
    _TASKS[task.name] = task
    return task


def task_of(name: str) -> Task:
    """The task of that name, as `Dataset.task` and `ProblemSpec.task` hold it.

    Raises:
        ConfigError: there is none.
    """
    if name in _TASKS:
        return _TASKS[name]
    near = difflib.get_close_matches(str(name), _TASKS, n=1)
    hint = f": did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"unknown task '{name}'{hint} (choices: {', '.join(sorted(_TASKS))})")
