"""Names of the first version that plugins may still use: each is found for one release, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "Attributes": "AttributeTruth",
    "Composition": "MessageAttributeChallenge",
    "Guesses": "AttributeScores",
    "Inquiry": "AttributeChallenge",
    "Insight": "InformedPrior",
    "Originals": "ReconstructionTruth",
    "Portraits": "InvertedImages",
    "Puzzle": "ReconstructionChallenge",
    "Rebuilt": "Reconstructions",
    "Scored": "MembershipScores",
    "Secret": "MembershipTruth",
    "Setting": "ProblemSpec",
    "Shares": "PropertyTruth",
    "Sitters": "InversionTruth",
    "Sittings": "InversionChallenge",
    "Suspicion": "PropertyChallenge",
    "Verdicts": "PropertyScores",
    "Watch": "Observer",
}
"""Old name -> name in `medleak.api`."""
METHODS: Mapping[str, str] = {
    "carrying": "with_stages",
    "ceiling": "upper_bound",
    "faults": "invalid_parameters",
    "owned": "records_of_client",
    "prove": "verify_surrogate",
    "refusals": "incompatibilities",
    "unguided": "prior_samples",
    "untamperable": "malicious_server_incompatibility",
    "unwatchable": "client_view_incompatibility",
    "watched": "observed_by",
}
"""Old name of a method that a plugin may override -> its name."""


def adopt_methods(cls: type) -> None:
    """Let methods that a class defines under an old name count under the new one.

    Without this they would never be called: a defense would refuse nothing, and promise what it does not keep.
    """
    for old, new in METHODS.items():
        if old in vars(cls) and new not in vars(cls):
            _warn(f"{cls.__name__}.{old}", new)
            setattr(cls, new, vars(cls)[old])


def renamed(name: str) -> str | None:
    """The present name of what was `name`, with a warning; None for any other."""
    new = NAMES.get(name)
    if new:
        _warn(f"medleak.api.{name}", new)
    return new


def _warn(old: str, new: str) -> None:
    text = f"{old} is now {new}; the old name goes with the next release"
    warnings.warn(text, DeprecationWarning, stacklevel=4)
