"""Intervals of rebuilt images cover, message by message."""

import numpy as np
import pytest
from rebuilt_images import EVERY, game, with_images
from scipy.stats import norm

from medleak.metrics.reconstruction import Identified
from medleak.metrics.statistics.clustered import (
    Sample,
    mean_interval,
    share_interval,
    share_lower_bound,
)


def clustered_shares(rng, p, icc, n_trials, batch):
    """Hits that agree within an observation, from a Gaussian copula."""
    own = np.sqrt(icc) * rng.normal(size=(n_trials, 1))
    latent = own + np.sqrt(1 - icc) * rng.normal(size=(n_trials, batch))
    values = (latent < norm.ppf(p)).astype(float).ravel()
    return Sample(values, np.repeat(np.arange(n_trials), batch), np.arange(n_trials * batch))


TRIALS = 200
LEAST = 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / TRIALS)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("icc", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("n_trials", [8, 24])
def test_share_intervals_cover_and_bounds_hold(p, icc, n_trials):
    rng = np.random.default_rng([int(100 * p), int(10 * icc), n_trials])
    covered = above = 0
    for _ in range(TRIALS):
        sample = clustered_shares(rng, p, icc, n_trials, 16)
        low, high = share_interval(sample, 0.95)
        covered += low <= p <= high
        above += share_lower_bound(sample, 0.99) > p
    assert covered / TRIALS >= LEAST
    assert above / TRIALS < 0.01 + 3 * np.sqrt(0.01 * 0.99 / TRIALS)


def test_intervals_that_forget_the_observations_do_not_cover():
    rng = np.random.default_rng(0)
    naive = clever = 0
    for _ in range(TRIALS):
        sample = clustered_shares(rng, 0.5, 0.9, 24, 16)
        alone = Sample(sample.values, sample.patients, sample.patients)
        naive += share_interval(alone, 0.95)[0] <= 0.5 <= share_interval(alone, 0.95)[1]
        low, high = mean_interval(sample, 0.95)
        clever += low <= 0.5 <= high
    assert naive / TRIALS < 0.7
    assert clever / TRIALS >= LEAST


@pytest.mark.parametrize(("n_trials", "batch"), [(5, 1), (5, 8), (16, 8)])
def test_mean_intervals_cover(n_trials, batch):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIALS):
        values = 20 + 3 * rng.normal(size=(n_trials, 1)) + 2 * rng.normal(size=(n_trials, batch))
        trials = np.repeat(np.arange(n_trials), batch)
        low, high = mean_interval(Sample(values.ravel(), trials, np.arange(values.size)), 0.95)
        covered += low <= 20 <= high
    assert covered / TRIALS >= LEAST


def test_mean_intervals_cover_where_patients_come_back():
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(TRIALS):
        own = 3 * rng.normal(size=20)
        patients = np.concatenate([rng.permutation(20)[:10] for _ in range(30)])
        trials = np.repeat(np.arange(30), 10)
        values = own[patients] + rng.normal(size=30)[trials] + rng.normal(size=300)
        low, high = mean_interval(Sample(values, trials, patients), 0.95)
        covered += low <= 0 <= high
        low, high = mean_interval(Sample(values, trials, np.arange(300)), 0.95)
        naive += low <= 0 <= high
    assert covered / TRIALS >= LEAST
    assert naive / TRIALS < 0.8


def test_fewer_hits_never_make_the_interval_end_much_higher():
    rng = np.random.default_rng(0)
    ends = []
    for k in range(17):
        values = np.zeros((16, 8))
        values[:k, 0] = 1
        trials = np.repeat(np.arange(16), 8)
        ends.append(
            share_interval(
                Sample(rng.permuted(values, axis=1).ravel(), trials, np.arange(128)), 0.95
            )
        )
    assert all(low <= k / 128 <= high for k, (low, high) in enumerate(ends))
    assert ends[0][1] == pytest.approx(1 - 0.025 ** (1 / 16))


def test_a_lower_bound_lies_below_and_tightens_with_observations():
    found = []
    for n_trials in (6, 14):
        output, secret = game(n_trials, 4, n_gallery=80)
        images = output.images + 0.05 * np.random.default_rng(0).normal(size=output.images.shape)
        noisy = with_images(output, images)
        for metric in EVERY:
            bound = metric.lower_bound(noisy, secret)
            assert bound <= metric(noisy, secret).low
        found.append(Identified().lower_bound(noisy, secret))
    assert 0 < found[0] < found[1] < 1
