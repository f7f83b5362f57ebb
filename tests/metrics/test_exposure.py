import numpy as np
import pytest

from medleak.metrics.exposure import exposed, ranks, vulnerability
from medleak.metrics.roc import roc, tpr_at

T, N = 32, 400


def drawn(seed, leak=0.0, share=0.05):
    """Scores of T targets; `share` of the patients score `leak` higher as members."""
    rng = np.random.default_rng(seed)
    member = rng.random((T, N)) < 0.5
    weak = np.arange(N) < share * N
    return rng.standard_normal((T, N)) + leak * (member & weak), member


def test_guessing_exposes_nobody():
    found = [exposed(*drawn(seed), fpr=0.05) for seed in range(60)]
    values = np.array([one.value for one in found])
    assert abs(values.mean() - 0.05) < 3 * values.std() / np.sqrt(len(values)) + 0.003
    assert np.mean([one.low <= 0.05 <= one.high for one in found]) >= 0.95


def test_choosing_and_judging_on_the_same_targets_would():
    """What the halves are for."""
    scores, member = drawn(0)
    worst = np.argsort(-vulnerability(ranks(scores), member))[: N // 20]
    fpr, tpr = roc(scores[:, worst].ravel(), member[:, worst].ravel())
    assert tpr_at(fpr, tpr, 0.05) > 0.08


def test_the_few_who_leak_are_found_though_the_average_is_quiet():
    scores, member = drawn(1, leak=4.0)
    average = tpr_at(*roc(scores.ravel(), member.ravel()), 0.01)
    found = exposed(scores, member, fpr=0.01)
    assert average < 0.1
    assert found.low > 0.5
    assert found.n == N // 20


def test_vulnerability_by_hand():
    scores = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    member = np.array([[False, True, True], [True, True, False]])
    assert np.allclose(ranks(scores), np.array([[1, 3, 5], [5, 3, 1]]) / 6)
    assert np.allclose(vulnerability(ranks(scores), member), [4 / 6, 0, 4 / 6])


@pytest.mark.parametrize("targets", [1, 7])
def test_too_few_targets_are_told(targets):
    scores, member = drawn(0)
    found = exposed(scores[:targets], member[:targets], fpr=0.01)
    assert found.value is None
    assert found.flag == "fewer than 8 targets"


def test_ties_at_the_top_are_no_detection():
    scores, member = drawn(0)
    assert exposed(np.zeros_like(scores), member, fpr=0.01).value == 0
