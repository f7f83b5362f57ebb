from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import Attack, MedleakError, ThreatModel
from medleak.attacks.membership.attack_p import AttackP
from medleak.attacks.membership.attack_r import AttackR
from medleak.attacks.membership.base import BASE
from medleak.attacks.membership.ensemble import Ensemble, Halves, Others, normal_scores, stacked
from medleak.attacks.membership.lira import LiRA
from medleak.attacks.membership.rmia import RMIA
from medleak.config.instantiate import build, identities
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

ONLINE = [LiRA(queries="identity"), AttackP()]
OFFLINE = [AttackR(), BASE(mode="offline"), RMIA(mode="offline")]


class Noise(Attack):
    """Scores at random."""

    requires = ThreatModel(goal="membership", access="scores")

    def fit(self, release, knowledge):
        self._knowledge = knowledge

    def run(self, release, challenge):
        return self._knowledge.rng.normal(size=len(challenge))


class Weights(Noise):
    """Reads the weights."""

    requires = ThreatModel(goal="membership", access="weights")


@dataclass
class Watched:
    """A pool that counts how often each shadow is opened."""

    pool: object
    seen: list

    def __len__(self):
        return len(self.pool)

    def __iter__(self):
        for k, shadow in enumerate(self.pool):
            self.seen.append(k)
            yield shadow


def test_weights_are_those_of_the_logistic_posterior():
    rng = np.random.default_rng(0)
    member = rng.random(40000) < 0.5
    shift = np.array([1.0, 0.5, 0.0])
    x = rng.normal(size=(40000, 3)) + (member[:, None] - 0.5) * shift
    weights = stacked(x, member, nonnegative=False)  # the log-odds of x is x . shift
    assert np.allclose(weights, shift, atol=0.05)


def test_nonnegative_weights_do_not_turn_an_attack_round():
    rng = np.random.default_rng(0)
    member = rng.random(5000) < 0.5
    x = rng.normal(size=(5000, 2)) + (member[:, None] - 0.5) * [1.0, -1.0]
    assert stacked(x, member, nonnegative=False)[1] < -0.5
    weights = stacked(x, member, nonnegative=True)
    assert weights[0] > 0.5
    assert weights[1] == 0
    assert np.array_equal(stacked(-x[:, :1], member, nonnegative=True), [1.0])  # none helps


def test_two_independent_attacks_together_beat_each():
    rng = np.random.default_rng(0)
    member = rng.random((2, 20000)) < 0.5
    x = rng.normal(size=(2, 20000, 2)) + member[..., None]
    weights = stacked(x[0], member[0], nonnegative=True)
    value = auc(x[1] @ weights, member[1])
    assert value == pytest.approx(norm.cdf(1.0), abs=0.01)  # d' = sqrt 2 for the pair
    assert value > auc(x[1, :, 0], member[1]) + 0.05


def test_normal_scores_rank_ties_and_infinities():
    found = normal_scores(np.array([-np.inf, 2.0, 2.0, np.inf]))
    assert np.allclose(found, norm.ppf([1 / 8, 4 / 8, 4 / 8, 7 / 8]))
    assert (normal_scores(np.full(5, 3.0)) == 0).all()
    x = np.random.default_rng(0).normal(size=50)
    assert np.array_equal(normal_scores(np.exp(x)), normal_scores(x))


@pytest.mark.parametrize(("pool", "attacks"), [("audit", ONLINE), ("auxiliary", OFFLINE)])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_it_finds_a_planted_leak_and_nothing_else(pool, attacks, task):
    for leak in (0.0, 3.0):
        experiment = membership_world(leak=leak, n=200, n_shadows=7, pool=pool, task=task)
        release, challenge, secret, knowledge = experiment
        output = Ensemble(attacks=attacks, targets=2).execute(release, challenge, knowledge)
        value = auc(output.scores, secret.member)
        assert value > 0.85 if leak else abs(value - 0.5) < 3.3 * np.sqrt(201 / (3 * 200 * 200))


def test_noise_gets_little_weight():
    release, challenge, secret, knowledge = membership_world(leak=1.0, n=300, n_shadows=6)
    alone = LiRA(queries="identity").execute(release, challenge, knowledge).scores
    members = [LiRA(queries="identity"), Noise(), Noise()]
    scores = Ensemble(attacks=members, targets=3).execute(release, challenge, knowledge).scores
    assert auc(scores, secret.member) > auc(alone, secret.member) - 0.02


def test_weights_are_learned_on_shadows_alone():
    """Another target, with another truth: the same weights, and the pools never hold who plays."""
    release, challenge, _, knowledge = membership_world(leak=1.0, n=120, n_shadows=5)
    learned = []

    class Recording(Ensemble):
        def _scores(self, release, challenge, knowledge):
            found = super()._scores(release, challenge, knowledge)
            learned.append((found, len(knowledge.shadows)))
            return found

    attack = Recording(attacks=[LiRA(queries="identity"), AttackR()], targets=2)
    fresh = lambda: replace(knowledge, rng=np.random.default_rng(0))  # noqa: E731
    attack.execute(release, challenge, fresh())
    attack.execute(knowledge.reference.release, challenge, fresh())
    assert [n for _, n in learned] == [4, 4, 5, 4, 4, 5]
    for one, two in zip(learned[:2], learned[3:5], strict=True):
        assert np.array_equal(one[0], two[0])
    assert not np.array_equal(learned[2][0], learned[5][0])


def test_pools_leave_out_the_target_and_swap_the_halves():
    knowledge = membership_world(leak=1.0, n=40, n_shadows=4, pool="auxiliary")[3]
    members = [s.auxiliary_member for s in knowledge.shadows]
    others = list(Others(knowledge.shadows, 2))
    assert len(Others(knowledge.shadows, 2)) == len(others) == 3
    assert all(np.array_equal(s.auxiliary_member, members[k])
               for s, k in zip(others, (0, 1, 3), strict=True))  # fmt: skip
    asked = np.arange(40) % 2 == 0
    for shadow, member in zip(Halves(knowledge.shadows, asked), members, strict=True):
        assert np.array_equal(shadow.member, member[asked])
        assert np.array_equal(shadow.auxiliary_member, member[~asked])


def test_only_a_few_shadows_are_opened_at_a_time_and_progress_ends():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=40, n_shadows=5)
    done, observed_by = [], Watched(knowledge.shadows, [])
    known = replace(knowledge, shadows=observed_by, progress=done.append)
    Ensemble(attacks=[AttackP()], targets=2).execute(release, challenge, known)
    assert observed_by.seen == [0, 0, 1]  # the attack needs no pool
    assert done == sorted(done)
    assert done[-1] <= 1


def test_queries_are_shared_out():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=50, n_shadows=5)
    attack = Ensemble(attacks=[LiRA(queries="all"), RMIA()], targets=1)
    output = attack.execute(release, challenge, replace(knowledge, budget=260))
    assert output.queries <= 260


def test_a_yaml_list_is_built_and_its_versions_enter_the_key():
    path = "medleak.attacks.membership."
    block = {
        "_target_": path + "ensemble.Ensemble",
        "attacks": [{"_target_": path + "base.BASE", "temperature": 2.0},
                    {"_target_": path + "attack_r.AttackR"}],
    }  # fmt: skip
    made = build(block, of=Attack)
    assert [type(a) for a in made.attacks] == [BASE, AttackR]
    assert made.attacks[0].temperature == 2.0
    names = [name.partition("@")[0].rpartition(".")[2] for name in identities(block)]
    assert names == ["AttackR", "BASE", "Ensemble"]


def test_refusals_and_faults_are_those_of_all():
    assert Ensemble(attacks=ONLINE).incompatibilities(None, {"n_shadows": 5}) == []
    four = {"n_shadows": 4, "pool": "auxiliary"}
    few = Ensemble(attacks=ONLINE, targets=4).incompatibilities(None, four)
    assert len(few) == 3
    assert "LiRA in the ensemble" in few[1]
    assert Ensemble(attacks=ONLINE).invalid_parameters() == []
    wrong = Ensemble(
        attacks=[BASE(mode="onlin"), Weights(), "lira"], targets=0
    ).invalid_parameters()
    assert len(wrong) == 4
    assert "did you mean 'online'" in wrong[1]
    assert "needs 'weights'" in wrong[2]
    assert Ensemble(attacks=[]).invalid_parameters()


def test_too_few_auxiliary_patients_are_an_error():
    release, challenge, _, knowledge = membership_world(
        leak=1.0, n=20, n_shadows=5, pool="auxiliary"
    )
    one = replace(knowledge, auxiliary=replace_patients(knowledge.auxiliary))
    with pytest.raises(MedleakError, match="more auxiliary patients"):
        Ensemble(attacks=OFFLINE).execute(release, challenge, one)


def replace_patients(records):
    return replace(records, patients=np.zeros(len(records), dtype=int))
