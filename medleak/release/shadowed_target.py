"""One attacked run, and the runs that the attack learns from."""

from __future__ import annotations

from dataclasses import dataclass

from medleak.training.run_spec import RunSpec


@dataclass(frozen=True)
class ShadowedTarget:
    """One run as the target, its shadows, and a held-out replica on which an attack may tune itself."""

    target: RunSpec
    shadows: tuple[RunSpec, ...] = ()
    reference: RunSpec | None = None

    @property
    def specs(self) -> list[RunSpec]:
        """All of them, the target first."""
        return [self.target, *self.shadows, *([self.reference] if self.reference else [])]
