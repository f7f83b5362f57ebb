"""Toy attacks of model inversion."""

import numpy as np

from medleak.api import Attack, ThreatModel


class Painter(Attack):
    """Shows the weights of a linear model as images."""

    requires = ThreatModel(goal="inversion", access="weights", knowledge=("auxiliary",))

    def fit(self, release, knowledge):
        self._weights = release.weights["layers.2.weight"]
        self._rng = knowledge.rng
        kept = knowledge.keep(["toy prior", 3], lambda rng: {"draws": rng.random(3)})
        self._prior = kept["draws"]

    def run(self, release, sittings):
        rows = self._weights[sittings.classes]
        rows = 0.5 + rows / (4 * rows.std(axis=1, keepdims=True))
        images = np.clip(rows, 0, 1).reshape(len(rows), 1, *sittings.in_shape)
        return np.repeat(images, sittings.n_images, axis=1)

    def prior_samples(self, sittings):
        return np.full(sittings.shape, self._prior.mean())


class Blank(Attack):
    """Shows nothing."""

    requires = ThreatModel(goal="inversion", access="labels", knowledge=("auxiliary",))

    def run(self, release, sittings):
        return np.full(sittings.shape, 0.5)
