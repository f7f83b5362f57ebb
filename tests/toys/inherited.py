"""A stage whose `makes` stands in the file of its base."""

from released import Noisy


class Elsewhere(Noisy):
    """As `Noisy`, which says in its own file what it makes."""
