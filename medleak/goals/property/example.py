"""Models that are surer of patients with a value where more of them were trained on; without a leak, by a coin.

Each model is a small network written by hand, with noise on all its weights. Patients are rows of signs: the
first column is the value, the second the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Knowledge,
    NotApplicable,
    Output,
    ProblemSpec,
    PropertyChallenge,
    PropertyTruth,
    Records,
    Release,
    Shadow,
)
from medleak.api.goal import Example, Outcome, Question
from medleak.goals import synthetic

VIEWS = ("labels", "scores", "weights")
N, FEATURES, SHADOWS = 120, 6, 32
SURER, NOISE = 1.5, 0.1
COLUMN, VALUE, SHARES = "sex", "F", (0.3, 0.7)


def example(attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0) -> Example:
    """One model, and shadows of either share; `knowledge` may name the column, the value and the shares.

    Raises:
        NotApplicable: the attack needs another view than those of a classifier.
    """
    if attack.requires.access not in VIEWS:
        raise NotApplicable(f"the example of property has no view '{attack.requires.access}'")
    rng = np.random.default_rng([seed, 0])
    column, value = knowledge.get("attribute") or COLUMN, knowledge.get("value") or VALUE
    x = np.sign(rng.normal(size=(N, FEATURES))).astype(np.float32)
    groups = {column: np.where(x[:, 0] > 0, value, f"not {value}")}
    auxiliary = Records(x, (x[:, 1] > 0).astype(np.int64), np.arange(N), groups)
    high = rng.permutation(np.arange(int(knowledge.get("n_shadows") or SHADOWS)) % 2 == 0)
    truth = rng.random() < 0.5
    models = [_model(rng, share if leak else rng.random() < 0.5) for share in [*high, truth]]
    nobody = np.zeros(0, dtype=bool)
    shadows = [Shadow(nobody, rng.random(N) < 0.5, model) for model in models[:-1]]
    known = Knowledge(
        ProblemSpec(N // 2, N // 2, 1, (FEATURES,), 2),
        auxiliary=auxiliary,
        shadows=shadows,
        pool="auxiliary",
        rng=np.random.default_rng([seed, 1]),
        budget=knowledge.get("budget"),
    )
    if "architecture" in attack.requires.knowledge:
        network = synthetic.dense(FEATURES, 2, hidden=4, activation="ReLU")
        known.network = synthetic.with_weights(network)
    low, top = knowledge.get("shares") or SHARES
    challenge = PropertyChallenge(column, value, (low, top), high)
    return Example(models[-1], Question(challenge, PropertyTruth(np.array([truth]))), known)


def outcome(question: Question, output: Output) -> Outcome:
    """Whether the one guess names the right share: 1 or 0."""
    right = (output.scores[0] > 0) == question.truth.high[0]
    return Outcome(float(right), 0.5, synthetic.NULL_SIGMAS * 0.5)


def _model(rng: np.random.Generator, higher: bool) -> Release:
    first, last = np.zeros((4, FEATURES)), np.zeros((2, 4))
    first[:, :2] = [[1, 1], [1, -1], [0, 1], [0, -1]]  # with the value and either label; each label
    sure = 1.0 + SURER * higher
    last[1] = [sure, -sure, 1.0, -1.0]
    weights = {"1.weight": first, "1.bias": np.array([-1.0, -1.0, 0, 0]), "3.weight": last}
    weights["3.bias"] = np.zeros(2)
    weights = {
        name: (array + NOISE * rng.standard_normal(array.shape)).astype(np.float32)
        for name, array in weights.items()
    }

    def scores(x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x @ weights["1.weight"].T + weights["1.bias"], 0)
        z = (hidden @ weights["3.weight"].T + weights["3.bias"]).astype(np.float64)
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    views = {"weights": weights, "scores": scores, "labels": lambda x: scores(x).argmax(1)}
    return Release(views)
