"""What the adversary may observe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api.errors import Hidden
from medleak.api.types import IMPLIED_VIEWS, VIEWS, View


class Release:
    """Exactly what the adversary may observe.

    A view that the defense hides does not exist here: touching it raises `Hidden` with the reason.
    Views of a served or published classifier:

    - ``scores(x)``: natural-log probabilities, float64, ``(N, C)``; ``(N, L, 2)`` for multi-label
      tasks (log-probability of absent, present). May hold ``-inf`` where a defense rounds to zero.
    - ``labels(x)``: predicted classes ``(N,)``, or 0/1 ``(N, L)``.
    - ``weights``: name -> array of the released model.

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

    def view(self, name: str) -> Any:
        """The view `name`; raises `Hidden` with the reason where there is none."""
        if name not in self.views:
            reason = self.hidden.get(name, "the release does not have it")
            raise Hidden(f"view '{name}': {reason}")
        return self.views[name]

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
        given = (*IMPLIED_VIEWS.get(access, ()), access)
        reason = f"the attack declared access to '{access}' only"
        return self.without({v: self.hidden.get(v, reason) for v in VIEWS if v not in given})

    def without(self, hidden: Mapping[str, str]) -> Release:
        """The same release less the views in `hidden` (name -> reason)."""
        views = {name: view for name, view in self.views.items() if name not in hidden}
        return Release(
            views, hidden={**self.hidden, **hidden}, plaintext_surrogate=self.plaintext_surrogate
        )
