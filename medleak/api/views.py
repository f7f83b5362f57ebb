"""The views of a release: what an adversary may be given. Plugins may register more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medleak.api.errors import ConfigError


@dataclass(frozen=True)
class ViewSpec:
    """One view of a release.

    Attributes:
        name: what an attack's `ThreatModel.access` says.
        summary: what is seen, in one line.
        implies: views that can be computed from it, and are granted with it.
    """

    name: str
    summary: str
    implies: tuple[str, ...] = ()


class Views(Mapping[str, ViewSpec]):
    """All known views by name."""

    def __init__(self, *specs: ViewSpec):
        self._specs = {spec.name: spec for spec in specs}

    def register(self, name: str, summary: str, *, implies: tuple[str, ...] = ()) -> ViewSpec:
        """Add a view; the same one may be registered again (a module that is imported twice).

        Raises:
            ConfigError: another view has this name, or an implied one is unknown.
        """
        spec = ViewSpec(name, summary, implies)
        if self._specs.get(name, spec) != spec:
            raise ConfigError(f"view '{name}' is registered already: {self._specs[name].summary}")
        if unknown := [view for view in implies if view not in self._specs]:
            raise ConfigError(
                f"view '{name}' implies unknown view '{unknown[0]}' (views: {', '.join(self)})"
            )
        self._specs[name] = spec
        return spec

    def granted(self, access: str) -> tuple[str, ...]:
        """`access` and the views that it implies; of an unknown view, itself alone."""
        return (*(self._specs[access].implies if access in self._specs else ()), access)

    def __getitem__(self, name: str) -> ViewSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


VIEWS = Views(
    ViewSpec("labels", "predicted classes of records that are sent"),
    ViewSpec("scores", "log-probabilities of records that are sent", ("labels",)),
    ViewSpec("weights", "the parameters of the model", ("labels", "scores")),
    ViewSpec("updates", "each client's messages of federated training"),
    ViewSpec("aggregate", "the clients' summed messages of federated training"),
    ViewSpec("ciphertext", "encrypted messages"),
    ViewSpec("records", "a released set of records, synthetic or de-identified"),
    ViewSpec(
        "generator", "a generator of records: its parameters, and draws from it", ("records",)
    ),
)
"""The registry of views; `VIEWS.register` adds one."""
