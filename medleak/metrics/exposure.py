"""How exposed each patient is: leakage is uneven, and an average hides the worst of it.

Needs several targets, each with its own draw of members (leave-one-out; Aerni et al. 2024, Evaluations
of machine learning privacy defenses are misleading, CCS). Where targets are each other's shadows, what
one says of a patient holds what the others know: choosing the most exposed on some targets and judging
them on the rest then finds exposure even where nothing leaks. Sound figures need two halves of the
targets, each shadowed by itself (``exposed=0.1``); other rankings describe, and prove nothing.
"""

from __future__ import annotations

import numpy as np


def ranks(scores: np.ndarray) -> np.ndarray:
    """Each target's scores as ranks in 0..1, ties averaged, ``(T, N)``: comparable over targets."""
    from scipy.stats import rankdata

    return (rankdata(scores, axis=1) - 0.5) / scores.shape[1]


def vulnerability(ranked: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Mean rank as a member less mean rank as a non-member, ``(N,)``; 0 where either never happened.

    Args:
        ranked: ``(T, N)``, see `ranks`.
        member: ``(T, N)`` bool.
    """
    inside, outside = member.sum(0), (~member).sum(0)
    apart = (ranked * member).sum(0) / np.maximum(inside, 1)
    apart -= (ranked * ~member).sum(0) / np.maximum(outside, 1)
    return np.where((inside > 0) & (outside > 0), apart, 0.0)
