r"""Reconstruction robustness: how often a reconstruction can succeed under differential privacy.

Let a record Z be drawn from a prior and join records D, all known to the adversary, and let ``kappa`` be
the largest chance of success without the release: ``sup_z P(z succeeds against Z)``. Whatever the
adversary makes of the release, its success is at most

.. math::
    \gamma(\kappa) = \sup \{ P_{D \cup Z}(E) : P_D(E) \le \kappa \},

the largest power of a test of "Z was in" at false-positive rate kappa, which is the roof of
`medleak.metrics.privacy.upper_bounds` at kappa. (Balle et al. 2022, Reconstructing training data with informed
adversaries, IEEE S&P; Hayes et al. 2023, Bounding training data reconstruction in DP-SGD, NeurIPS.)

When it bounds an identification rate
    1. *The guarantee covers the scored unit and the observer.* One record of a patient with several, or
       a promise to outsiders where the server looks on, bounds nothing here
       (`medleak.metrics.privacy.upper_bounds.applicable` sorts units; who observes is for the caller to sort).
    2. *The records scored were drawn uniformly*, given everybody else's data, and kappa counts all that
       is known in addition to the release: see `uniform_prior`. The measured prior-only baseline is one guesser's
       success, a lower bound of kappa: never put it in kappa's place.
    3. *Sampling is not used twice.* A rate over records that are known to have been in the observed
       batch conditions on their having been sampled: the chance of not being in it, on which
       amplification by subsampling rests, is gone. Such a rate is bounded by the guarantees that
       `given_participation` leaves, not by those of the whole run.
    4. *The mean over records, not the largest*: gamma is concave, so it bounds averages over originals,
       batches and observations at the average kappa, and says nothing of one chosen record.

Where any of these fails there is no upper bound: None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medleak.api import Guarantee
from medleak.metrics.privacy.upper_bounds import roof


def rero(guarantees: Sequence[Guarantee], kappa: float) -> float | None:
    """The lowest gamma(kappa) of the DP promises among `guarantees`; None where they allow everything.

    Full-batch Gaussian mechanisms use the closed form, subsampled ones the privacy loss distribution
    (the larger of its two directions where the trade-off is steeper than 1 to 1, so a little above the
    exact value at large kappa), others ``min(e^eps kappa + delta, 1 - e^-eps (1 - delta - kappa))``.

    Args:
        kappa: chance of success without the release, 0..1.
    """
    top = roof(guarantees)
    found = [] if top is None else [float(top.tpr(kappa))]
    found += [
        full_batch(kappa, mechanism["sigma"], mechanism["steps"])
        for mechanism in (g.mechanism for g in guarantees if g.kind == "dp")
        if _is_full_batch(mechanism)
    ]
    return min(found) if found else None


def full_batch(kappa: float, sigma: float, steps: int) -> float:
    r"""``gamma = Phi(Phi^-1(kappa) + sqrt(steps) / sigma)``: every record takes part in every step."""
    from scipy.stats import norm

    return float(norm.cdf(norm.ppf(kappa) + np.sqrt(steps) / sigma))


def given_participation(guarantees: Sequence[Guarantee], times: int) -> list[Guarantee]:
    """What `guarantees` say of a record that is known to have been in at most `times` of the steps.

    Given who took part in which step, the steps without the record say nothing about it and the others
    are full-batch Gaussian ones. A bare (epsilon, delta), whose amplification cannot be undone, is left
    out.

    Args:
        times: the most steps that a scored record took part in, over all that is released.
    """
    known = [g for g in guarantees if g.kind == "dp" and _is_gaussian(g.mechanism)]
    return [
        replace(
            g,
            epsilon=None,
            delta=None,
            accountant="",
            mechanism={**g.mechanism, "q": 1.0, "steps": min(times, int(g.mechanism["steps"]))},
        )
        for g in known
    ]


def uniform_prior(candidates: int, *, guesses: int = 1, labels: int = 1) -> float:
    """kappa where the target is any of `candidates` patients with equal chance: ``guesses labels / candidates``.

    Args:
        candidates: patients that it may be once everybody else's data are known: those of the gallery,
            less the *other* patients of the gallery who were trained on.
        guesses: patients named for one target. Rebuilt images of a batch are assigned to originals with
            the truth at hand, so that all of them count: batch size times k of the k nearest.
        labels: number of classes where the adversary knows the target's; else 1. Knowing it leaves the
            candidates of that label; averaged over labels, chances rise ``labels`` times at most.
    """
    return min(1.0, guesses * labels / candidates)


def monte_carlo(
    kappa: float, mechanism: Mapping[str, Any], *, n: int, rng: np.random.Generator
) -> tuple[float, float]:
    r"""gamma(kappa) and its standard error, by importance sampling of the privacy loss.

    With L the log-likelihood ratio of all steps, gamma is ``P_in(L > t)`` where ``P_out(L > t)`` is kappa.
    Samples come from a mixture of exponential tilts ``dP_l / dP_out = exp(l L - steps K(l))``, l from 0
    (the record is out) over 1 (it is in) to where kappa lies in the middle; weights are ratios to the
    mixture. Plain sampling sees nothing of tails like ``kappa = 1 / N``. A check of the ceilings, not one
    itself.

    Args:
        mechanism: "q", "sigma" and "steps", see `medleak.metrics.privacy.upper_bounds.tradeoff`.
        n: samples.
    """
    steps = int(mechanism["steps"])
    loss, log_mass = _one_step(float(mechanism["q"]), float(mechanism["sigma"]))
    tilts = np.linspace(0.0, max(1.0, _reaching(kappa, loss, log_mass, steps)), 5)
    each = -(-n // len(tilts))
    cumulants = np.array([_cumulant(tilt, loss, log_mass) for tilt in tilts])
    total = np.concatenate(
        [_draw(tilt * loss + log_mass, loss, (steps, each), rng) for tilt in tilts]
    )
    log_density = np.logaddexp.reduce(
        tilts[:, None] * total - steps * cumulants[:, None], axis=0
    ) - np.log(len(tilts))
    order = np.argsort(-total)
    total, log_density = total[order], log_density[order]
    out, inside = np.exp(-log_density), np.exp(total - log_density)
    last = int(np.searchsorted(np.cumsum(out) / len(out), kappa))
    flagged = np.arange(len(out)) < last
    slope = np.exp(total[min(last, len(total) - 1)])
    # The threshold is itself estimated: its error moves gamma by the roof's slope there.
    spread = np.std(np.where(flagged, inside - slope * out, 0.0))
    return float(inside[flagged].sum() / len(out)), float(spread / np.sqrt(len(out)))


def _one_step(q: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """One step's loss on a fine grid of outcomes, and the log mass there where the record is out."""
    z = np.linspace(-9, 9 + 1 / sigma, 20_001) * sigma
    log_mass = -(z**2) / (2 * sigma**2)
    log_mass -= _log_sum(log_mass)
    with np.errstate(divide="ignore"):
        loss = np.logaddexp(np.log1p(-q), np.log(q) + (2 * z - 1) / (2 * sigma**2))
    return loss, log_mass


def _cumulant(tilt: float, loss: np.ndarray, log_mass: np.ndarray) -> float:
    return _log_sum(tilt * loss + log_mass)


def _reaching(kappa: float, loss: np.ndarray, log_mass: np.ndarray, steps: int) -> float:
    """The tilt whose typical loss is exceeded with a chance of about kappa where the record is out."""
    low, high = 0.0, 64.0
    for _ in range(40):
        tilt = (low + high) / 2
        cumulant = _cumulant(tilt, loss, log_mass)
        mean = float((np.exp(tilt * loss + log_mass - cumulant) * loss).sum())
        if steps * (tilt * mean - cumulant) < -np.log(kappa):
            low = tilt
        else:
            high = tilt
    return low


def _draw(
    log_weights: np.ndarray, loss: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Sums over ``shape[0]`` steps, ``(shape[1],)``, one step at a time to stay small."""
    edges = np.cumsum(np.exp(log_weights - _log_sum(log_weights)))
    total = np.zeros(shape[1])
    for _ in range(shape[0]):
        total += loss[np.minimum(np.searchsorted(edges, rng.random(shape[1])), len(loss) - 1)]
    return total


def _log_sum(logs: np.ndarray) -> float:
    """``log sum exp``; on long arrays much faster than ``np.logaddexp.reduce``."""
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).sum()))


def _is_gaussian(mechanism: Mapping[str, Any]) -> bool:
    sigma, steps = mechanism.get("sigma"), mechanism.get("steps")
    named = mechanism.get("name") == "poisson_gaussian" and None not in (sigma, steps)
    return bool(named and 0 < sigma < np.inf and steps >= 1)


def _is_full_batch(mechanism: Mapping[str, Any]) -> bool:
    return _is_gaussian(mechanism) and mechanism.get("q") == 1
