"""Dirac canaries against their closed form, a brute-force gradient, and broken DP-SGD.

Most worlds here have records of zeros: the gradient in a weight is then zero, and a canary is heard through
noise alone. Two biases remain, whose canaries are left out.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from medleak.api import (
    Challenge,
    ConfigError,
    MembershipScores,
    MembershipTruth,
    NotApplicable,
    ProblemSpec,
    Records,
    Release,
)
from medleak.attacks.membership.dirac import Canaries, Dirac, DiracCanaries
from medleak.defenses.train._private import Later, PoissonSampler, PrivateGradient
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.federated import Federated
from medleak.defenses.train.label_smoothing import LabelSmoothing
from medleak.metrics.privacy.epsilon import OneRunEpsilon
from medleak.metrics.privacy.upper_bounds import VIOLATION_LEVEL, privacy_profile
from medleak.metrics.statistics.roc import auc
from medleak.targets.architectures.logistic import LogisticRegression
from medleak.targets.recipes import SGD

N, FEATURES, RATE, STEPS = 800, 500, 0.25, 40
PROBLEM = ProblemSpec(N // 2, N // 2, 1, (FEATURES,), 2)
POLICY = DiracCanaries(share=0.5)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def challenge(scans=1, n=N, features=FEATURES, x=None):
    y = np.random.default_rng(0).integers(0, 2, n * scans)
    x = np.zeros((n * scans, features), np.float32) if x is None else x
    patients = np.repeat(np.arange(n), scans)
    return Challenge(Records(x, y, patients), np.full(n * scans, "natural"))


def recipe(sigma, *, rule=PrivateGradient, q=RATE, steps=STEPS, n=N, clip=1.0):
    gradient = rule(clip, sigma, q * n / 2)
    return SGD(lr=0.05, momentum=0.0, sampler=PoissonSampler(q, steps), gradient=gradient)


@dataclass
class Heard:
    """Canaries along weights: their scores and the truth."""

    scores: np.ndarray
    member: np.ndarray
    all: np.ndarray


def heard(trainer, member, *, asked=None, policy=POLICY, seed=0, problem=PROBLEM):
    asked = policy.marked(challenge() if asked is None else asked)
    member = np.asarray(member)
    poisoned, records = policy.poison(trainer, asked, member, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LogisticRegression(in_shape=problem.in_shape, n_outputs=2)
    trained = poisoned.fit(model, records, problem=problem, seed=seed)
    scores = Dirac().run(Release(policy.seen(trained.facts)), asked)
    weights = problem.in_shape[0] * 2
    planted = np.flatnonzero(asked.kind == "dirac")
    where = Canaries(planted, member[planted], 1.0, policy.seed).coordinates(weights + 2)
    kept = planted[where < weights]
    return Heard(scores[kept], member[kept], scores)


def coins(seed, n=N):
    return np.random.default_rng([7, seed]).random(n) < 0.5


def test_scores_follow_the_closed_form():
    sigma = 2.0
    runs = [heard(recipe(sigma), coins(s), seed=s) for s in range(6)]
    scores, member = (np.concatenate([getattr(r, n) for r in runs]) for n in ("scores", "member"))
    inside, outside, n = scores[member], scores[~member], len(scores) / 2
    noise, joined = sigma**2 * STEPS, STEPS * RATE * (1 - RATE)
    assert abs(inside.mean() - RATE * STEPS) < 4 * np.sqrt((noise + joined) / n)
    assert abs(outside.mean()) < 4 * np.sqrt(noise / n)
    assert inside.var() == pytest.approx(noise + joined, rel=4 * np.sqrt(2 / n))
    assert outside.var() == pytest.approx(noise, rel=4 * np.sqrt(2 / n))
    k = np.arange(STEPS + 1)
    expected = (binom.pmf(k, STEPS, RATE) * norm.cdf(k / (sigma * np.sqrt(2 * STEPS)))).sum()
    assert 0.65 < expected < 0.75
    assert abs(auc(scores, member) - expected) < 4 * np.sqrt(1 / (6 * n))


def test_without_noise_members_are_counted():
    found = heard(recipe(0.0, clip=0.3), coins(0))
    assert np.allclose(found.scores, np.round(found.scores), atol=1e-4)
    assert np.abs(found.scores[~found.member]).max() < 1e-6
    joined = found.scores[found.member]
    assert auc(found.scores, found.member) > 0.999
    assert abs(joined.mean() - RATE * STEPS) < 4 * np.sqrt(STEPS * RATE / len(joined))


def test_the_rest_is_what_the_other_records_say():
    n, features, clip = 60, 12, 0.5
    x = np.random.default_rng(1).normal(size=(n, features)).astype(np.float32)
    asked, member = challenge(n=n, features=features, x=x), coins(1, n)
    policy = DiracCanaries(share=0.3)
    problem = replace(PROBLEM, in_shape=(features,))
    trainer = recipe(0.0, q=1.0, steps=1, n=n, clip=clip)
    found = heard(trainer, member, asked=asked, policy=policy, problem=problem)
    marked = policy.marked(asked)
    planted = marked.kind == "dirac"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LogisticRegression(in_shape=(features,), n_outputs=2)
    total = np.zeros(2 * features + 2)
    for i in np.flatnonzero(member & ~planted):
        loss = torch.nn.functional.cross_entropy(
            model(torch.from_numpy(x[i : i + 1])), torch.tensor(asked.y[i : i + 1])
        )
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradient = torch.cat([g.flatten() for g in parts]).double().numpy()
        total += gradient * min(1.0, clip / np.linalg.norm(gradient))
    who = np.flatnonzero(planted)
    where = Canaries(who, member[who], 1.0, 0).coordinates(2 * features + 2)
    assert 10 < len(set(where.tolist())) == len(who)
    assert np.allclose(found.all[who], total[where] / clip + member[who], atol=1e-5)
    assert (found.all[~planted] == -np.inf).all()


def test_membership_of_one_canary_moves_no_other():
    member = coins(2)
    who = np.flatnonzero(POLICY.marked(challenge()).kind == "dirac")[7]
    one = heard(recipe(1.0), member).all
    member[who] = ~member[who]
    other = heard(recipe(1.0), member).all
    moved = np.flatnonzero(one != other)
    assert moved.tolist() == [who]


def test_the_same_run_is_the_same_and_another_is_not():
    one, again, other = (heard(recipe(1.0), coins(3), seed=s).scores for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


# --------------------------------------------------------------------------- who is planted


def test_canaries_are_natural_patients_drawn_whole():
    asked = challenge(scans=3, n=2000, features=1)
    kind = np.where(asked.patients % 5 == 0, "mislabelled", "natural")
    marked = POLICY.marked(Challenge(asked.records, kind))
    assert (marked.kind == "mislabelled").sum() == (kind == "mislabelled").sum()
    planted = marked.kind == "dirac"
    assert all(len(set(planted[asked.patients == p])) == 1 for p in range(100))
    natural = planted[kind == "natural"][::3]
    assert abs(natural.mean() - 0.5) < 4 * np.sqrt(0.25 / len(natural))
    part = POLICY.marked(Challenge(asked.records.take(np.arange(300)), kind[:300]))
    np.testing.assert_array_equal(part.kind, marked.kind[:300])
    other = DiracCanaries(share=0.5, seed=1).marked(asked).kind
    assert (other != POLICY.marked(asked).kind).any()
    assert marked.records is asked.records


def test_canaries_are_no_records():
    asked, member = POLICY.marked(challenge(scans=2)), np.repeat(coins(4), 2)
    trainer, records = POLICY.poison(recipe(1.0), asked, member, seed=0)
    planted = set(asked.patients[asked.kind == "dirac"])
    assert set(records.patients) == set(asked.patients[member]) - planted
    assert len(trainer.gradient.canaries) == len(planted)
    inside = set(trainer.gradient.canaries.patients[trainer.gradient.canaries.member])
    assert inside == planted & set(asked.patients[member])
    plain = recipe(1.0)
    assert POLICY.poison(plain, challenge(), coins(4), seed=0)[0] is plain


def test_coordinates_are_distinct_and_spread():
    for k, size in ((1, 1), (7, 7), (390, 1002), (10, 10**8)):
        where = Canaries(np.arange(k), np.ones(k, bool), 0.5, 3).coordinates(size)
        assert len(set(where.tolist())) == k
        assert where.min() >= 0
        assert where.max() < size
        if k > 1:
            gaps = np.diff(np.sort(where))
            assert gaps.max() - gaps.min() <= 1


def test_more_canaries_than_parameters_are_refused():
    small = replace(PROBLEM, in_shape=(5,))
    with pytest.raises(
        ConfigError, match=r"Dirac canaries need a parameter each, the model has 12"
    ):
        heard(recipe(1.0), coins(0), asked=challenge(features=5), problem=small)


def test_without_a_clip_there_is_no_canary():
    reason = "Dirac canaries need clipped gradients: train slot dp_sgd"
    assert POLICY.incompatibilities(PROBLEM, SGD()) == [reason]
    assert POLICY.incompatibilities(PROBLEM, Federated().apply(SGD(), problem=PROBLEM)) == [reason]
    with pytest.raises(NotApplicable, match=reason):
        POLICY.poison(SGD(), POLICY.marked(challenge()), coins(0), seed=0)
    private = DPSGD(noise_multiplier=1.0, sampling_rate=RATE).apply(SGD(), problem=PROBLEM)
    assert POLICY.incompatibilities(PROBLEM, private) == []
    smoothed = LabelSmoothing().apply(private, problem=PROBLEM)
    assert POLICY.incompatibilities(PROBLEM, smoothed) == []
    assert heard(smoothed, coins(0)).scores.std() > 0

    def calibrated():
        raise AssertionError("noise was calibrated to plan a grid")

    later = SGD(sampler=PoissonSampler(RATE, 2), gradient=Later(calibrated))
    assert POLICY.incompatibilities(PROBLEM, later) == []


def test_faults_and_what_is_seen():
    assert POLICY.invalid_parameters() == []
    for share in (0, 1, "a", True):
        assert DiracCanaries(share=share).invalid_parameters() == [
            f"share {share!r} must lie between 0 and 1"
        ]
    assert POLICY.seen({"steps": 3}) == {}
    assert POLICY.exposes == (Dirac.requires.access,)


# --------------------------------------------------------------------------- audits


def claimed(sigma, steps):
    epsilon, delta = privacy_profile(
        {"name": "poisson_gaussian", "q": RATE, "sigma": sigma, "steps": steps}
    )
    return float(epsilon[delta <= 1e-5].min())


def audited(found, level=VIOLATION_LEVEL):
    scored = MembershipScores(found.scores, np.arange(len(found.scores)))
    return OneRunEpsilon().lower_bound(scored, MembershipTruth(found.member), level)


class NoiseOfTheMean(PrivateGradient):
    """Noise scaled as if the sum had been divided by the batch already."""

    def _noise(self, p, generator):
        return super()._noise(p, generator) / self.expected_batch


class NoClip(PrivateGradient):
    """Sums gradients as they are."""

    def _add_clipped(self, parameters, sums):
        for p, total in zip(parameters, sums, strict=True):
            total += p.grad_sample.sum(0)
            p.grad_sample = None


def test_the_audit_of_the_right_one_stays_below_its_claim():
    sigma, steps = 3.0, 20
    claim = claimed(sigma, steps)
    found = [audited(heard(recipe(sigma, steps=steps), coins(s), seed=s), 0.95) for s in range(10)]
    assert max(found) <= claim


@pytest.mark.parametrize("sigma", [0.7, 3.0])
def test_audits_alarm_at_nominal_rate(sigma):
    """The closed form, hundreds of audits of two hundred canaries each."""
    rng, audits, steps, k = np.random.default_rng(0), 300, 20, 200
    member = rng.random((audits, k)) < 0.5
    scores = rng.binomial(steps, RATE, member.shape) * member
    scores = scores + sigma * np.sqrt(steps) * rng.normal(size=member.shape)
    claim, metric = claimed(sigma, steps), OneRunEpsilon()
    alarms = sum(
        metric.audited(s[None], m[None]).epsilon > claim
        for s, m in zip(scores, member, strict=True)
    )
    assert alarms <= binom.ppf(0.999, audits, 0.05)


def test_noise_of_the_mean_is_caught():
    steps, sigma = 20, 5.0
    found = heard(recipe(sigma, rule=NoiseOfTheMean, steps=steps), coins(5))
    assert audited(found) > claimed(sigma, steps)


def test_a_fresh_accountant_for_every_round_is_caught():
    steps, rounds, sigma = 10, 60, 5.0
    found = heard(recipe(sigma, steps=steps * rounds), coins(6))
    assert claimed(sigma, steps) < audited(found) <= claimed(sigma, steps * rounds)


def test_what_it_cannot_see():
    """The canary enters behind the clip, by a coin of its own: neither clip nor sampler is tested."""
    right, wrong = (heard(recipe(1.0, rule=r), coins(7)) for r in (PrivateGradient, NoClip))
    np.testing.assert_allclose(right.scores, wrong.scores, atol=1e-3)

    class Alike(PoissonSampler):
        def _draw(self, rng, order, starts, counts):
            return order[: len(order) // 4]

    same = replace_sampler(recipe(1.0), Alike(RATE, STEPS))
    np.testing.assert_allclose(right.scores, heard(same, coins(7)).scores, atol=1e-3)


def replace_sampler(trainer, sampler):
    return SGD(lr=trainer.lr, momentum=0.0, sampler=sampler, gradient=trainer.gradient)
