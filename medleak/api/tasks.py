"""The tasks of the bench: one class, several labels, a class for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import scores
from medleak.api.answers import Answers, Overlaps
from medleak.api.task import FLOOR, Task, register_task, unit_interval


class Multiclass(Task):
    """One class for each record: y ``(N,)``, logits and scores ``(N, C)``, cross-entropy."""

    name = "multiclass"
    criterion = "cross_entropy"
    one_class = True
    utility = ("accuracy", "balanced_accuracy", "auroc", "mcc")

    def label_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return ()

    def n_values(self, n_outputs: int) -> int:
        return n_outputs

    def one_hot(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        return np.eye(n_outputs)[y]

    def classes(self, y: np.ndarray) -> np.ndarray:
        return y[:, None]

    def output_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (n_outputs,)

    def losses(self, z: Any, y: Any) -> Any:
        from torch.nn import functional

        return functional.cross_entropy(z, y, reduction="none")

    def soft_losses(self, z: Any, p: Any) -> Any:
        return -(p * z.log_softmax(1)).sum(dim=1)

    def hits(self, z: Any, y: Any) -> Any:
        return self.decided(z) == y

    def log_probabilities(self, z: np.ndarray) -> np.ndarray:
        return scores.softmax_log(z, axis=1)

    def decided(self, z: Any) -> Any:
        return z.argmax(1)

    def drawn(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (z + rng.gumbel(size=z.shape)).argmax(1)

    def towards(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        return np.eye(n_outputs)[y]

    def answered(self, y: np.ndarray, labels: np.ndarray, log_p: np.ndarray | None) -> Answers:
        n_classes = int(max(y.max(initial=0), labels.max(initial=0))) + 1
        y, labels = y[:, None], labels[:, None]
        if log_p is None:
            return Answers(y, labels, n_classes, None, None)
        n_classes = max(n_classes, log_p.shape[1])
        if log_p.shape[1] == 2:  # one class against the rest is the same ranking twice
            return Answers(y, labels, n_classes, _ranking(log_p)[:, None], y == 1)
        return Answers(y, labels, n_classes, log_p, y == np.arange(log_p.shape[1]))


class Multilabel(Task):
    """Several labels, each absent or present: y ``(N, L)`` 0/1, logits ``(N, L)``, scores ``(N, L, 2)``.

    The training loss is the binary cross-entropy, averaged over labels.
    """

    name = "multilabel"
    criterion = "bce"
    utility = ("accuracy", "balanced_accuracy", "auroc", "mcc")

    def label_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (n_outputs,)

    def n_values(self, n_outputs: int) -> int:
        return 2

    def one_hot(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        return y.astype(np.float64)

    def classes(self, y: np.ndarray) -> np.ndarray:
        """Label l has the classes 2l (absent) and 2l + 1 (present)."""
        return 2 * np.arange(y.shape[1]) + y

    def output_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (n_outputs,)

    def losses(self, z: Any, y: Any) -> Any:
        return self._each(z, y).mean(1)

    def total_loss(self, z: Any, y: Any) -> Any:
        return self._each(z, y).sum()

    def soft_losses(self, z: Any, p: Any) -> Any:
        from torch.nn import functional

        return -(p[..., 0] * functional.logsigmoid(-z) + p[..., 1] * functional.logsigmoid(z)).sum(
            1
        )

    def log_probabilities(self, z: np.ndarray) -> np.ndarray:
        z = z.astype(np.float64)
        return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=-1)

    def logits_of(self, p: np.ndarray) -> np.ndarray:
        """Of the probability that each label is present, ``(N, L)``."""
        p = unit_interval(p)
        with np.errstate(divide="ignore"):
            return np.log(p) - np.log1p(-p)

    def decided(self, z: Any) -> Any:
        return z > 0

    def drawn(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (z + rng.logistic(size=z.shape) > 0).astype(np.int64)

    def towards(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        return 2.0 * y - 1.0

    def answered(self, y: np.ndarray, labels: np.ndarray, log_p: np.ndarray | None) -> Answers:
        if log_p is None:
            return Answers(y, labels, 2, None, None)
        return Answers(y, labels, 2, _ranking(log_p), y == 1)

    def _each(self, z: Any, y: Any) -> Any:
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(z, y.to(z), reduction="none")


class Segmentation(Task):
    r"""A class for each pixel: y ``(N, H, W)``, logits ``(N, K, H, W)``, scores ``(N, H, W, K)``.

    Class 0 is the background. The training loss of an image is its mean cross-entropy over pixels, and
    that loss is what membership shows in: pixels of one image depend on each other, and attacks on
    segmentation score the image as a whole (Shafran et al. 2021, Membership Inference Attacks are
    Easier on Difficult Problems, ICCV; Chobola et al. 2023, Membership Inference Attacks Against
    Semantic Segmentation Models, AISec). So every image is one scored question:

    - its log-probability is the mean over pixels, :math:`\ell = \frac1P \sum_i \log p_{y_i}`;
    - its logit score is :math:`\ell - \log(1 - e^\ell)`, that of the geometric mean probability;
    - its tempered probability is the geometric mean over pixels, for a product would vanish;
    - its modified entropy is the mean over pixels.
    """

    name = "segmentation"
    criterion = "pixel_cross_entropy"
    spatial = True
    utility = ("dice", "iou", "pixel_accuracy")

    def label_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(in_shape[1:])

    def n_values(self, n_outputs: int) -> int:
        return n_outputs

    def one_hot(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        """Share of the pixels in each class."""
        flat = y.reshape(len(y), -1)
        return np.stack([(flat == c).mean(axis=1) for c in range(n_outputs)], axis=1)

    def classes(self, y: np.ndarray) -> np.ndarray:
        """All images in one class."""
        return np.zeros((len(y), 1), dtype=np.int64)

    def output_shape(self, n_outputs: int, in_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (n_outputs, *in_shape[1:])

    def losses(self, z: Any, y: Any) -> Any:
        from torch.nn import functional

        return functional.cross_entropy(z, y, reduction="none").flatten(1).mean(1)

    def soft_losses(self, z: Any, p: Any) -> Any:
        return -(p * z.log_softmax(1).movedim(1, -1)).sum(-1).flatten(1).mean(1)

    def log_probabilities(self, z: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(scores.softmax_log(z, axis=1), 1, -1))

    def decided(self, z: Any) -> Any:
        return z.argmax(1)

    def drawn(self, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (z + rng.gumbel(size=z.shape)).argmax(1)

    def towards(self, y: np.ndarray, n_outputs: int) -> np.ndarray:
        return np.moveaxis(np.eye(n_outputs)[y], -1, 1)

    def pooled(self, values: np.ndarray) -> np.ndarray:
        return values.mean(axis=1, keepdims=True)

    def answered(self, y: np.ndarray, labels: np.ndarray, log_p: np.ndarray | None) -> Overlaps:
        return Overlaps.of(y, labels)

    def collapsed(self, labels: np.ndarray) -> bool:
        """Whether every pixel of every image is of one class."""
        return len(np.unique(labels)) == 1

    def spread(self, log_p: np.ndarray) -> np.ndarray:
        """Mean over the pixels of each image, ``(N,)``."""
        return np.ptp(log_p, axis=-1).reshape(len(log_p), -1).mean(axis=1)

    def _logit_score(self, log_p: np.ndarray, y: np.ndarray, floor: float) -> np.ndarray:
        whole = self.true_log_probability(log_p, y, floor=floor)
        return whole - np.log(np.maximum(-np.expm1(whole), np.exp(FLOOR)))


def _ranking(log_p: np.ndarray) -> np.ndarray:
    """Log-odds of the second outcome, where both may be impossible."""
    with np.errstate(invalid="ignore"):
        odds = log_p[..., 1] - log_p[..., 0]
    return np.nan_to_num(odds, nan=0.0, posinf=np.inf, neginf=-np.inf)


multiclass = register_task(Multiclass())
multilabel = register_task(Multilabel())
segmentation = register_task(Segmentation())
