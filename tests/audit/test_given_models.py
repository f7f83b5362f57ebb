"""An attack in a script: the arrays become what the bench gives, and what is missing is said."""

from typing import ClassVar

import numpy as np
import pytest

import medleak
from medleak.api import (
    Attack,
    ConfigError,
    DataError,
    Hidden,
    MembershipTruth,
    NotApplicable,
    Release,
    ThreatModel,
)
from medleak.attacks.membership.lira import LiRA
from medleak.attacks.membership.rmia import RMIA
from medleak.attacks.membership.yeom import Yeom
from medleak.goals.membership.membership_world import membership_world
from medleak.metrics.statistics.roc import auc


class Curious(Attack):
    """Keeps what it was given."""

    requires: ClassVar = ThreatModel(goal="membership", access="labels", knowledge=())
    seen: ClassVar[dict] = {}

    def fit(self, release, knowledge):
        self.seen.update(release=release, knowledge=knowledge)

    def run(self, release, challenge):
        self.seen["challenge"] = challenge
        return self.seen["knowledge"].rng.random(len(challenge))


@pytest.fixture(scope="module")
def world():
    release, challenge, truth, known = membership_world(leak=6.0, seed=0, n_shadows=8)
    triples = [(s.release, s.member, s.auxiliary_member) for s in known.shadows]
    return release, challenge, truth, known, triples


@pytest.mark.parametrize("attack", [Yeom(), LiRA(), RMIA()])
def test_the_scores_are_those_of_the_bench(world, attack):
    release, challenge, truth, known, triples = world
    output = medleak.attack(
        attack,
        release,
        challenge.x,
        challenge.y,
        auxiliary=(known.auxiliary.x, known.auxiliary.y),
        shadows=triples,
    )
    known.rng = np.random.default_rng(0)
    wanted = type(attack)().execute(release.granting("scores"), challenge, known)
    np.testing.assert_allclose(output.scores, wanted.scores)
    assert output.queries == wanted.queries > 0
    assert isinstance(truth, MembershipTruth)
    assert auc(output.scores, truth.member) > 0.7


def labels_only():
    return Release.from_callable(lambda x: np.zeros(len(x), int), returns="labels")


def test_what_an_attack_is_given():
    x, y = np.zeros((6, 4)), np.array([0, 1, 2, 0, 1, 2])
    release, out = labels_only(), np.zeros(6, bool)
    asked = dict(patients=list("aabbcc"), auxiliary=(x[:2], y[:2]), shadows=[(release, out)])
    first = medleak.attack(Curious(), release, x, y, **asked).scores
    challenge, known = Curious.seen["challenge"], Curious.seen["knowledge"]
    assert challenge.patients.tolist() == [0, 0, 1, 1, 2, 2]
    assert challenge.x.dtype == np.float32
    assert (known.problem.n_outputs, known.problem.max_records) == (3, 2)
    assert (known.problem.unit, known.pool) == ("patient", "auxiliary")
    assert next(iter(known.shadows)).auxiliary_member.tolist() == [False, False]
    assert "weights" not in Curious.seen["release"].views
    assert (medleak.attack(Curious(), release, x, y, **asked).scores == first).all()
    assert (medleak.attack(Curious(), release, x, y, seed=1).scores != first).all()


@pytest.mark.parametrize(
    ("task", "y", "n"),
    [
        ("multilabel", np.eye(14, dtype=int)[:5], 14),
        ("multilabel", np.zeros((5, 1), int), 1),
        ("segmentation", np.full((5, 3, 3), 2), 3),
    ],
)
def test_outputs_are_counted_by_the_task(task, y, n):
    x = np.zeros((5, 1, 3, 3), np.uint8)
    medleak.attack(Curious(), labels_only(), x, y, task=task)
    assert Curious.seen["knowledge"].problem.n_outputs == n


X, Y = np.zeros((6, 4)), np.array([0, 1] * 3)


@pytest.mark.parametrize(
    ("attack", "change", "error", "words"),
    [
        (LiRA(), {}, NotApplicable, "0 shadows: LiRA online needs at least 4"),
        (RMIA(), {}, NotApplicable, "auxiliary="),
        (LiRA(mode="onlin"), {}, ConfigError, "did you mean 'online'"),
        (Yeom(), {"release": labels_only()}, Hidden, "labels only"),
        (Yeom(), {"y": Y[:5]}, DataError, r"x: \(6, 4\) with labels \(5,\)"),
        (Yeom(), {"y": Y / 2}, DataError, "float64"),
        (Yeom(), {"y": Y - 1}, DataError, "from -1"),
        (Yeom(), {"x": X[:, 0]}, DataError, "needed"),
        (Yeom(), {"patients": [1, 2]}, DataError, "patients"),
        (Yeom(), {"shadows": [(labels_only(),)]}, DataError, "1 parts"),
        (Yeom(), {"shadows": [(labels_only(), Y)]}, DataError, "bool"),
        (Yeom(), {"task": "multilabl"}, ConfigError, "did you mean 'multilabel'"),
        (Yeom(), {"task": "multilabel"}, DataError, "do not fit task 'multilabel'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(attack, change, error, words):
    release = Release.from_callable(lambda x: np.full((len(x), 2), 0.5))
    given = {"release": release, "x": X, "y": Y} | change
    with pytest.raises(error, match=words) as caught:
        medleak.attack(attack, **given)
    assert "\n" not in str(caught.value)


def test_another_goal_is_refused():
    class Elsewhere(Curious):
        requires: ClassVar = ThreatModel(goal="property", access="labels")

    with pytest.raises(NotApplicable, match="about property"):
        medleak.attack(Elsewhere(), labels_only(), X, Y)
