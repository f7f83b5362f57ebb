"""The informed adversary against its ceiling."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from medleak.attacks.gradient_inversion import informed_adversary

pytestmark = pytest.mark.usefixtures("one_thread")


def wins(candidates, sigma, steps, trials, rng):
    """How often the record is found among M orthogonal gradients, noise `sigma` times the clip."""
    clip, found = 2.0, 0
    gradients = 5 * np.eye(candidates)[:, None].repeat(steps, axis=1)
    for _ in range(trials):
        truth, known = rng.integers(candidates), rng.standard_normal((steps, candidates))
        own = informed_adversary.clipped(gradients[truth], clip)
        noisy = known + own + sigma * clip * rng.standard_normal(own.shape)
        left = informed_adversary.residuals(noisy, known)
        found += informed_adversary.guess(gradients, left, clip) == truth
    return found


@pytest.mark.parametrize(
    ("candidates", "sigma", "steps", "golden"),
    [(8, 2, 1, 0.2577), (8, 10, 100, 0.4402), (2, 1, 1, None)],
)
def test_theinformed_adversary_comes_close_to_the_ceiling_and_no_higher(
    candidates, sigma, steps, golden
):
    upper_bound = norm.cdf(norm.ppf(1 / candidates) + np.sqrt(steps) / sigma)
    if golden:
        assert upper_bound == pytest.approx(golden, abs=1e-4)
    trials = 1000
    found = wins(candidates, sigma, steps, trials, np.random.default_rng(0))
    assert beta.ppf(0.001, found, trials - found + 1) <= upper_bound
    assert found / trials > 0.8 * upper_bound


def test_without_noise_theinformed_adversary_is_always_right_and_without_signal_guesses():
    assert wins(8, 0.0, 1, 50, np.random.default_rng(0)) == 50
    blind = wins(8, 1e6, 1, 2000, np.random.default_rng(0))
    assert abs(blind / 2000 - 1 / 8) < 3.3 * np.sqrt(7 / 64 / 2000)


def test_clipping_scales_long_gradients_only():
    found = informed_adversary.clipped(np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), 1.0)
    assert np.allclose(found, [[0.6, 0.8], [0.3, 0.4], [0, 0]])
    with pytest.raises(ValueError, match="positive"):
        informed_adversary.scores(np.zeros((1, 1, 2)), np.zeros((1, 2)), 0.0)
