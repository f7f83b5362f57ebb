"""Serve the predicted label and nothing else."""

from __future__ import annotations

from medleak.api import Defense, ProblemSpec, Release


class LabelOnly(Defense):
    """Answers with the predicted label; confidences and parameters are withheld.

    Label-only attacks remain possible (Choquette-Choo et al. 2021): hiding scores is no guarantee.
    """

    slot = "serve"
    version = 1
    paper = "Choquette-Choo et al., Label-Only Membership Inference Attacks, ICML 2021"
    hides = {
        "scores": "the service answers with the label only",
        "weights": "served behind an interface: the parameters stay with the hospital",
    }

    def __init__(self):
        """There is nothing to set."""

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        return subject.without(self.hides)
