"""A stage whose `makes` stands in another file, where nobody reads it before the run."""

from released import Noisy


class Elsewhere(Noisy):
    """As `Noisy`, which says in its own file what it makes."""
