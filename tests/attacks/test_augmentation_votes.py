from dataclasses import replace

import numpy as np
import pytest

from medleak.api import Challenge, Knowledge, MedleakError, Records, Release
from medleak.attacks.membership.augmentation_votes import AugmentationVotes, turned
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

NULL = 3.3 * np.sqrt(401 / (12 * 200 * 200))


def challenge_of(x, y):
    records = Records(np.asarray(x), np.asarray(y), np.arange(len(y)))
    return Challenge(records, np.full(len(y), "natural"))


def left_is_brighter(x):
    half = x.shape[-1] // 2
    return (x[..., :half].mean((1, 2, 3)) > x[..., half:].mean((1, 2, 3))).astype(np.int64)


def test_votes_on_a_release_made_by_hand():
    """Left bright: right as it is and shifted by a pixel, wrong in each mirror image."""
    x = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    x[:2, ..., :4] = 200
    challenge, release = challenge_of(x, [1, 0, 0]), Release({"labels": left_is_brighter})
    knowledge = Knowledge(membership_world(leak=0, n=4, n_shadows=0)[3].problem)
    for queries, rotations, wanted in (("identity", (), [1, 0, 1]), ("flip", (), [0.5, 0.5, 1]),
                                       ("all", (), [0.5, 0.5, 1]), ("identity", (180,), [0.5, 0.5, 1])):  # fmt: skip
        attack = AugmentationVotes(queries=queries, rotations=rotations)
        output = attack.execute(release, challenge, knowledge)
        assert np.allclose(output.scores, wanted)
        assert output.queries == 3 * (
            {"identity": 1, "flip": 2, "all": 18}[queries] + len(rotations)
        )


def test_a_vote_of_several_labels_is_the_share_that_is_right():
    release = Release({"labels": lambda x: np.tile([1, 0, 1, 1], (len(x), 1))})
    challenge = challenge_of(np.zeros((2, 1, 8, 8), np.uint8), [[1, 0, 1, 1], [0, 0, 0, 1]])
    knowledge = membership_world(leak=0, n=4, n_shadows=0)[3]
    assert np.allclose(AugmentationVotes().execute(release, challenge, knowledge).scores, [1, 0.5])


@pytest.mark.parametrize("in_shape", [(1, 8, 8), (12,)])
def test_all_models_are_asked_the_same_in_the_same_order(in_shape):
    release, challenge, _, knowledge = membership_world(
        leak=1.0, n=40, n_shadows=2, in_shape=in_shape
    )
    asked = []

    def observed_by(release):
        sent = []
        asked.append(sent)
        return Release({"labels": lambda x: sent.append(x.tobytes()) or release.view("labels")(x)})

    target = observed_by(release)
    shadows = [replace(s, release=observed_by(s.release)) for s in knowledge.shadows]
    AugmentationVotes().execute(target, challenge, replace(knowledge, shadows=shadows))
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]
    assert len(set(asked[0])) == len(asked[0]) == (22 if len(in_shape) == 3 else 18)
    assert asked[0][0] == challenge.x.tobytes()


@pytest.mark.parametrize(("budget", "each"), [(100, 1), (350, 3), (299, 2), (10**6, 22)])
def test_a_budget_pays_for_the_first_queries(budget, each):
    release, challenge, _, knowledge = membership_world(leak=3.0, n=100, n_shadows=0)
    output = AugmentationVotes().execute(release, challenge, replace(knowledge, budget=budget))
    assert output.queries == 100 * each
    assert set(np.unique(output.scores * each).round(9)) <= set(range(each + 1))
    if each == 1:
        assert np.array_equal(output.scores, release.labels(challenge.x) == challenge.y)


def test_a_budget_below_one_query_per_record_is_refused():
    release, challenge, _, knowledge = membership_world(leak=3.0, n=100, n_shadows=0)
    attack = AugmentationVotes()
    assert attack.incompatibilities(knowledge.problem, {"budget": 100}) == []
    assert "a budget of 98" in attack.incompatibilities(knowledge.problem, {"budget": 98})[0]
    with pytest.raises(MedleakError, match="budget of 99 is less than one query for each of 100"):
        attack.execute(release, challenge, replace(knowledge, budget=99))
    assert release.queries == 0


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
@pytest.mark.parametrize(("task", "in_shape"), [("multiclass", (1, 8, 8)), ("multiclass", (12,)),
                                                ("multilabel", (1, 8, 8))])  # fmt: skip
def test_learned_votes_find_a_planted_leak_and_nothing_else(pool, task, in_shape):
    for leak in (6.0, 0.0):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n=400, n_shadows=3, pool=pool, task=task, in_shape=in_shape
        )
        scores = (
            AugmentationVotes().execute(release.granting("labels"), challenge, knowledge).scores
        )
        found = auc(scores, secret.member)
        assert found > 0.75 if leak else abs(found - 0.5) < NULL


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_the_first_shadows_teach_and_the_others_are_not_asked(pool):
    release, challenge, _, knowledge = membership_world(leak=6.0, n=100, n_shadows=4, pool=pool)
    shadows = list(knowledge.shadows)
    attack = AugmentationVotes(queries="flip", n_teachers=2)
    scores = attack.execute(release, challenge, replace(knowledge, shadows=shadows)).scores
    assert [s.release.queries for s in shadows] == [100 * 6, 100 * 6, 0, 0]
    two = attack.execute(release, challenge, replace(knowledge, shadows=shadows[:2])).scores
    assert np.array_equal(scores, two)


def test_weighing_beats_counting_where_most_queries_say_nothing():
    release, challenge, secret, knowledge = membership_world(leak=6.0, n=400, n_shadows=3)
    learned = AugmentationVotes().execute(release, challenge, knowledge).scores
    counted = AugmentationVotes().execute(release, challenge, replace(knowledge, shadows=None))
    assert auc(learned, secret.member) > auc(counted.scores, secret.member) + 0.05


def test_turning_is_turning():
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 9), dtype=np.uint8)
    for quarter in (1, 2, 3):
        assert np.array_equal(turned(x, 90 * quarter), np.rot90(x, quarter, axes=(2, 3)))
    small = turned(x / np.float32(255), 5)
    assert small.dtype == np.float32
    assert 0 <= small.min() <= small.max() <= 1
    assert np.abs(turned(x, 5) - 255 * small).max() <= 0.51


def test_faults():
    assert AugmentationVotes(queries="all", rotations=[-3, 2.5]).invalid_parameters() == []
    assert "did you mean 'flip'" in AugmentationVotes(queries="flips").invalid_parameters()[0]
    assert AugmentationVotes(rotations="45").invalid_parameters()
    assert AugmentationVotes(rotations=[True]).invalid_parameters()
    assert AugmentationVotes(noise=0).invalid_parameters()
    assert "n_teachers 0" in AugmentationVotes(n_teachers=0).invalid_parameters()[0]
