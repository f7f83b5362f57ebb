"""Noise on sums: exact discrete noise, its price, and what is left when there is none."""

import math

import numpy as np
import pytest

from medleak.api import ConfigError, MedleakError, ProblemSpec
from medleak.defenses.aggregate import _discrete
from medleak.defenses.aggregate._discrete import Skellam, epsilon_of, radius, rounded
from medleak.defenses.aggregate.central_dp import CentralDP
from medleak.defenses.aggregate.distributed_dp import DistributedDP
from medleak.defenses.train.federated import Federated, FederatedTrainer
from medleak.metrics.privacy.upper_bounds import applicable
from medleak.targets.recipes import SGD
from medleak.testing import check_defense

PROBLEM = ProblemSpec(1000, 1000, 1, (1, 28, 28), 2)
BOTH = [CentralDP, DistributedDP]


def rng(seed=0):
    return np.random.default_rng(seed)


def messages(k=6, p=300, norm=0.5, seed=0):
    drawn = rng(seed).normal(size=(k, p))
    return {i: norm * v / np.linalg.norm(v) for i, v in enumerate(drawn)}


def trainer(**keywords):
    return FederatedTrainer(plan=Federated(**keywords))


def dp(stage, **keywords):
    found = stage.guarantees(PROBLEM, trainer(**keywords))
    return {g.unit: g for g in found if g.kind == "dp"}


# ------------------------------------------------------------------ the noise


def exact_masses(variance, most):
    from scipy.special import ive

    return ive(np.abs(np.arange(-most, most + 1)), variance)


@pytest.mark.parametrize("variance", [0.01, 0.7, 3.0, 40.0, 2500.0])
def test_the_table_holds_the_exact_probabilities(variance):
    edges = [*Skellam(variance)._edges, 2**128]
    found = np.diff([0, *edges]).astype(object)
    found = np.array([int(v) / 2**128 for v in found])
    wanted = exact_masses(variance, len(found) // 2)
    assert len(found) == len(wanted)
    assert np.abs(found - wanted).sum() < 1e-12
    assert found[wanted > 1e-30] == pytest.approx(wanted[wanted > 1e-30], rel=1e-8)


def test_the_table_agrees_with_bessel_functions_to_thirty_digits():
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        noise, v = Skellam(6.5), mpmath.mpf("6.5")
        for k in (-9, -2, 0, 1, 12):
            at = k + noise.most
            found = mpmath.mpf(int(noise._edges[at] - noise._edges[at - 1])) / 2**128
            assert abs(found - mpmath.exp(-v) * mpmath.besseli(abs(k), v)) < mpmath.mpf(10) ** -37


def p_value(drawn, variance):
    """Of a chi-square test that integers are Skellam of that variance."""
    from scipy.stats import chisquare

    most = max(60, math.ceil(20 * math.sqrt(variance)))
    wanted = len(drawn) * exact_masses(variance, most)
    counts = np.bincount(drawn + most, minlength=2 * most + 1)
    often = wanted > 10
    found, expected = (np.append(a[often], a[~often].sum()) for a in (counts, wanted))
    return chisquare(found, expected * found.sum() / expected.sum()).pvalue


@pytest.mark.parametrize("variance", [0.3, 2.0, 30.0])
def test_draws_follow_the_exact_probabilities(variance):
    assert p_value(Skellam(variance).draw(200_000, rng(1)), variance) > 1e-4
    assert p_value(Skellam(1.05 * variance).draw(200_000, rng(1)), variance) < 1e-4  # it has power


def test_sums_of_draws_are_skellam_again():
    noise = Skellam(0.5)
    total = np.sum([noise.draw(100_000, rng(i)) for i in range(4)], axis=0)
    assert p_value(total, 2.0) > 1e-4
    rounded_gaussians = np.rint(rng().normal(scale=math.sqrt(0.5), size=(4, 100_000))).sum(0)
    assert p_value(rounded_gaussians.astype(np.int64), 2.0) < 1e-4


def test_words_at_the_edge_of_a_value_are_decided_by_their_low_half():
    noise = Skellam(3.0)
    at = noise.most  # the edge above the value 0
    high, low = int(noise._edges[at]) >> 64, int(noise._edges[at]) & (2**64 - 1)

    class Given:
        def __init__(self, word):
            self.word = word

        def integers(self, *_, **__):
            return self.word

    for word, index in ((low - 1, at), (low, at + 1), (low + 1, at + 1)):
        assert noise.placed(np.array([high], np.uint64), Given(word)).tolist() == [index]
    others = np.array([high - 1, high + 1, 2**63], np.uint64)
    assert noise.placed(others, None).tolist()[:2] == [at, at + 1]


def test_no_variance_is_no_noise_and_too_much_is_refused():
    assert not Skellam(0).draw(100, rng()).any()
    with pytest.raises(MedleakError, match="fewer levels"):
        Skellam(1e12)


# ------------------------------------------------------------------ rounding


@pytest.mark.parametrize("p", [10, 1000, 50_000])
def test_rounding_keeps_the_norm_and_the_mean(p):
    bound = 300.0
    x = rng().normal(size=p)
    x *= radius(bound, p) / np.linalg.norm(x)
    drawn = [rounded(x, bound, rng(i)) for i in range(60)]
    assert all(np.linalg.norm(one) <= bound for one in drawn)
    assert all((np.abs(one - x) < 1).all() for one in drawn)
    error = np.mean(drawn, axis=0) - x
    assert abs(error.mean()) < 5 * 0.5 / math.sqrt(60 * p)
    assert all(one.dtype == np.int64 for one in drawn)


def test_rounding_succeeds_as_often_as_stated_at_the_radius():
    p, bound = 400, 50.0
    x = np.full(p, radius(bound, p) / math.sqrt(p))
    below, share = np.floor(x), x - np.floor(x)
    tries = [below + (rng(i).random(p) < share) for i in range(500)]
    good = np.mean([np.linalg.norm(one) <= bound for one in tries])
    assert good > 1 - math.exp(-0.5)


def test_where_no_rounding_fits_it_goes_towards_nought():
    x = np.full(1000, 0.5)
    assert not rounded(x, 1.0, rng()).any()
    with pytest.raises(MedleakError, match="10 levels are too few for 1000 parameters"):
        radius(10, 1000)


# ------------------------------------------------------------------ the price


@pytest.mark.parametrize("variance", [0.4, 2.0, 25.0])
@pytest.mark.parametrize("change", [(1,), (3,), (2, -1), (1, 1, 1)])
def test_the_renyi_bound_holds_by_brute_force(variance, change):
    most = math.ceil(40 * math.sqrt(variance) + 60)
    masses = np.log(np.maximum(exact_masses(variance, most), 1e-280))
    l2, l1 = sum(c * c for c in change), sum(abs(c) for c in change)
    assert l1 <= l2
    for order in (2, 3, 8, 20):
        spent = 0.0
        for c in change:
            p, q = (masses[c:], masses[:-c]) if c > 0 else (masses[:c], masses[-c:])
            seen = (p > -600) & (q > -600)
            spent += np.logaddexp.reduce((order * p - (order - 1) * q)[seen]) / (order - 1)
        bound = order * l2 / (2 * variance) + min(
            ((2 * order - 1) * l2 + 6 * l2) / (4 * variance**2), 3 * l2 / (2 * variance)
        )
        assert spent <= bound


def test_with_fine_levels_the_price_is_that_of_the_gaussian():
    from dp_accounting import GaussianDpEvent
    from dp_accounting.rdp import RdpAccountant

    for sigma, steps in ((0.8, 1), (2.0, 20), (10.0, 300)):
        accountant = RdpAccountant(list(_discrete.ORDERS))
        accountant.compose(GaussianDpEvent(sigma), steps)
        wanted = accountant.get_epsilon(1e-5)
        fine, coarse = (epsilon_of((sigma * b) ** 2, b, 1e-5, steps) for b in (1e6, 2.0))
        assert fine == pytest.approx(wanted, rel=1e-6)
        assert coarse > 1.0005 * wanted


def test_the_price_is_never_below_the_exact_one_of_a_single_integer():
    """One count moved by one: the exact delta of Skellam noise, by summation."""
    for variance in (1.0, 6.0, 50.0):
        masses = exact_masses(variance, 400)
        epsilon = epsilon_of(variance, 1.0, 1e-4, 1)
        delta = np.maximum(masses[1:] - math.exp(epsilon) * masses[:-1], 0).sum()
        assert delta <= 1e-4
        assert np.maximum(masses[1:] - math.exp(epsilon / 3) * masses[:-1], 0).sum() > 1e-4


def test_the_server_s_gaussian_noise_costs_the_closed_form_over_all_rounds():
    from scipy.stats import norm

    sigma, rounds, delta = 5.0, 20, 1e-4
    found = dp(CentralDP(noise_multiplier=sigma, delta=delta), rounds=rounds)
    for unit, change in (("client", 1), ("patient", 2)):
        mu = change * math.sqrt(rounds) / sigma
        e = found[unit].epsilon
        spent = norm.cdf(-e / mu + mu / 2) - math.exp(e) * norm.cdf(-e / mu - mu / 2)
        assert spent == pytest.approx(delta, rel=0.02)
        assert found[unit].mechanism["steps"] == rounds
    one = dp(CentralDP(noise_multiplier=sigma, delta=delta), rounds=1)["client"].epsilon
    assert found["client"].epsilon > 3 * one  # not the price of a fresh accountant each round


def test_distributed_noise_costs_a_little_more_than_the_server_s():
    for rounds in (1, 20, 200):
        central, distributed = (
            dp(kind(noise_multiplier=8.0), rounds=rounds)["client"].epsilon for kind in BOTH
        )
        assert central < distributed < 1.4 * central


@pytest.mark.parametrize("kind", BOTH)
def test_promises_say_for_whom_and_from_whom(kind):
    found = dp(kind(noise_multiplier=3.0), rounds=5, participation=0.3)
    client, patient = found["client"], found["patient"]
    assert client.delta == 1 / (10 * PROBLEM.n_patients)
    assert (client.adjacency, patient.adjacency) == ("zero-out", "add/remove")
    assert patient.epsilon > client.epsilon
    assert any("no amplification" in a for a in client.assumptions)
    assert any("belong to one client" in a for a in patient.assumptions)
    assert ("server" in client.adversaries) == (kind is DistributedDP)
    assert ("updates" in kind.hides) == (kind is DistributedDP)
    # A promise for clients by leaving them out bounds no game about patients.
    assert applicable([client, patient], unit="patient") == [patient]
    assert kind(noise_multiplier=3.0).guarantees(PROBLEM, SGD()) == []
    assert not dp(kind(noise_multiplier=0.0))


def test_a_curious_client_is_only_bound_where_its_own_noise_is_not_counted():
    for colluders, bound in ((0, False), (1, True)):
        promise = dp(DistributedDP(colluders=colluders))["client"]
        assert ("client" in promise.adversaries) == bound
        assert f"at most {colluders}" in promise.assumptions[0]


# ------------------------------------------------------------------ the sum


def test_without_noise_the_sum_is_the_plain_one():
    sent = messages()
    plain = sum(sent.values())
    central = CentralDP(noise_multiplier=0).aggregate(sent, dropped=[], rng=rng())
    assert np.array_equal(central.total, np.sum(list(sent.values()), axis=0))
    levels = 2**20
    exact = DistributedDP(noise_multiplier=0, levels=levels).aggregate(sent, dropped=[], rng=rng())
    assert np.abs(exact.total - plain).max() <= len(sent) / radius(levels, 300)
    assert central.survivors == exact.survivors == tuple(sent)


@pytest.mark.parametrize("kind", BOTH)
def test_messages_are_clipped_one_by_one(kind):
    sent = messages(k=4)
    sent[2] = 1000 * sent[2]
    told = kind(noise_multiplier=0, clip=0.75).aggregate(sent, dropped=[], rng=rng())
    wanted = sent[0] + sent[1] + sent[3] + sent[2] * 0.75 / np.linalg.norm(sent[2])
    assert np.abs(told.total - wanted).max() < 2e-3


@pytest.mark.parametrize(("dropped", "left"), [(0, 10), (2, 8), (3, 7)])
def test_the_noise_is_that_promised_whoever_drops_out(dropped, left):
    sigma, clip, p = 2.0, 0.5, 40_000
    sent = {i: np.zeros(p) for i in range(10)}
    stage = DistributedDP(noise_multiplier=sigma, clip=clip, colluders=2)
    told = stage.aggregate(sent, dropped=range(dropped), rng=rng())
    assert len(told.survivors) == left
    least = 7 - 2
    deviation = sigma * clip * math.sqrt(left / least) * 4096 / radius(4096, p)
    assert told.total.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * p))
    honest = told.total.std() * math.sqrt((left - 2) / left)
    assert honest >= sigma * clip * (1 - 5 / math.sqrt(2 * p))


def test_the_server_s_noise_is_that_promised():
    sent = {i: np.zeros(40_000) for i in range(3)}
    total = CentralDP(noise_multiplier=2.0, clip=0.5).aggregate(sent, dropped=[1], rng=rng()).total
    assert total.std() == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("kind", BOTH)
def test_noise_is_reproducible_and_the_round_s_own(kind):
    sent, stage = messages(), kind()
    one, two, other = (stage.aggregate(sent, dropped=[], rng=rng(seed)).total for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.allclose(one, other)


def test_a_client_s_noise_does_not_depend_on_the_others():
    """Dropping a client takes its own message and noise away, and moves nothing else."""
    sent, stage = messages(k=6, p=50), DistributedDP(threshold=0.51, noise_multiplier=3.0)
    step = stage.clip / radius(stage.levels, 50)
    whole = stage.aggregate(sent, dropped=[], rng=rng()).total / step
    less = [stage.aggregate(sent, dropped=[i], rng=rng()).total / step for i in (1, 2)]
    both = stage.aggregate(sent, dropped=[1, 2], rng=rng()).total / step
    assert whole + both == pytest.approx(less[0] + less[1], abs=1e-6)
    assert whole == pytest.approx(np.rint(whole), abs=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_broken_messages_and_dropouts_are_excluded_by_name(kind):
    sent = messages(k=8)
    sent[4] = np.full(300, math.nan)
    sent[5] = np.ones(3)
    stage = kind(noise_multiplier=0) if kind is CentralDP else kind(threshold=0.6)
    told = stage.aggregate(sent, dropped=[7], rng=rng())
    assert told.survivors == (0, 1, 2, 3, 6)
    assert "no finite numbers" in told.excluded[4]
    assert "shape (3,)" in told.excluded[5]
    assert "vanished" in told.excluded[7]
    assert np.isfinite(told.total).all()
    with pytest.raises(MedleakError):
        stage.aggregate(sent, dropped=list(sent), rng=rng())


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(MedleakError, match="too few for 300 parameters"):
        DistributedDP(levels=8).aggregate(messages(), dropped=[], rng=rng())
    big = DistributedDP(levels=2**30, noise_multiplier=0)
    with pytest.raises(MedleakError, match="does not fit into 32 bits"):
        big.aggregate(messages(), dropped=[], rng=rng())


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        (CentralDP, {"noise_multiplier": -1}, "noise_multiplier"), (CentralDP, {"clip": 0}, "clip"),
        (CentralDP, {"delta": 1}, "delta"), (DistributedDP, {"clip": math.nan}, "clip"),
        (DistributedDP, {"levels": 1}, "levels"), (DistributedDP, {"colluders": -1}, "colluders"),
        (DistributedDP, {"colluders": 3}, "fewer than the minimum"),
        (DistributedDP, {"noise_multiplier": 100}, "noise_multiplier x levels"),
        (DistributedDP, {"threshold": 0.3}, "threshold"),
    ],
)  # fmt: skip
def test_impossible_settings_are_named(kind, arguments, named):
    (fault,) = kind(**arguments).invalid_parameters()
    assert named in fault
    with pytest.raises(ConfigError, match=named):
        kind(**arguments).aggregate(messages(), dropped=[], rng=rng())


@pytest.mark.parametrize("kind", BOTH)
def test_contract(kind):
    for made in (None, trainer()):
        assert check_defense(kind(), trainer=made) == []
