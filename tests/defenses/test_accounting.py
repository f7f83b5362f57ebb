"""Noise multipliers and epsilons of the Poisson-subsampled Gaussian."""

import itertools
import math

import pytest

from medleak.api import ConfigError
from medleak.defenses.train import accounting

Q, STEPS, DELTA = 64 / 3000, 2000, 1 / 3000


@pytest.mark.parametrize(("epsilon", "golden"), [(1, 2.861), (8, 0.7914), (100, 0.3520)])
def test_pld_golden_noise_multipliers(epsilon, golden):
    sigma, accountant = accounting.calibrate(epsilon, DELTA, Q, STEPS)
    assert accountant == "PLD"
    assert sigma == pytest.approx(golden, rel=2e-3)


@pytest.mark.parametrize(("sigma", "epsilon"), [(3.184, 1), (0.8325, 8)])
def test_rdp_golden_epsilons(sigma, epsilon):
    assert accounting.rdp_epsilon(sigma, DELTA, Q, STEPS) == pytest.approx(epsilon, rel=1e-2)


@pytest.mark.parametrize(("q", "steps"), [(0.25, 120), (Q, STEPS)])
@pytest.mark.parametrize("epsilon", [0.1, 1, 8, 699, 701, 1e3, 1e6, 1e12])
def test_calibration_is_tight_and_never_overspends(epsilon, q, steps):
    sigma, accountant = accounting.calibrate(epsilon, 1e-4, q, steps)
    spent, by = accounting.epsilon_of(sigma, 1e-4, q, steps)
    assert (accountant == "PLD") == (epsilon <= accounting.PLD_LIMIT)
    assert spent <= epsilon
    # Just beyond the limit RDP asks for so much noise that PLD can price it after all.
    assert by == accountant or epsilon in (701, 1e3)
    assert spent >= 0.995 * epsilon or by != accountant


def test_the_price_keeps_rising_where_the_pld_leaves_double_precision():
    prices = [accounting.epsilon_of(s, 1e-4, Q, STEPS)[0] for s in (0.2, 0.188, 0.18, 0.15, 0.05)]
    assert all(a < b for a, b in itertools.pairwise(prices))


@pytest.mark.filterwarnings("ignore:Optimal order")
def test_prv_agrees_with_pld():
    from opacus.accountants import PRVAccountant

    prv = PRVAccountant()
    prv.history = [(2.891, Q, STEPS)]
    pld, name = accounting.epsilon_of(2.891, DELTA, Q, STEPS)
    assert name == "PLD"
    assert pld <= prv.get_epsilon(DELTA) * 1.001
    assert pld == pytest.approx(1, abs=0.03)


def test_single_unsampled_step_equals_the_analytic_gaussian():
    from scipy.stats import norm

    sigma, epsilon = 2.0, accounting.epsilon_of(2.0, 1e-3, 1.0, 1)[0]
    exact = norm.cdf(1 / (2 * sigma) - epsilon * sigma) - math.exp(epsilon) * norm.cdf(
        -1 / (2 * sigma) - epsilon * sigma
    )
    assert exact == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("epsilon", [1e9, 1e12])
def test_without_amplification_the_smallest_order_binds(epsilon):
    sigma, accountant = accounting.calibrate(epsilon, DELTA, Q, STEPS)
    assert accountant == "nominal (RDP)"
    assert sigma == pytest.approx(math.sqrt(1.1 * STEPS / (2 * epsilon)), rel=1e-3)


def test_noise_falls_with_epsilon_across_the_accountants():
    budgets = [0.1, 1, 8, 1e3, 1e4, 1e5, 1e9, 1e12]
    sigmas = [accounting.calibrate(e, 1e-4, 0.256, 120)[0] for e in budgets]
    assert all(a > b for a, b in itertools.pairwise(sigmas))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 1e-3, 0.1, 10), "epsilon 0"),
        ((-1, 1e-3, 0.1, 10), "epsilon -1"),
        ((math.inf, 1e-3, 0.1, 10), "epsilon inf"),
        ((1, 0, 0.1, 10), "delta 0"),
        ((1, 1e-3, 1.5, 10), "sampling rate 1.5"),
        ((1, 1e-3, 0.1, 0), "steps 0"),
    ],
)
def test_impossible_budgets_are_named(arguments, named):
    with pytest.raises(ConfigError, match=named):
        accounting.calibrate(*arguments)


def test_group_conversion():
    assert accounting.group(0.5, 1e-6, 1) == pytest.approx((0.5, 1e-6))
    epsilon, delta = accounting.group(0.5, 1e-6, 3)
    assert epsilon == 1.5
    assert delta == pytest.approx(1e-6 * (1 + math.exp(0.5) + math.exp(1)))
    assert accounting.group(1e6, 1e-6, 3)[1] == math.inf
