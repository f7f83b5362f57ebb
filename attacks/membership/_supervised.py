"""A membership classifier learned on shadows, whose members the attacker knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medleak.api import Challenge, Knowledge, Records, Shadow
from medleak.attacks.membership._queries import inside, known
from medleak.attacks.membership._shadows import each

CLASSIFIERS = ("logistic", "mlp")


def examples(
    observe: Callable[[Shadow, Records], np.ndarray],
    challenge: Challenge,
    knowledge: Knowledge,
    who: str,
    *,
    most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What is observed of each shadow, ``(K, N, F)``, and whether it was trained on it, ``(K, N)``.

    Args:
        observe: a shadow and records to features ``(N, F)``.
        challenge, knowledge: of the attack.
        who: the attack, for the message.
        most: how many shadows are observed, the first ones (None: all).

    Raises:
        MedleakError: ``pool=auxiliary`` without auxiliary records.
    """
    records = known(knowledge, challenge, who)
    shadows = each(knowledge, most=most)
    seen = [(observe(shadow, records), inside(knowledge, shadow)) for shadow in shadows]
    features, member = zip(*seen, strict=True)
    return np.stack(features), np.stack(member)


def learned(
    classifier: str, features: np.ndarray, member: np.ndarray, *, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """How sure a classifier is of membership, learned on standardised features.

    Args:
        classifier: "logistic" (regression; log-odds) or "mlp" (one hidden layer of 64; probability).
        features: ``(..., F)``, finite.
        member: ``(...)`` bool.
        seed: of the neural network.

    Returns:
        A function of ``(N, F)`` features to ``(N,)`` scores; they are 0 where `member` is constant.
    """
    features, member = features.reshape(-1, features.shape[-1]), member.ravel()
    if member.all() or not member.any():
        return lambda new: np.zeros(len(new))
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if classifier == "logistic":
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return model.fit(features, member).decision_function
    network = MLPClassifier((64,), early_stopping=True, random_state=seed, max_iter=200)
    model = make_pipeline(StandardScaler(), network).fit(features, member)
    return lambda new: model.predict_proba(new)[:, 1]
