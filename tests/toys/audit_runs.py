"""What several audits of epsilon share."""

from scipy.stats import binom

DELTA = 1e-5


def most_alarms(repeats, level=0.95):
    """So many false alarms or fewer come in 999 of 1000 tests of a bound at its nominal level."""
    return binom.ppf(0.999, repeats, 1 - level)
