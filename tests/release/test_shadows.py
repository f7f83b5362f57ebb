"""The shadow pool and its replica check."""

import numpy as np
import pytest

from medleak.api import multiclass, multilabel
from medleak.release.pool import shadow_columns
from medleak.release.replicas import replica_check


def facts(rng, **changes):
    made = {
        "n_members": 100,
        "criterion": "cross-entropy",
        "sigma": None,
        "accuracy": 0.8 + 0.01 * rng.normal(),
        "train_accuracy": 0.95 + 0.005 * rng.normal(),
        "collapsed": False,
        "scores": rng.normal(size=300),
    }
    return made | changes


def check(target, shadows):
    return replica_check(target, shadows, n_target=200, n_pool=200, p=0.5)


def test_seeds_share_their_shadows_and_pools_extend():
    assert shadow_columns(0, 4, pool="audit") == [1, 2, 3, 4, 5]
    assert shadow_columns(1, 4, pool="audit") == [0, 2, 3, 4, 5]
    assert shadow_columns(9, 4, pool="audit") == [0, 1, 2, 3, 4]
    short, long = (shadow_columns(3, k, pool="audit") for k in (8, 16))
    assert long[: len(short)] == short
    assert 3 not in long
    assert shadow_columns(0, 4, pool="auxiliary") == [0, 1, 2, 3, 4]


def test_replicas_pass():
    rng = np.random.default_rng(0)
    failures = [check(facts(rng), [facts(rng) for _ in range(16)]) for _ in range(50)]
    assert not any(failures)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_members": 140}, "shadow 0 has 140 member patients, 100 expected"),
        ({"criterion": "hinge"}, "criterion of the target cross-entropy"),
        ({"sigma": 1.1}, "sigma of the target None"),
        ({"accuracy": 0.5}, "accuracy of the target 0.8"),
        ({"train_accuracy": 0.6}, "train_accuracy of the target"),
        ({"collapsed": True}, "16 of 16 shadows answer one class; the target does not"),
        ({"scores": np.random.default_rng(9).normal(2, 3, 300)}, "score distribution"),
    ],
)
def test_shadows_that_are_no_replicas_are_named(changes, message):
    rng = np.random.default_rng(0)
    reasons = check(facts(rng), [facts(rng, **changes) for _ in range(16)])
    assert any(message in reason for reason in reasons)


def test_a_target_that_collapsed_alone_is_named():
    rng = np.random.default_rng(0)
    reasons = check(facts(rng, collapsed=True), [facts(rng) for _ in range(16)])
    assert reasons == ["the target answers one class; 0 of 16 shadows do"]


def test_log_probabilities_are_exact_where_float32_saturates():
    logits = np.array([[40.0, -40.0], [0.0, 0.0]], dtype=np.float32)
    found = multiclass.log_probabilities(logits)
    assert found[0, 1] == pytest.approx(-80)
    assert np.exp(found).sum(1) == pytest.approx(1)
    both = multilabel.log_probabilities(logits)
    assert both.shape == (2, 2, 2)
    assert np.exp(both).sum(-1) == pytest.approx(1)
    assert both[0, 0, 1] == pytest.approx(-np.exp(-40.0), rel=1e-6)
