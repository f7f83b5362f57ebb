"""Plugin title: say here what it protects."""

from __future__ import annotations

from medleak.api import Defense, ProblemSpec, Release


class PluginName(Defense):
    """Keeps the parameters: the model can be asked, and not be taken apart."""

    slot = "release"
    hides = {"weights": "the parameters stay with the hospital"}

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        return subject.without(self.hides)
