"""Membership by quantile regression, without shadows."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, MedleakError, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor
from medleak.attacks._arguments import whole
from medleak.attacks.membership._queries import population

FOLDS = 5
SIDE = 16
"""Pixels a side to which images are averaged before their principal components are taken."""
MOST_CATEGORIES = 255
"""What scikit-learn's trees hold apart; more classes are read as a number."""
LEAST_RESIDUAL = 1e-3
LOG_ABS_NORMAL = -0.6351814227307392
"""Mean of log |Z| for a standard normal Z: -(Euler's gamma + log 2) / 2."""


class QuantileRegression(Attack):
    r"""How far the logit score lies above what non-members like the record have; no shadows.

    .. math::
        s(x, y) = \frac{\phi(x, y) - \hat\mu(v(x), y)}{\hat\sigma(v(x), y)}, \qquad
        \phi = \log p_y - \log \sum_{j \ne y} p_j

    :math:`\hat\mu` and :math:`\hat\sigma` are learned on the target's own answers about auxiliary
    records, so that s is the normal quantile at which the score lies among non-members with the same
    features: the paper's Gaussian variant, which does not stop at the highest quantile that was fitted.
    Features v are pixels alone (images averaged to 16 x 16 and projected on `components` principal
    components of the auxiliary images; a table as it is), with the class. Gradient-boosted trees
    (scikit-learn) regress the score, and then the logarithm of its absolute residual on patients that
    were left out (5 folds), so that it is not too small. One pair of regressors serves all labels of a
    multi-label task; the s of its labels add up.

    Args:
        components: principal components of the images.
        max_population: most auxiliary records used; drawn with the attack's generator.

    Raises:
        MedleakError: fewer than 5 auxiliary patients.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("auxiliary", "labels"))
    paper = "Bertran et al. 2023, Scalable Membership Inference Attacks via Quantile Regression, NeurIPS"

    def __init__(self, *, components: int = 32, max_population: int = 10000):
        self.components = components
        self.max_population = max_population

    def invalid_parameters(self) -> list[str]:
        return whole("components", self.components) + whole("max_population", self.max_population)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        records, _ = population(
            self._knowledge, "quantile regression", most=self.max_population, spent=len(challenge)
        )
        if len(np.unique(records.patients)) < FOLDS:
            raise MedleakError(f"quantile regression needs {FOLDS} auxiliary patients or more")
        log_p = release.scores(challenge.x)
        floor = zero_floor(log_p)
        phi = self._task.logit_score(log_p, challenge.y, floor=floor)
        phi_z = self._task.logit_score(release.scores(records.x), records.y, floor=floor)
        project = projection(records.x, self.components)
        queried, seen = (
            rows(project(r.x), self._task.classes(r.y)) for r in (challenge.records, records)
        )
        patients = np.repeat(records.patients, phi_z.shape[1])
        mean, log_spread = gaussian_head(seen, phi_z.ravel(), patients, queried)
        standardised = (phi.ravel() - mean) * np.exp(-log_spread)
        return standardised.reshape(phi.shape).sum(axis=1)


def projection(x: np.ndarray, components: int) -> Any:
    """Images ``(M, C, H, W)`` to a function onto their principal components; of a table, itself."""
    if x.ndim != 4:
        return lambda table: table
    from sklearn.decomposition import PCA

    pixels = averaged(x)
    pca = PCA(min(components, *pixels.shape), svd_solver="full").fit(pixels)
    return lambda images: pca.transform(averaged(images))


def averaged(x: np.ndarray) -> np.ndarray:
    """Images averaged over blocks to at most 16 x 16, as rows; what is left over at the edges is cut."""
    n, channels, height, width = x.shape
    down, across = max(1, height // SIDE), max(1, width // SIDE)
    x = x[:, :, : height // down * down, : width // across * across]
    blocks = x.reshape(n, channels, height // down, down, width // across, across)
    return blocks.mean(axis=(3, 5), dtype=np.float64).reshape(n, -1)


def rows(v: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A row per record and label, ``(N L, 1 + F)``: its class of `own` ``(N, L)``, then features."""
    return np.column_stack([own.ravel(), np.repeat(v, own.shape[1], axis=0)])


def gaussian_head(
    seen: np.ndarray, phi: np.ndarray, groups: np.ndarray, queried: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log standard deviation for the rows `queried`, learned on rows ``(P, F)`` and `phi`.

    The mean is that of the folds' regressors, each fitted without the `groups` of its fold.
    """
    from sklearn.model_selection import GroupKFold

    residual, mean = np.empty(len(phi)), np.zeros(len(queried))
    for fitted, left_out in GroupKFold(FOLDS).split(seen, groups=groups):
        trees = regressor(seen, max_iter=50).fit(seen[fitted], phi[fitted])
        residual[left_out] = phi[left_out] - trees.predict(seen[left_out])
        mean += trees.predict(queried) / FOLDS
    least = LEAST_RESIDUAL * max(float(np.std(residual)), LEAST_RESIDUAL)
    log_size = np.log(np.maximum(np.abs(residual), least))
    # Shallower than the mean: a spread that follows single residuals would divide by chance.
    spread = regressor(seen, max_iter=20, min_samples_leaf=50).fit(seen, log_size)
    return mean, spread.predict(queried) - LOG_ABS_NORMAL


def regressor(seen: np.ndarray, **options: Any) -> Any:
    """Boosted trees for rows whose first column is the class."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    categories = [0] if seen[:, 0].max() < MOST_CATEGORIES else None
    return HistGradientBoostingRegressor(
        categorical_features=categories, early_stopping=False, random_state=0, **options
    )
