"""Priors that are learnt: networks that draw images like the attacker's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medleak.api import Knowledge
from medleak.attacks._arguments import number, whole
from medleak.attacks.model_inversion._priors import Prior, public_images
from medleak.core.keys import array_digest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medleak.attacks.model_inversion._decoders import Decoder
    from medleak.attacks.model_inversion._oracle import Oracle

FEWEST = 64
"""Auxiliary images that a generator is learnt from."""
OCTAVE = 8
"""Channels that are normalised together: widths are multiples of it."""


class GAN(Prior):
    r"""A Wasserstein GAN with gradient penalty on the auxiliary images.

    .. math:: x(z) = G(z), \qquad z \sim N(0, I), \qquad R(z) = -D(G(z))

    See `wasserstein`. Trained in about a minute on one core: a narrow generator, two steps of the critic
    for one of the generator where the paper has five (in the same time that draws better images), and
    the mean of the last generators.

    Args:
        dim: numbers in a point.
        width: channels of the finest grid, a multiple of 8.
        steps: of the generator.
        critic_steps: of the critic before each.
        lr: of Adam.
        reach: largest absolute value of a coordinate of a queried point.

    Gulrajani et al. 2017, Improved Training of Wasserstein GANs, NeurIPS.
    """

    version = 1

    def __init__(
        self,
        *,
        dim: int = 64,
        width: int = 16,
        steps: int = 600,
        critic_steps: int = 2,
        lr: float = 0.001,
        reach: float = 3.0,
    ):
        self.dim = dim
        self.width = width
        self.steps = steps
        self.critic_steps = critic_steps
        self.lr = lr
        self.reach = reach

    def invalid_parameters(self) -> list[str]:
        return faults_of(self) + whole("critic_steps", self.critic_steps)

    def fit(self, knowledge: Knowledge, oracle: Oracle) -> Decoder:
        from medleak.attacks.model_inversion._decoders import GeneratorDecoder
        from medleak.attacks.model_inversion._gan_training import Plan, wasserstein
        from medleak.attacks.model_inversion._networks import Encoder, Generator, unpacked

        images = public_images(knowledge, "a generator", fewest=FEWEST)
        plan = Plan(self.steps, self.critic_steps, self.lr)

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            sizes = {"dim": self.dim, "width": self.width}
            return wasserstein(images, **sizes, plan=plan, seed=int(rng.integers(2**32)))

        arrays = knowledge.keep(name_of(self), make)
        shape, width = images.shape[1:], self.width
        generator = unpacked(lambda: Generator(self.dim, shape, width), "generator", arrays)
        critic = unpacked(lambda: Encoder(shape, width), "critic", arrays)
        return GeneratorDecoder(generator, self.reach, lambda x: -critic(x).squeeze(1))


class DistillingGAN(Prior):
    r"""A GAN whose critic also learns what the target says of the auxiliary images.

    .. math:: x(z) = G(z), \qquad z \sim N(0, I), \qquad R(z) = -\log D(G(z))

    See `distilling`. What tells the target's classes apart is then what images are made of. The
    generator is drawn towards the critic's features, which needs no gradient penalty: a step costs less
    than that of `GAN`.

    Args:
        dim: numbers in a point.
        width: channels of the finest grid, a multiple of 8.
        steps: of the generator, each after one of the critic.
        lr: of Adam.
        reach: largest absolute value of a coordinate of a queried point.

    Chen et al. 2021, Knowledge-Enriched Distributional Model Inversion Attacks, ICCV.
    """

    version = 1

    def __init__(
        self,
        *,
        dim: int = 64,
        width: int = 16,
        steps: int = 1000,
        lr: float = 0.001,
        reach: float = 3.0,
    ):
        self.dim = dim
        self.width = width
        self.steps = steps
        self.lr = lr
        self.reach = reach

    def invalid_parameters(self) -> list[str]:
        return faults_of(self)

    def fit(self, knowledge: Knowledge, oracle: Oracle) -> Decoder:
        from medleak.attacks.model_inversion._decoders import GeneratorDecoder
        from medleak.attacks.model_inversion._gan_training import Plan, distilling, unreal
        from medleak.attacks.model_inversion._networks import Encoder, Generator, unpacked

        images = public_images(knowledge, "a generator", fewest=FEWEST)
        answers = public_answers(images, oracle)
        plan = Plan(self.steps, 1, self.lr)

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            sizes, seed = {"dim": self.dim, "width": self.width}, int(rng.integers(2**32))
            return distilling(images, answers, **sizes, plan=plan, seed=seed)

        arrays = knowledge.keep(name_of(self, target=array_digest(answers.numpy())), make)
        shape, width, k = images.shape[1:], self.width, answers.shape[1]
        generator = unpacked(lambda: Generator(self.dim, shape, width), "generator", arrays)
        critic = unpacked(lambda: Encoder(shape, width, k), "critic", arrays)
        return GeneratorDecoder(generator, self.reach, lambda x: unreal(critic(x)))


class ConditionalGAN(Prior):
    r"""A conditional GAN, from auxiliary images that the target labelled.

    .. math:: x(z, t) = G(z, t), \qquad z \sim N(0, I), \qquad R(z) = 0

    See `labelled`. The generator is also to make images of y that the target takes for y:
    :math:`m(x, y) = \alpha \max_{j \ne y} (l_j - l_y)` of its logits in a random crop of x. What it draws
    of a class depends on the target, with no search at all.

    Args:
        dim: numbers in a point.
        width: channels of the finest grid, a multiple of 8.
        steps: of the generator, each after one of the critic.
        top: auxiliary images of each class, those in which the target is surest of it.
        alpha: :math:`\alpha`; the paper's is .2.
        reach: largest absolute value of a coordinate of a queried point.

    Yuan et al. 2023, Pseudo Label-Guided Model Inversion Attack via Conditional Generative
    Adversarial Network, AAAI.
    """

    version = 1

    def __init__(
        self,
        *,
        dim: int = 64,
        width: int = 16,
        steps: int = 1000,
        top: int = 100,
        alpha: float = 0.2,
        reach: float = 3.0,
        lr: float = 0.001,
    ):
        self.dim = dim
        self.width = width
        self.steps = steps
        self.top = top
        self.alpha = alpha
        self.reach = reach
        self.lr = lr

    def invalid_parameters(self) -> list[str]:
        return faults_of(self) + whole("top", self.top) + number("alpha", self.alpha)

    def fit(self, knowledge: Knowledge, oracle: Oracle) -> Decoder:
        from medleak.attacks.model_inversion._decoders import ClassedDecoder
        from medleak.attacks.model_inversion._gan_training import Plan, labelled
        from medleak.attacks.model_inversion._networks import Generator, unpacked

        images = public_images(knowledge, "a generator", fewest=FEWEST)
        answers = public_answers(images, oracle)
        best = answers.T.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        plan = Plan(self.steps, 1, self.lr)

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            sizes, seed = {"dim": self.dim, "width": self.width}, int(rng.integers(2**32))
            margin = self._margin(oracle.network, rng)
            return labelled(images, best, margin, **sizes, plan=plan, seed=seed)

        arrays = knowledge.keep(name_of(self, target=array_digest(answers.numpy())), make)
        sizes = (self.dim, images.shape[1:], self.width, answers.shape[1])
        generator = unpacked(lambda: Generator(*sizes), "generator", arrays)
        return ClassedDecoder(generator, self.reach)

    def _margin(self, network: Any, rng: np.random.Generator) -> Any:
        from medleak.attacks.model_inversion._crops import RandomCrops
        from medleak.attacks.model_inversion._losses import max_margin

        crops = RandomCrops(least=0.8, most=1.0, stretch=1.1)
        return lambda x, classes: self.alpha * max_margin(network(crops(x, rng)), classes)


def public_answers(images: np.ndarray, oracle: Oracle) -> Tensor:
    """What the target says of the auxiliary images, probabilities ``(M, K)``."""
    import torch

    return oracle.probabilities(torch.from_numpy(images))


def faults_of(prior: Any) -> list[str]:
    """What is wrong with the arguments that all generative priors have."""
    found = whole("dim", prior.dim) + whole("steps", prior.steps)
    if whole("width", prior.width, least=OCTAVE) or prior.width % OCTAVE:
        found.append(f"width {prior.width!r} must be a multiple of {OCTAVE}")
    return found + number("lr", prior.lr, above=0) + number("reach", prior.reach, above=0)


def name_of(prior: Prior, **more: Any) -> dict[str, Any]:
    """Cache key of a trained prior: all that its weights depend on, except the images."""
    settings = {name: value for name, value in vars(prior).items() if name != "reach"}
    return {"prior": type(prior).__name__, "version": prior.version, **settings, **more}
