"""The pool of training runs that shadow attacks, leave-one-out and audits draw from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Shadow, View
from medleak.released import release_of
from medleak.runs import RunSpec
from medleak.slots import Slots
from medleak.store import Store

REFERENCE = -1
"""Place of the held-out replica in `shadow_columns`: the last one."""


def shadow_columns(target: int, k: int, *, pool: str) -> list[int]:
    """The `k` columns that shadow the target of column `target`, then one for the reference.

    The first columns that are not the target's: seeds share all shadows but each other's target, and a
    longer pool contains a shorter one.
    """
    if pool == "auxiliary":
        return list(range(k + 1))
    return [c for c in range(k + 2) if c != target][: k + 1]


@dataclass(frozen=True)
class Pool:
    """A re-iterable pool that opens one stored run at a time, with the views of `access`."""

    specs: Sequence[RunSpec]
    slots: Slots
    store: Store
    access: View
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.specs)

    def __iter__(self) -> Iterator[Shadow]:
        return (self.open(spec) for spec in self.specs)

    def open(self, spec: RunSpec) -> Shadow:
        """One run as the attacker sees it."""
        world = spec.world
        nobody = {"audit": len(world.auxiliary), "auxiliary": len(world.challenge)}[spec.base]
        nobody = np.zeros(nobody, dtype=bool)
        inside = (spec.member, nobody) if spec.base == "audit" else (nobody, spec.member)
        release = release_of(spec, self.slots, self.store, device=self.device)
        return Shadow(*inside, release.granting(self.access))


def replica_check(
    target: Mapping[str, Any],
    shadows: Sequence[Mapping[str, Any]],
    *,
    n_target: int,
    n_pool: int,
    p: float,
) -> list[str]:
    """Reasons why the shadows are no replicas of the target; empty where they are.

    Each mapping holds the facts of a run: "n_members", "criterion", "steps", "sigma", "accuracy",
    "train_accuracy", "collapsed" (it answers one class only) and "scores" (its log-odds on
    evaluation records, which are in no training set).

    The target is drawn from `n_target` patients by fair coins, shadows from `n_pool` with share `p`.

    - size: the number of member patients is within 4 binomial standard deviations of its mean;
    - criterion, and sigma and steps where they are accounted, are equal;
    - accuracies of the target lie within the shadows' spread (4 standard deviations and 3 points);
    - score distribution: the Kolmogorov-Smirnov distance of the target's scores from
      the pooled shadows' is no outlier among the shadows' own leave-one-out distances;
    - collapse: not all shadows answer one class where the target does not, nor the target alone.
      (Where some runs of a recipe collapse and some do not, nothing less is improbable.)
    """
    reasons = []
    draws = [("target", target, n_target, 0.5)]
    draws += [(f"shadow {i}", s, n_pool, p) for i, s in enumerate(shadows)]
    for name, facts, n, share in draws:
        if abs(facts["n_members"] - n * share) > 4 * np.sqrt(n * share * (1 - share)) + 1e-9:
            reasons.append(
                f"{name} has {facts['n_members']} member patients, {n * share:.0f} expected"
            )
    private = ("steps",) if target.get("sigma") is not None else ()
    for fact in ("criterion", "sigma", "clip", "q", "expected_batch", "delta", *private):
        values = {s.get(fact) for s in shadows}
        if values != {target.get(fact)}:
            reasons.append(
                f"{fact} of the target {target.get(fact)}, of the shadows {sorted(map(str, values))}"
            )
    for fact in ("accuracy", "train_accuracy"):
        reasons += _outside(fact, target.get(fact), [s.get(fact) for s in shadows])
    collapsed = [s["collapsed"] for s in shadows]
    if not target["collapsed"] and all(collapsed):
        reasons.append(
            f"{sum(collapsed)} of {len(shadows)} shadows answer one class; the target does not"
        )
    elif target["collapsed"] and not any(collapsed):
        reasons.append(
            f"the target answers one class; {sum(collapsed)} of {len(shadows)} shadows do"
        )
    return reasons + _distribution(target["scores"], [s["scores"] for s in shadows])


def _outside(name: str, value: float | None, others: Sequence[float | None]) -> list[str]:
    known = np.array([o for o in others if o is not None], dtype=float)
    if value is None or len(known) < 2:
        return []
    allowed = 4 * known.std(ddof=1) * np.sqrt(1 + 1 / len(known)) + 0.03
    if abs(value - known.mean()) <= allowed:
        return []
    return [f"{name} of the target {value:.3f}, of the shadows {known.mean():.3f} +- {allowed:.3f}"]


def _distribution(target: np.ndarray, shadows: Sequence[np.ndarray]) -> list[str]:
    if len(shadows) < 3 or not len(target):
        return []
    from scipy.stats import ks_2samp

    def distance(one: np.ndarray, rest: Sequence[np.ndarray]) -> float:
        return float(ks_2samp(one, np.concatenate(rest), method="asymp").statistic)

    own = [
        distance(shadow, [s for j, s in enumerate(shadows) if j != i])
        for i, shadow in enumerate(shadows)
    ]
    found, allowed = distance(target, shadows), max(own) + 3 * float(np.std(own)) + 0.05
    if found <= allowed:
        return []
    return [f"score distribution: distance {found:.3f} from the shadows, {allowed:.3f} allowed"]
