"""Deliberately broken DP-SGD is caught by trials, and the right one is never flagged.

Everything is simulated in NumPy, hundreds of runs at once: logistic regression on a few records, and a
canary whose gradient lies along a coordinate of its own (a Dirac canary). The auditor sees the noisy sum of
every step (a white box) and scores a run by that coordinate, summed over the steps.

Limits, which are those of any such audit. Clipping by batch is seen only by a canary whose gradient is much
longer than the clip. Shuffled batches behind a Poisson claim are hardly seen by a Dirac canary where noise
is usual: the adversary of `identical_records` is another, whose records are all alike, so that one fewer
shows in the size of the last batch.
"""

import functools

import numpy as np
import pytest

from medleak.metrics.privacy.audit import audit_trials
from medleak.metrics.privacy.upper_bounds import VIOLATION_LEVEL, privacy_profile

DELTA = 1e-5
CLIP, RATE, SIGMA, N = 1.0, 0.25, 4.0, 40
RUNS = 1000
"""Trials with the canary, and as many without, of each audit that should find something."""


@functools.cache
def claimed(rate, sigma, steps):
    """The epsilon of Poisson-sampled Gaussian noise at `DELTA`."""
    mechanism = {"name": "poisson_gaussian", "q": rate, "sigma": sigma, "steps": steps}
    epsilon, delta = privacy_profile(mechanism)
    return float(epsilon[delta <= DELTA].min())


def lengths(gradients):
    return np.linalg.norm(gradients, axis=-1, keepdims=True)


def clipped(gradients, most):
    return gradients * np.minimum(1.0, most / np.maximum(lengths(gradients), 1e-12))


def dp_sgd(rng, member, *, steps, fault="", length=CLIP):
    """Scores of one run for each entry of `member` ``(R,)``: is the canary in?

    Faults: "noise of the mean" scales the noise as if the sum had been divided already; "batch clip"
    clips the mean of the batch instead of each record's gradient.
    """
    x = np.random.default_rng(0).normal(size=(N, 3))
    y = (x[:, 0] > 0).astype(float)
    w, scores, batch = np.zeros((len(member), 3)), np.zeros(len(member)), RATE * N
    for _ in range(steps):
        p = 1 / (1 + np.exp(-w @ x.T))
        gradients = (p - y)[..., None] * x
        drawn = rng.random((len(member), N)) < RATE
        canary = length * (member & (rng.random(len(member)) < RATE))
        if fault == "batch clip":
            total = np.einsum("rn,rnd->rd", drawn, gradients)
            mean = np.column_stack([total, canary]) / batch
            summed, noise = clipped(mean, CLIP) * batch, SIGMA * CLIP
        else:
            total = np.einsum("rn,rnd->rd", drawn, clipped(gradients, CLIP))
            summed = np.column_stack([total, np.minimum(canary, CLIP)])
            noise = SIGMA * CLIP / (batch if fault == "noise of the mean" else 1)
        noisy = summed + noise * rng.normal(size=summed.shape)
        scores += noisy[:, 3]
        w -= noisy[:, :3] / batch
    return scores


def identical_records(rng, member, *, n, batch, epochs, sigma, shuffled):
    """Scores of runs on records that are all alike: the noisy sum of each epoch's last step.

    Every gradient is one clip long in the same direction, so that a batch's sum is its size.
    """
    present = n + member
    size = (epochs, len(member))
    drawn = present % batch if shuffled else rng.binomial(present, batch / n, size)
    return (drawn + sigma * rng.normal(size=size)).sum(axis=0)


def audited(simulate, seed=0, runs=RUNS, audits=1):
    """The 99.9% bounds of `audits` audits, each of `runs` trials with the canary and as many without."""
    rng = np.random.default_rng(seed)
    member = np.arange(2 * runs * audits) % 2 == 1
    scores = simulate(rng, member)
    inside, outside = (scores[member == b].reshape(audits, runs) for b in (True, False))
    pairs = zip(inside, outside, strict=True)
    return [audit_trials(*pair, delta=DELTA, level=VIOLATION_LEVEL).epsilon for pair in pairs]


def test_the_right_one_is_never_flagged():
    steps = 30
    found = audited(lambda rng, member: dp_sgd(rng, member, steps=steps), runs=200, audits=15)
    assert max(found) <= claimed(RATE, SIGMA, steps)
    # The canary of the batch clip, clipped as it should be.
    found = audited(lambda rng, member: dp_sgd(rng, member, steps=5, length=100.0), audits=3)
    assert max(found) <= claimed(RATE, SIGMA, 5)


@pytest.mark.parametrize(
    ("fault", "length"), [("noise of the mean", CLIP), ("batch clip", 100 * CLIP)]
)
def test_wrong_noise_and_wrong_clipping_are_caught(fault, length):
    steps = 20
    simulate = functools.partial(dp_sgd, steps=steps, fault=fault, length=length)
    assert audited(simulate)[0] > claimed(RATE, SIGMA, steps)


def test_a_fresh_accountant_for_every_round_is_caught():
    steps, rounds = 4, 60
    claim = claimed(RATE, SIGMA, steps)
    [found] = audited(lambda rng, member: dp_sgd(rng, member, steps=steps * rounds))
    assert claim < found <= claimed(RATE, SIGMA, steps * rounds)


def test_shuffled_batches_that_claim_poisson_are_caught():
    problem = {"n": 503, "batch": 10, "epochs": 16, "sigma": 2.1}
    claim = claimed(10 / 503, 2.1, 16 * 51)
    shuffled, poisson = (
        functools.partial(identical_records, **problem, shuffled=s) for s in (True, False)
    )
    assert audited(shuffled)[0] > claim
    assert max(audited(poisson, audits=20)) <= claim


@pytest.mark.slow
def test_the_right_one_is_never_flagged_in_many_audits():
    for steps in (5, 60):
        for seed in range(20):
            found = audited(
                lambda rng, member, steps=steps: dp_sgd(rng, member, steps=steps),
                seed=seed, runs=500, audits=10,
            )  # fmt: skip
            assert max(found) <= claimed(RATE, SIGMA, steps)
