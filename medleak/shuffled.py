"""The control of model inversion: a target whose labels mean nothing."""

from __future__ import annotations

from dataclasses import replace

from medleak.api import Defense, Records, Setting
from medleak.keys import rng_for


class ShuffledLabels(Defense):
    """Labels handed out at random among the training records.

    Such a model knows its records, and no class: what is rebuilt of a class from it is owed to the
    attack's prior.
    """

    slot = "records"
    version = 1

    def apply(self, subject: Records, *, setting: Setting) -> Records:
        order = rng_for("shuffled labels", len(subject)).permutation(len(subject))
        return replace(subject, y=subject.y[order])
