from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import multiclass
from medleak.attacks.membership.attack_r import AttackR
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


def references(knowledge, challenge):
    """Logit scores ``(K, N)`` and membership ``(K, N)`` of the shadows."""
    pairs = [(multiclass.logit_score(s.release.scores(challenge.x), challenge.y)[:, 0], s.member)
             for s in knowledge.shadows]  # fmt: skip
    return tuple(map(np.array, zip(*pairs, strict=True)))


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_scores_equal_a_loop_over_models_without_the_record(pool):
    release, challenge, _, knowledge = membership_world(leak=2.0, n=60, n_shadows=12, pool=pool)
    scores = AttackR().execute(release, challenge, knowledge).scores
    phi = multiclass.logit_score(release.scores(challenge.x), challenge.y)[:, 0]
    values, member = references(knowledge, challenge)
    out = [values[~member[:, i], i] for i in range(60)]
    common = sum(np.var(o) * len(o) for o in out) / sum(len(o) - 1 for o in out)
    for i, o in enumerate(out):
        spread = np.sqrt((np.var(o) * len(o) + 2 * common) / (len(o) + 1))
        tail = norm.sf((phi[i] - o.mean()) / spread)
        assert np.exp(-scores[i]) == pytest.approx(((o > phi[i]).sum() + tail) / (len(o) + 1))


def test_few_references_do_not_tie_records():
    release, challenge, secret, knowledge = membership_world(leak=1.0, n_shadows=8)
    scores = AttackR().execute(release, challenge, knowledge).scores
    assert len(np.unique(scores)) == len(scores)
    phi = multiclass.logit_score(release.scores(challenge.x), challenge.y)[:, 0]
    values, member = references(knowledge, challenge)
    below = ((values < phi) & ~member).sum(axis=0) / np.maximum((~member).sum(axis=0), 1)
    assert len(np.unique(below)) < 30  # the plain ranks
    assert auc(scores, secret.member) > auc(below, secret.member) + 0.02


def test_a_record_in_every_shadow_still_has_a_score():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=60, n_shadows=8)
    shadows = [replace(s, member=s.member | (np.arange(60) == 3)) for s in knowledge.shadows]
    scores = AttackR().execute(release, challenge, replace(knowledge, shadows=shadows)).scores
    assert np.isfinite(scores).all()


def test_refusals():
    assert AttackR().incompatibilities(None, {"n_shadows": 4, "pool": "auxiliary"}) == []
    assert len(AttackR().incompatibilities(None, {"n_shadows": 3})) == 1
