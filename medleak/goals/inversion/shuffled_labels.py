"""The control of model inversion: a target whose labels mean nothing."""

from __future__ import annotations

from dataclasses import replace

from medleak.api import Defense, ProblemSpec, Records
from medleak.core.keys import array_digest, rng_for


class ShuffledLabels(Defense):
    """Labels handed out at random among the training records, anew for each set of them.

    Such a model knows its records, and no class: it learnt each by heart under a name drawn by lot. An attack
    may show real people well from it, but not those asked for: of K equally frequent classes it is right about
    1 time in K, over draws. In one draw some classes happen to hold scans of their own person, and pictures of
    a class are alike, so that the share of right ones scatters as that of K classes, not of all pictures, which
    is what a row's interval says. What is rebuilt of a class from such a model is owed to the attack's prior.
    """

    slot = "records"
    version = 2

    def apply(self, subject: Records, *, problem: ProblemSpec) -> Records:
        # By content: by size alone all columns would share one draw, and their average its luck.
        seed = array_digest(subject.x, subject.y)
        order = rng_for("shuffled labels", seed).permutation(len(subject))
        return replace(subject, y=subject.y[order])
