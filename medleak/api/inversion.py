"""What is asked of model inversion, and what its answers are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medleak.api.challenge import GoalChallenge


@dataclass(frozen=True)
class InversionChallenge(GoalChallenge):
    """What a model-inversion attack is asked: a picture of each of some classes.

    Attributes:
        classes: ``(K,)`` int, indices of outputs of the model.
        n_images: M, the pictures of each class that count.
        in_shape: of one record, ``(C, H, W)``; values in 0..1.
    """

    answer = "reconstructions"

    classes: np.ndarray
    n_images: int
    in_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the answer, ``(K, M, C, H, W)``."""
        return (len(self.classes), self.n_images, *self.in_shape)


@dataclass(frozen=True)
class InvertedImages:
    """What an inversion metric reads in addition to the truth.

    Attributes:
        images: ``(K, M, C, H, W)`` float in 0..1.
        classes: target class of each row of images, ``(K,)`` int.
        scores: the evaluator's log-probabilities of the images, ``(K, M, outputs)``.
        features: its penultimate activations, ``(K, M, D)``.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class InversionTruth:
    """The truth about `InvertedImages`.

    Attributes:
        images, y, features: of the records that the model was trained on, ``(N, C, H, W)`` in 0..1,
            ``(N,)`` and, by the evaluator, ``(N, D)``.
        others, others_y: records of the same classes that it was not trained on.
    """

    images: np.ndarray
    y: np.ndarray
    features: np.ndarray
    others: np.ndarray
    others_y: np.ndarray
