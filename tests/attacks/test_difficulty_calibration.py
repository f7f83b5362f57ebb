from dataclasses import replace

import numpy as np
import pytest

from medleak.api import Release, multiclass, multilabel
from medleak.attacks.membership.difficulty_calibration import DifficultyCalibration
from medleak.attacks.membership.yeom import Yeom
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


def losses(release, challenge):
    task = multilabel if challenge.y.ndim == 2 else multiclass
    return -task.true_log_probability(release.scores(challenge.x), challenge.y).sum(axis=1)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_scores_equal_loops_over_models_without_the_record(pool, task):
    experiment = membership_world(leak=2.0, n=60, n_shadows=8, pool=pool, task=task)
    release, challenge, _, knowledge = experiment
    scores = DifficultyCalibration().execute(release, challenge, knowledge).scores
    out = [[] for _ in range(60)]
    for shadow in knowledge.shadows:
        loss = losses(shadow.release, challenge)
        for i in np.flatnonzero(~shadow.member):
            out[i].append(loss[i])
    assert np.allclose(scores, [np.mean(o) for o in out] - losses(release, challenge))


def test_it_sees_through_difficulty_where_the_loss_does_not():
    """Records of very different difficulty under every model."""
    release, challenge, secret, knowledge = membership_world(leak=1.0, n_shadows=8)
    hard = np.random.default_rng(0).uniform(0, 6, len(challenge))

    def harder(one):
        def scores(x):
            log_p = one.scores(x).copy()
            log_p[np.arange(len(x)), challenge.y] -= hard
            return log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)

        return Release({"scores": scores})

    shadows = [replace(s, release=harder(s.release)) for s in knowledge.shadows]
    known = replace(knowledge, shadows=shadows)
    calibrated = DifficultyCalibration().execute(harder(release), challenge, known).scores
    plain = Yeom().execute(harder(release), challenge, known).scores
    assert auc(calibrated, secret.member) > auc(plain, secret.member) + 0.1


def test_one_shadow_is_enough_and_a_record_it_holds_takes_the_gap():
    release, challenge, secret, knowledge = membership_world(leak=2.0, n_shadows=2)
    scores = DifficultyCalibration().execute(release, challenge, knowledge).scores
    assert np.isfinite(scores).all()
    assert auc(scores, secret.member) > 0.8


def test_refusals():
    assert DifficultyCalibration().incompatibilities(None, {"n_shadows": 1}) == []
    assert len(DifficultyCalibration().incompatibilities(None, {})) == 1
