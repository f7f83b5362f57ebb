import numpy as np

from medleak.metrics.exposure import ranks, vulnerability


def test_vulnerability_by_hand():
    scores = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    member = np.array([[False, True, True], [True, True, False]])
    assert np.allclose(ranks(scores), np.array([[1, 3, 5], [5, 3, 1]]) / 6)
    assert np.allclose(vulnerability(ranks(scores), member), [4 / 6, 0, 4 / 6])


def test_those_who_leak_come_first():
    rng = np.random.default_rng(0)
    member = rng.random((32, 400)) < 0.5
    weak = np.arange(400) < 20
    scores = rng.standard_normal(member.shape) + 4.0 * (member & weak)
    assert set(np.argsort(-vulnerability(ranks(scores), member))[:20]) == set(range(20))


def test_without_a_leak_gaps_are_around_zero():
    rng = np.random.default_rng(1)
    gaps = vulnerability(ranks(rng.standard_normal((32, 400))), rng.random((32, 400)) < 0.5)
    assert abs(gaps.mean()) < 0.02
