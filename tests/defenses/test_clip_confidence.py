"""Capped confidences: what is above the cap comes down to it, and nothing else moves."""

import numpy as np
import pytest

from medleak.api import ConfigError, Hidden, ProblemSpec, Release
from medleak.defenses.serve.clip_confidence import ClipConfidence, clipped
from medleak.testing import check_defense

PROBLEM = ProblemSpec(10, 10, 1, (3,), 3)
X = np.zeros((400, 3), dtype=np.float32)


def release(shape=(400, 3), spread=4.0):
    z = np.random.default_rng(0).normal(size=shape) * spread
    scores = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    return Release(
        {"scores": lambda x: scores, "labels": lambda x: scores.argmax(-1), "weights": {}}
    )


@pytest.mark.parametrize("shape", [(400, 2), (400, 5), (400, 4, 2)])
@pytest.mark.parametrize("most", [0.51, 0.9, 0.999])
def test_labels_stay_and_probabilities_are_capped_as_stated(shape, most):
    plain = release(shape)
    served = ClipConfidence(most=most).apply(plain, problem=PROBLEM)
    p, q = np.exp(plain.scores(X)), np.exp(served.scores(X))
    top = p.max(-1)
    assert (served.scores(X).argmax(-1) == plain.labels(X)).all()
    assert (served.labels(X) == plain.labels(X)).all()
    assert q.sum(-1) == pytest.approx(1)
    assert q.max(-1) == pytest.approx(np.minimum(top, most))
    over = top > most
    assert over.any()
    assert np.array_equal(served.scores(X)[~over], plain.scores(X)[~over])
    want = p[over] * ((1 - most) / (1 - top[over]))[..., None]
    others = p[over] < top[over][..., None]
    assert q[over][others] == pytest.approx(want[others])
    with pytest.raises(Hidden, match="interface"):
        _ = served.weights


@pytest.mark.parametrize("shape", [(400, 2), (400, 4, 2)])
def test_of_two_classes_no_trace_of_a_confident_answer_is_left(shape):
    plain = release(shape, spread=20.0).scores(X)
    served = clipped(plain, 0.9)[np.exp(plain).max(-1) > 0.9]
    assert len(np.unique(served)) == 2
    assert len(np.unique(plain)) > 100


def test_a_cap_of_one_changes_nothing():
    plain = release()
    assert np.array_equal(
        ClipConfidence(most=1).apply(plain, problem=PROBLEM).scores(X), plain.scores(X)
    )


def test_certainty_and_ties():
    with np.errstate(divide="ignore"):
        scores = np.log([[1.0, 0.0, 0.0], [0.95, 0.05, 0.0], [0.5, 0.5, 0.0], [0.4, 0.2, 0.4]])
    served = np.exp(clipped(scores, 0.8))
    assert served[0] == pytest.approx([0.8, 0.1, 0.1])
    assert served[1] == pytest.approx([0.8, 0.2, 0])
    assert np.array_equal(clipped(scores, 0.8)[2:], scores[2:])
    assert np.exp(clipped(np.array([[0.0, -np.inf]]), 0.8)) == pytest.approx(np.array([[0.8, 0.2]]))


@pytest.mark.parametrize("most", [0.5, 1.1, "all", None, True])
def test_impossible_settings_are_named(most):
    assert repr(most) in ClipConfidence(most=most).invalid_parameters()[0]
    with pytest.raises(ConfigError, match="above 0"):
        ClipConfidence(most=most).apply(release(), problem=PROBLEM)


def test_contract():
    assert check_defense(ClipConfidence()) == []
    assert vars(eval(repr(ClipConfidence(most=0.8)))) == vars(ClipConfidence(most=0.8))
