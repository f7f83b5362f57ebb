"""The contract of goals: a goal that no attack can be tried on, or that sees no leak, does not pass."""

import pytest

from medleak.goals.property.goal import Property
from medleak.testing import check_goal


@pytest.mark.parametrize("goal", ["attribute", "reconstruction"])
def test_shipped_goals_pass(goal):
    assert check_goal({"_target_": f"medleak.goals.{goal}.goal.{goal.capitalize()}"}) == []


def test_a_goal_without_an_attack_does_not_pass():
    class Nobody(Property):
        """A goal that nobody is after."""

        name = "nobody"

    assert check_goal(Nobody()) == ["no attack names the goal 'nobody' and suits its example"]


def test_what_is_no_goal_is_said_to_be_none():
    assert check_goal({"_target_": "medleak.metrics.membership.AUC"})
