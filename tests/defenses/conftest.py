"""What the tests of training defenses share: one thread, noise to memorise, a small network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import ProblemSpec, Records
from medleak.targets.recipes import SGD


@pytest.fixture
def small(one_thread):
    """Images of noise (`records`), a `network`, a `recipe`, and `fit` under a list of defenses."""

    def records(n=60, seed=0, labels=None, patients=None):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
        y = rng.integers(0, 2, n if labels is None else (n, labels))
        return Records(x, y, np.arange(n) if patients is None else patients)

    def network(outputs=2):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64, outputs),
        )  # fmt: skip

    def problem(labels=None, **others):
        task = "multiclass" if labels is None else "multilabel"
        keywords = {"n_records": 60, "n_patients": 60, "max_records": 1} | others
        return ProblemSpec(**keywords, in_shape=(1, 8, 8), n_outputs=labels or 2, task=task)

    def fit(*defenses, labels=None, seed=0, recipe=None, data=None, **keywords):
        public, trainer = problem(labels), recipe or shared.recipe
        for defense in defenses:
            trainer = defense.apply(trainer, problem=public)
        data = records(labels=labels) if data is None else data
        return trainer.fit(network(labels or 2), data, problem=public, seed=seed, **keywords)

    def same(one, other):
        states = one.model.state_dict(), other.model.state_dict()
        assert list(states[0]) == list(states[1])
        return all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))

    shared = SimpleNamespace(
        records=records, network=network, problem=problem, fit=fit, same=same,
        recipe=SGD(epochs=4, batch_size=16, lr=0.05),
    )  # fmt: skip
    return shared
