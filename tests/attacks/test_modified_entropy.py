from dataclasses import replace

import numpy as np
import pytest

from medleak.api import (
    Challenge,
    Knowledge,
    MedleakError,
    ProblemSpec,
    Records,
    Release,
    Shadow,
    multiclass,
    multilabel,
)
from medleak.attacks.membership.modified_entropy import ModifiedEntropy, thresholds
from medleak.testing import membership_world


def release_of(p):
    """A release that gives record i (named by its pixel) the probabilities p[i]."""
    return Release({"scores": lambda x: np.log(p[x[:, 0].astype(int)])})


def test_scores_by_hand():
    """Two classes of four records; the shadow's members answer .9 in class 0 and .6 in class 1."""
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    member = np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)
    own = np.where(y == 0, np.where(member, 0.9, 0.8), np.where(member, 0.6, 0.5))
    shadow_p = np.where(y[:, None] == [0, 1], own[:, None], 1 - own[:, None])
    target_p = np.tile([[0.85, 0.15]], (8, 1))
    records = Records(np.arange(8, dtype=np.float32)[:, None], y, np.arange(8))
    shadow = Shadow(member, np.zeros(0, bool), release_of(shadow_p))
    knowledge = Knowledge(ProblemSpec(4, 4, 1, (1,), 2), shadows=[shadow])
    challenge = Challenge(records, np.full(8, "natural"))

    # Binary: M(p) = -2 (1 - p) log p.
    def m(p):
        return -2 * (1 - p) * np.log(p)

    expected = np.where(y == 0, (m(0.9) + m(0.8)) / 2 - m(0.85), (m(0.6) + m(0.5)) / 2 - m(0.15))
    scores = ModifiedEntropy().execute(release_of(target_p), challenge, knowledge).scores
    assert np.allclose(scores, expected, atol=1e-6)


def test_without_shadows_the_entropy_alone():
    release, challenge, _, knowledge = membership_world(leak=2.0, n=50, n_shadows=0)
    scores = ModifiedEntropy().execute(release, challenge, knowledge).scores
    assert np.allclose(
        scores, -multiclass.modified_entropy(release.scores(challenge.x), challenge.y)[:, 0]
    )


def test_a_class_without_both_sides_takes_the_threshold_of_all():
    values = np.array([[[1.0], [4.0], [2.0]]])
    found = thresholds(values, np.array([[True, False, True]]), np.array([[0], [0], [1]]))
    assert found == {None: 3.0, 0: 2.5}


def test_classes_of_labels_are_label_and_value():
    assert multilabel.classes(np.array([[0, 1], [1, 0]])).tolist() == [[0, 3], [1, 2]]
    assert multiclass.classes(np.array([2, 0])).tolist() == [[2], [0]]


def test_auxiliary_pool_reads_auxiliary_records_only():
    release, challenge, _, knowledge = membership_world(
        leak=2.0, n=50, n_shadows=3, pool="auxiliary"
    )
    asked = []

    def observed_by(shadow):
        def scores(x):
            asked.append(x)
            return shadow.release.scores(x)

        return replace(shadow, release=Release({"scores": scores}))

    watching = replace(knowledge, shadows=[observed_by(s) for s in knowledge.shadows])
    ModifiedEntropy().execute(release, challenge, watching)
    assert len(asked) == 3
    assert all(x is knowledge.auxiliary.x for x in asked)
    with pytest.raises(MedleakError, match="no auxiliary records"):
        ModifiedEntropy().execute(release, challenge, replace(knowledge, auxiliary=None))
