"""The control of model inversion: a target whose labels mean nothing."""

from __future__ import annotations

from dataclasses import replace

from medleak.api import Defense, ProblemSpec, Records
from medleak.core.keys import array_digest, rng_for


class ShuffledLabels(Defense):
    """Permutes the labels of the training records at random, with a new permutation for each training set.

    Such a model memorises its records but knows no class. An attack may show real people from it, but not
    the requested ones: with K equally frequent classes it is right about 1 time in K, on average over draws.
    In one draw some classes happen to contain scans of their own person, and images of a class resemble each
    other. So the share of right images varies like that of K classes, not like that of all images; a row's
    interval accounts for this. What an attack shows of a class from such a model comes from its prior.
    """

    slot = "records"
    version = 2

    def apply(self, subject: Records, *, problem: ProblemSpec) -> Records:
        # By content: by size alone all columns would share one draw, and their average its luck.
        seed = array_digest(subject.x, subject.y)
        order = rng_for("shuffled labels", seed).permutation(len(subject))
        return replace(subject, y=subject.y[order])
