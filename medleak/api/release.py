"""What the adversary may observe."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import wrapped
from medleak.api.data import Records
from medleak.api.errors import Hidden
from medleak.api.networks import BATCH
from medleak.api.tasks import multiclass
from medleak.api.types import View
from medleak.api.views import VIEWS


class Deferred:
    """A view that is computed when it is first looked at: `make` reads it from the store."""

    def __init__(self, make: Callable[[], Any]):
        self._make = make

    @functools.cached_property
    def value(self) -> Any:
        """The view itself."""
        return self._make()


@dataclass(frozen=True)
class Generator:
    """A released generator of records.

    Attributes:
        parameters: name -> array.
        draw: ``draw(n, seed)`` gives `n` records; their patients are -1.
    """

    parameters: Mapping[str, np.ndarray]
    draw: Callable[[int, int], Records]


class Release:
    """Exactly what the adversary may observe.

    A view that the defense hides does not exist here: touching it raises `Hidden` with the reason.
    Views of a served or published classifier:

    - ``scores(x)``: natural-log probabilities, float64, ``(N, C)``; ``(N, L, 2)`` for multi-label
      tasks (log-probability of absent, present). May hold ``-inf`` where a defense rounds to zero.
    - ``labels(x)``: predicted classes ``(N,)``, or 0/1 ``(N, L)``.
    - ``weights``: name -> array of the released model.

    Views of a released set of records, and of a generator:

    - ``records``: a `Records`.
    - ``generator``: a `Generator`, which has parameters and can be drawn from.

    `queries` counts the records sent through any callable view.
    """

    def __init__(
        self,
        views: Mapping[str, Any],
        *,
        hidden: Mapping[str, str] | None = None,
        plaintext_surrogate: bool = False,
    ):
        self.views = dict(views)
        self.hidden = dict(hidden or {})
        self.plaintext_surrogate = plaintext_surrogate
        self.queries = 0

    @classmethod
    def from_torch(
        cls,
        model: Any,
        *,
        n_outputs: int | None = None,
        task: str = multiclass.name,
        returns: wrapped.Returns = "logits",
        device: str | None = None,
        batch_size: int = BATCH,
    ) -> Release:
        """A network that is published: scores, labels and weights.

        It is asked in evaluation mode without gradients. Its modes and torch's generators are afterwards
        as before.

        Args:
            model: an ``nn.Module`` that takes float32 records, images in 0..1.
            n_outputs: classes or labels, to be checked; None takes what it answers.
            task: name of its `Task`.
            returns: what it answers: "logits", or as in `from_callable`.
            device: where it is moved to; None leaves it where it is.
            batch_size: records a forward pass.

        Raises:
            ConfigError: an unknown task or `returns`; on a query, a network that is said to answer
                logits and answers probabilities.
            DataError: on a query, answers of another shape, or NaN.
        """
        views, hidden = wrapped.of_torch(
            model,
            n_outputs=n_outputs,
            task=task,
            returns=returns,
            device=device,
            batch_size=batch_size,
        )
        views["weights"] = Deferred(lambda: wrapped.parameters(model))
        return cls(views, hidden=hidden)

    @classmethod
    def from_callable(
        cls,
        function: Callable[[np.ndarray], Any],
        *,
        returns: wrapped.Returns = "probabilities",
        task: str = multiclass.name,
    ) -> Release:
        """A model behind a function: scikit-learn's ``predict_proba``, a service that is asked over HTTP.

        Args:
            function: records ``(N, ...)`` to what `returns` says of each: "probabilities" ``(N, C)``
                that sum to one (of several labels ``(N, L)``, each its own; of masks ``(N, K, H, W)``),
                "log_probabilities" (shaped as `scores`), "logits" (shaped as probabilities), or
                "labels".
            task: name of its `Task`.

        Raises:
            ConfigError: an unknown task or `returns`.
            DataError: on a query, another number of answers, NaN, or numbers that are not what
                `returns` says.
        """
        views, hidden = wrapped.of_function(function, returns=returns, task=task)
        return cls(views, hidden=hidden)

    def view(self, name: str) -> Any:
        """The view `name`; raises `Hidden` with the reason where there is none."""
        if name not in self.views:
            reason = self.hidden.get(name, "the release does not have it")
            raise Hidden(f"view '{name}': {reason}")
        view = self.views[name]
        return view.value if isinstance(view, Deferred) else view

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities of `x`; see the class."""
        return self._query("scores", x)

    def labels(self, x: np.ndarray) -> np.ndarray:
        """Predicted labels of `x`; see the class."""
        return self._query("labels", x)

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The released parameters."""
        return self.view("weights")

    @property
    def records(self) -> Records:
        """The released set."""
        return self.view("records")

    @property
    def generator(self) -> Generator:
        """The released generator."""
        return self.view("generator")

    def _query(self, name: str, x: np.ndarray) -> np.ndarray:
        view = self.view(name)
        self.queries += len(x)
        return view(x)

    def replaced(self, **views: Any) -> Release:
        """The same release with some views swapped for others.

        Labels follow `scores` unless they are replaced too: they are then the largest, the first of
        several. A defense whose scores may tie gives its labels itself.
        """
        if "scores" in views and "labels" in self.views and "labels" not in views:
            scores = views["scores"]
            views["labels"] = lambda x: scores(x).argmax(-1)
        return Release(
            {**self.views, **views},
            hidden=self.hidden,
            plaintext_surrogate=self.plaintext_surrogate,
        )

    def granting(self, access: View) -> Release:
        """What an attack that declared `access` is given: that view and those it contains."""
        given = VIEWS.granted(access)
        reason = f"the attack declared access to '{access}' only"
        known = dict.fromkeys((*VIEWS, *self.views))  # a view that nobody registered is a view, too
        return self.without({v: self.hidden.get(v, reason) for v in known if v not in given})

    def without(self, hidden: Mapping[str, str]) -> Release:
        """The same release less the views in `hidden` (name -> reason)."""
        views = {name: view for name, view in self.views.items() if name not in hidden}
        return Release(
            views, hidden={**self.hidden, **hidden}, plaintext_surrogate=self.plaintext_surrogate
        )
