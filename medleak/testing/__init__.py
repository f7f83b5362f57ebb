"""The contract of plugins: `check_attack`, `check_defense`, `check_target`, and a synthetic world.

Each check returns problems, one line each; none means that the plugin passes::

    def test_contract():
        assert check_attack(MyAttack()) == []
"""

from medleak.goals.membership.membership_world import membership_world
from medleak.testing.components import check_attack, check_defense, check_target, not_exercised

__all__ = ["check_attack", "check_defense", "check_target", "membership_world", "not_exercised"]
