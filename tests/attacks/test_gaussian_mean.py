"""Attacks on the mean of Gaussian records, where the best possible ROC is known.

theta = sum of the members / n for coins c_i of the pool's records, and the release says
phi = <x, theta> of the record asked about. Given everything but the record's own coin, phi is normal
in the limit, with a shift of |x|^2 / n and a variance of about |x|^2 / (2 n), so that by Neyman and
Pearson no attack on phi beats AUC = Phi(d' / sqrt 2) with d' = |x| sqrt(2 / n).
"""

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import Challenge, Knowledge, ProblemSpec, Records, Release, Shadow
from medleak.attacks.membership.attack_p import AttackP
from medleak.attacks.membership.attack_r import AttackR
from medleak.attacks.membership.base import BASE
from medleak.attacks.membership.difficulty_calibration import DifficultyCalibration
from medleak.attacks.membership.lira import LiRA
from medleak.attacks.membership.rmia import RMIA
from medleak.attacks.membership.yeom import Yeom
from medleak.metrics.statistics.roc import auc, roc, tpr_at

N, D, K, TARGETS, SCALE = 200, 50, 96, 60, 0.5
SEPARATION = np.sqrt(2 * D / (N / 2))  # 1.0


class ExperimentData:
    def __init__(self, spread: float):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(3 * N, D))
        x *= np.sqrt(D) / np.linalg.norm(x, axis=1, keepdims=True)
        bias = spread * rng.normal(size=D)
        y = rng.integers(0, 2, 3 * N)
        part = [
            Records(x[i].astype(np.float32), y[i], i) for i in (np.arange(N), np.arange(N, 3 * N))
        ]
        self.challenge = Challenge(part[0], np.full(N, "natural"))
        self.auxiliary, self.bias = part[1], bias
        self.sign = dict(zip(part[0].x[:, 0].tolist() + part[1].x[:, 0].tolist(), y, strict=True))
        self.members = rng.random((K + TARGETS, N)) < 0.5
        self.shadows = [self.shadow(k) for k in range(K)]

    def shadow(self, k: int) -> Shadow:
        member = self.members[k]
        theta = self.challenge.x[member].sum(axis=0) / (N / 2) + self.bias / SCALE

        def scores(x: np.ndarray) -> np.ndarray:
            y = np.array([self.sign[v] for v in x[:, 0].tolist()])
            z = (
                SCALE * (x @ theta) * (2 * y - 1)
            )  # so that phi of the true class is SCALE <x, theta>
            return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)

        return Shadow(member, np.zeros(2 * N, dtype=bool), Release({"scores": scores}))

    def attack(self, attack):
        problem = ProblemSpec(N // 2, N // 2, 1, (D,), 2)
        scores, members = [], []
        for t in range(K, K + TARGETS):
            knowledge = Knowledge(problem, auxiliary=self.auxiliary, shadows=self.shadows)
            target = self.shadow(t)
            scores.append(attack.execute(target.release, self.challenge, knowledge).scores)
            members.append(target.member)
        return np.concatenate(scores), np.concatenate(members)


@pytest.fixture(scope="module")
def plain():
    return ExperimentData(spread=0.0)


@pytest.fixture(scope="module")
def hard():
    """Records differ in difficulty by twice as much as membership shifts them."""
    return ExperimentData(spread=0.2)


def best_auc():
    return norm.cdf(SEPARATION / np.sqrt(2))


def interval(n):
    """About 3.3 standard errors of an AUC near .76, on `n` records."""
    return 3.3 * np.sqrt(0.76 * 0.24 / (n / 2))


@pytest.mark.parametrize("variance", ["pooled", "per_example"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_lira_reaches_the_optimum_whatever_the_difficulty(hard, mode, variance):
    scores, member = hard.attack(LiRA(mode=mode, variance=variance))
    assert abs(auc(scores, member) - best_auc()) < interval(len(scores))
    for fpr in (0.1, 0.3):
        best = norm.cdf(norm.ppf(fpr) + SEPARATION)
        assert abs(tpr_at(*roc(scores, member), fpr) - best) < 0.04


def test_rmia_reaches_the_optimum(plain):
    scores, member = plain.attack(RMIA(gamma=1.0))
    assert abs(auc(scores, member) - best_auc()) < interval(len(scores))


def test_rmia_offline_reaches_the_optimum(plain):
    scores, member = plain.attack(RMIA(mode="offline", gamma=1.0, a=1.0))
    assert abs(auc(scores, member) - best_auc()) < interval(len(scores))


def test_attack_r_reaches_the_optimum_whatever_the_difficulty(hard):
    scores, member = hard.attack(AttackR())
    assert abs(auc(scores, member) - best_auc()) < interval(len(scores))


@pytest.mark.parametrize(
    "attack", [BASE(), BASE(mode="offline", scale=1.0), DifficultyCalibration()], ids=str
)
def test_attacks_on_the_likelihood_reach_the_optimum_of_equal_records(plain, attack):
    scores, member = plain.attack(attack)
    assert abs(auc(scores, member) - best_auc()) < interval(len(scores))


def test_ranks_in_a_population_alike_keep_the_order_of_the_loss(plain):
    scores, member = plain.attack(AttackP())
    assert auc(scores, member) == pytest.approx(auc(plain.attack(Yeom())[0], member), abs=0.005)


def test_calibration_gains_where_difficulty_varies(hard):
    """Not the optimum: a difference of losses means less where the model is sure."""
    scores, member = hard.attack(DifficultyCalibration())
    assert auc(hard.attack(Yeom())[0], member) + 0.02 < auc(scores, member)
    assert auc(scores, member) < best_auc() + interval(len(scores))


def test_the_loss_attack_stays_below_where_difficulty_varies(hard):
    scores, member = hard.attack(Yeom())
    assert auc(scores, member) < best_auc() - interval(len(scores))
