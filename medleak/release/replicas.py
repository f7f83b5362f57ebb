"""Whether shadows are replicas of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
    "train_accuracy", "size" (of a released set), "collapsed" (it answers one class only) and "scores"
    (its log-odds on evaluation records, which are in no training set; or their distances from what is
    released).

    The target is drawn from `n_target` patients by fair coins, shadows from `n_pool` with share `p`.

    - members: the number of member patients is within 4 binomial standard deviations of its mean;
    - criterion, and sigma and steps where they are accounted, are equal;
    - accuracies of the target lie within the shadows' spread (4 standard deviations and 3 points);
    - score distribution: the Kolmogorov-Smirnov distance of the target's scores from
      the pooled shadows' is no outlier among the shadows' own leave-one-out distances;
    - size: a set of records has as many as the shadows' (4 standard deviations and 5%);
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
    sizes = [s.get("size") for s in shadows]
    slack = 0.05 * float(np.mean([n for n in sizes if n is not None] or [0]))
    reasons += _outside("size", target.get("size"), sizes, slack=slack)
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


def _outside(
    name: str, value: float | None, others: Sequence[float | None], *, slack: float = 0.03
) -> list[str]:
    known = np.array([o for o in others if o is not None], dtype=float)
    if value is None or len(known) < 2:
        return []
    allowed = 4 * known.std(ddof=1) * np.sqrt(1 + 1 / len(known)) + slack
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
