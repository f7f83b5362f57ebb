"""Plugin title: say here what it protects."""

from __future__ import annotations

from medleak.api import Defense, ProblemSpec, Records, replace


class PluginName(Defense):
    """Blackens a frame around each image before training.

    Args:
        width: of the frame, in pixels.
    """

    slot = "records"

    def __init__(self, *, width: int = 2):
        self.width = width

    def invalid_parameters(self) -> list[str]:
        return [] if self.width >= 1 else [f"width {self.width}: at least 1 is needed"]

    def incompatibilities(self, problem: ProblemSpec, trainer: object) -> list[str]:
        images = len(problem.in_shape) == 3
        return [] if images else [f"PluginName needs images: in_shape {problem.in_shape}"]

    def apply(self, subject: Records, *, problem: ProblemSpec) -> Records:
        x, w = subject.x.copy(), self.width
        x[..., :w, :] = x[..., -w:, :] = 0
        x[..., :, :w] = x[..., :, -w:] = 0
        return replace(subject, x=x)
