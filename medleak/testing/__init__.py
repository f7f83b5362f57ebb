"""The contract of plugins: a check for each kind of component, and a synthetic world.

Each check returns problems, one line each; none means that the plugin passes::

    def test_contract():
        assert check_attack(MyAttack()) == []
"""

from medleak.goals.membership.membership_world import membership_world
from medleak.testing.components import (
    check_attack,
    check_dataset,
    check_defense,
    check_metric,
    check_model,
    check_recipe,
    check_target,
    not_exercised,
)

__all__ = [
    "check_attack",
    "check_dataset",
    "check_defense",
    "check_metric",
    "check_model",
    "check_recipe",
    "check_target",
    "membership_world",
    "not_exercised",
]
