"""LOMMA: the logit itself, with features like those of real images, in the target and its surrogates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medleak.api import Knowledge, Release, ThreatModel
from medleak.attacks._arguments import number, whole
from medleak.attacks.model_inversion._base import GuidedInversion
from medleak.attacks.model_inversion._descent import Optimizer
from medleak.attacks.model_inversion._generators import FEWEST, public_answers
from medleak.attacks.model_inversion._losses import LOSSES
from medleak.attacks.model_inversion._priors import Prior, public_images
from medleak.attacks.model_inversion._selection import Selection
from medleak.core.keys import array_digest

if TYPE_CHECKING:
    import numpy as np

    from medleak.attacks.model_inversion._losses import Loss
    from medleak.attacks.model_inversion._surrogates import FeaturesAndLogits


class LOMMA(GuidedInversion):
    r"""Descent on minus a logit, with features like those of real images, in several models at once.

    .. math:: \min_z \frac{1}{|M|} \sum_{m \in M} \Big( -l^m_t(x) +
        \frac{\beta}{D} \lVert f^m(x) - r^m \rVert^2 \Big) + \lambda R(z), \qquad x = G(z)

    M is the target and students of it, of other architectures, distilled on the auxiliary images:
    what fools all of them is less often a quirk of one. f is what enters the last layer, and
    :math:`r^m` is drawn for each image and iteration from a Gaussian with the mean and standard
    deviation of the auxiliary images' features. The logit, unlike the cross-entropy, grows with the class
    alone. The paper builds upon GMI and KED-MI, and has three students.

    Args:
        prior: where images are searched for: a GAN in the paper.
        first, last: selections of starts and ends.
        descent: from each start.
        students: widths of the students, each a convolutional network; none: the target alone.
        epochs: of distillation.
        starts: ends for each image that is answered.
        beta: :math:`\beta`.
        prior_weight: :math:`\lambda`.

    Raises:
        MedleakError: the target does not end in a linear layer.
    """

    version = 1
    requires = ThreatModel(
        goal="inversion",
        access="weights",
        knowledge=("architecture", "auxiliary"),
        adversary="outsider",
        conduct="honest-but-curious",
    )
    paper = (
        "Nguyen et al. 2023, Re-thinking Model Inversion Attacks Against Deep Neural Networks, CVPR"
    )

    loss = "logit"
    crops = None

    def __init__(
        self,
        *,
        prior: Prior,
        first: Selection,
        last: Selection,
        descent: Optimizer,
        students: Sequence[int] = (16, 24, 32),
        epochs: int = 20,
        starts: int = 5,
        beta: float = 1.0,
        prior_weight: float = 0.01,
    ):
        self.prior = prior
        self.first = first
        self.last = last
        self.descent = descent
        self.students = students
        self.epochs = epochs
        self.starts = starts
        self.beta = beta
        self.prior_weight = prior_weight

    def invalid_parameters(self) -> list[str]:
        found = (
            super().invalid_parameters() + whole("epochs", self.epochs) + number("beta", self.beta)
        )
        return found + [fault for w in self.students for fault in whole("students", w)]

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        import torch

        from medleak.attacks.model_inversion._surrogates import features_and_logits, spread

        super().fit(release, knowledge)
        images = public_images(knowledge, "LOMMA", fewest=FEWEST)
        n_outputs = knowledge.problem.n_outputs
        networks = [self._state.oracle.network, *self._surrogates(images, knowledge)]
        looks = [features_and_logits(network, n_outputs) for network in networks]
        self._models = [(look, *spread(look, torch.from_numpy(images))) for look in looks]

    def image_loss(self) -> Loss:
        return lambda images, classes: (
            sum(self._one_model_loss(images, classes, *model) for model in self._models)
            / len(self._models)
        )

    def _one_model_loss(
        self, images: Any, classes: Any, look: FeaturesAndLogits, mean: Any, deviation: Any
    ) -> Any:
        """The loss of the images under one model, ``(n,)``."""
        import torch

        features, logits = look(images)
        drawn = self._state.rng.standard_normal(tuple(features.shape), dtype="float32")
        real = mean + deviation * torch.from_numpy(drawn)
        return LOSSES[self.loss](logits, classes) + self.beta * (features - real).square().mean(
            dim=1
        )

    def _surrogates(self, images: np.ndarray, knowledge: Knowledge) -> list[Any]:
        """The students, trained once for each target."""
        if not self.students:
            return []
        from medleak.attacks.model_inversion._networks import Encoder, unpacked
        from medleak.attacks.model_inversion._surrogates import distilled

        answers, widths = public_answers(images, self._state.oracle), list(self.students)
        name = {
            "students": widths,
            "version": self.version,
            "epochs": self.epochs,
            "target": array_digest(answers.numpy()),
        }

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            seed = int(rng.integers(2**32))
            return distilled(images, answers, widths, epochs=self.epochs, lr=0.002, seed=seed)

        arrays, shape, k = knowledge.keep(name, make), images.shape[1:], answers.shape[1]
        return [
            unpacked(lambda w=width: Encoder(shape, w, k), f"student{i}", arrays)
            for i, width in enumerate(widths)
        ]
