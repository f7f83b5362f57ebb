"""What an adversary may be after: one folder a goal. `goal_of` finds them, those of plugins too."""

from medleak.goals.registry import goal_of, known_goals

__all__ = ["goal_of", "known_goals"]
