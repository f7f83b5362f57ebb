from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import Challenge, Knowledge, MedleakError, ProblemSpec, Records, Release
from medleak.attacks.membership.quantile_regression import (
    LOG_ABS_NORMAL,
    QuantileRegression,
    averaged,
    gaussian_head,
    projection,
)
from medleak.attacks.membership.yeom import Yeom
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


def linear_world(n, *, shift=1.0, slope=3.0, seed=0):
    """A table whose logit score is `slope` times its first column, plus noise, plus the leak."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 4)).astype(np.float32)
    member = (rng.random(2 * n) < 0.5) & (np.arange(2 * n) < n)
    phi = slope * x[:, 0] + rng.normal(size=2 * n) + shift * member
    found = {row.tobytes(): value for row, value in zip(x, phi, strict=True)}

    def scores(asked):
        z = np.array([found[row.tobytes()] for row in asked])
        return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)

    parts = [Records(x[i], np.ones(n, dtype=int), i) for i in np.split(np.arange(2 * n), 2)]
    knowledge = Knowledge(ProblemSpec(n // 2, n // 2, 1, (4,), 2), auxiliary=parts[1])
    challenge = Challenge(parts[0], np.full(n, "natural"))
    return Release({"scores": scores}), challenge, member[:n], knowledge


def test_it_comes_close_to_the_optimum_where_difficulty_is_in_the_features():
    release, challenge, member, knowledge = linear_world(2000)
    value = auc(QuantileRegression().execute(release, challenge, knowledge).scores, member)
    best = norm.cdf(1 / np.sqrt(2))  # 0.76
    assert value > best - 0.04
    assert auc(Yeom().execute(release, challenge, knowledge).scores, member) < best - 0.15


def test_scores_of_non_members_are_standard_normal():
    release, challenge, _, knowledge = linear_world(2000, shift=0.0)
    scores = QuantileRegression().execute(release, challenge, knowledge).scores
    assert abs(scores.mean()) < 0.1
    assert 0.85 < scores.std() < 1.15


def test_the_head_learns_a_spread_that_varies():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 3000)
    rows = np.column_stack([np.zeros(3000), group])
    phi = 2.0 * group + rng.normal(size=3000) * np.where(group, 3.0, 1.0)
    asked = np.array([[0, 0], [0, 1]])
    mean, log_spread = gaussian_head(rows, phi, np.arange(3000), asked)
    assert np.allclose(mean, [0, 2], atol=0.4)
    assert np.exp(log_spread[1] - log_spread[0]) == pytest.approx(3.0, rel=0.3)
    z = np.random.default_rng(1).normal(size=10**6)
    assert np.log(np.abs(z)).mean() == pytest.approx(LOG_ABS_NORMAL, abs=0.005)


def test_images_are_averaged_over_blocks():
    x = np.arange(2 * 33 * 32, dtype=np.uint8).reshape(1, 2, 33, 32)
    expected = [x[0, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
                for c in range(2) for i in range(16) for j in range(16)]  # fmt: skip
    assert np.allclose(averaged(x)[0], expected)
    small = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), dtype=np.uint8)
    assert averaged(small).shape == (9, 64)
    assert projection(small, 32)(small).shape == (9, 9)
    table = np.zeros((5, 3))
    assert projection(table, 32)(table) is table


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_it_finds_a_planted_leak_and_nothing_else(task):
    for leak in (0.0, 6.0):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n=300, n_shadows=0, task=task
        )
        value = auc(
            QuantileRegression().execute(release, challenge, knowledge).scores, secret.member
        )
        assert value > 0.8 if leak else abs(value - 0.5) < 3.3 * np.sqrt(301 / (3 * 300 * 300))


def test_a_release_that_answers_the_same_for_all():
    _, challenge, _, knowledge = membership_world(leak=1.0, n=60, n_shadows=0)
    constant = Release({"scores": lambda x: np.log(np.full((len(x), 3), 1 / 3))})
    scores = QuantileRegression().execute(constant, challenge, knowledge).scores
    assert np.isfinite(scores).all()


def test_budget_missing_records_and_faults():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=60, n_shadows=0)
    attack = QuantileRegression()
    assert attack.execute(release, challenge, replace(knowledge, budget=100)).queries == 100
    with pytest.raises(MedleakError, match="no auxiliary records"):
        attack.execute(release, challenge, replace(knowledge, auxiliary=None))
    with pytest.raises(MedleakError, match="5 auxiliary patients"):
        attack.execute(release, challenge, replace(knowledge, budget=64))
    assert attack.invalid_parameters() == []
    assert len(QuantileRegression(components=0, max_population=None).invalid_parameters()) == 2
