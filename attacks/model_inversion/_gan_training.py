"""Adversarial training of a generator and a critic."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medleak.attacks._whitebox import training
from medleak.attacks.model_inversion._networks import Encoder, Generator, packed

BATCH = 64
PENALTY_WEIGHT, TESTED = 10.0, 16
"""Weight of the gradient penalty, and the pairs of a batch on which it is taken: it costs most of a step."""
MEMORY = 0.99
"""Of the mean over the generators that training passes through, which is what is kept."""

Batch = tuple[Tensor, Tensor | None]
"""Images ``(B, C, H, W)`` and their labels, if any."""
Rule = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Real images, generated ones, and labels of the real ones, to a loss."""

Margin = Callable[[Tensor, Tensor], Tensor]
"""Images and their classes to a loss each."""


@dataclass(frozen=True)
class AdversarialLosses:
    """Batches and losses of adversarial training.

    Attributes:
        real: called for each batch of real images; a conditional generator draws the classes of its labels.
        critic_loss: minimised by the critic.
        generator_loss: minimised by the generator.
    """

    real: Callable[[], Batch]
    critic_loss: Rule
    generator_loss: Rule


@dataclass(frozen=True)
class Plan:
    """How long and how fast: `steps` of the generator, each after `critic_steps` of the critic (Adam)."""

    steps: int
    critic_steps: int
    lr: float


def train_adversarially(
    generator: Generator, critic: nn.Module, losses: AdversarialLosses, plan: Plan
) -> Generator:
    """Train both in place, and return the mean of the generator's weights over the last steps.

    The mean draws cleaner images than the last iterate after as few steps as a CPU can afford
    (Yazici et al. 2019, The Unusual Effectiveness of Averaging in GAN Training, ICLR). Torch's global
    generator decides: see `training`.
    """
    kept = copy.deepcopy(generator)
    ours, theirs = list(generator.parameters()), list(critic.parameters())
    draws, judges = (torch.optim.Adam(p, lr=plan.lr, betas=(0.0, 0.9)) for p in (ours, theirs))
    dim = generator.project.in_features

    def drawn(x: Tensor, labels: Tensor | None) -> Tensor:
        return generator(torch.randn(len(x), dim), labels if generator.n_classes else None)

    for i in range(plan.steps):
        for _ in range(plan.critic_steps):
            x, labels = losses.real()
            with torch.no_grad():
                fake = drawn(x, labels)
            _step(judges, theirs, losses.critic_loss(x, fake, labels))
        x, labels = losses.real()
        _step(draws, ours, losses.generator_loss(x, drawn(x, labels), labels))
        with torch.no_grad():
            share = 1 - min(MEMORY, (1 + i) / (10 + i))
            for mean, now in zip(kept.parameters(), ours, strict=True):
                mean.lerp_(now, share)
    return kept


def _step(optimiser: torch.optim.Optimizer, parameters: list[Tensor], loss: Tensor) -> None:
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


def batches(images: np.ndarray) -> Callable[[], Batch]:
    """Batches of ``(M, C, H, W)`` images in 0..1, drawn with replacement."""
    x = torch.from_numpy(images)
    return lambda: (x[torch.randint(len(x), (BATCH,))], None)


# --------------------------------------------------------------------------- Wasserstein


def wasserstein(
    images: np.ndarray, *, dim: int, width: int, plan: Plan, seed: int
) -> dict[str, np.ndarray]:
    r"""A generator G and a critic D of images, as arrays "generator..." and "critic...".

    .. math:: \min_D E\, D(G(z)) - E\, D(x) + 10\, E (\lVert \nabla D(\hat x) \rVert_2 - 1)^2,
        \qquad \min_G -E\, D(G(z)), \qquad z \sim N(0, I)

    with :math:`\hat x` between a real and a drawn image.

    Gulrajani et al. 2017, Improved Training of Wasserstein GANs, NeurIPS.
    """
    with training(seed):
        generator = Generator(dim, images.shape[1:], width)
        critic = Encoder(images.shape[1:], width)
        losses = AdversarialLosses(
            batches(images),
            lambda x, fake, _: (
                critic(fake).mean()
                - critic(x).mean()
                + PENALTY_WEIGHT * gradient_penalty(critic, x, fake)
            ),
            lambda x, fake, _: -critic(fake).mean(),
        )
        return packed(generator=train_adversarially(generator, critic, losses, plan), critic=critic)


def gradient_penalty(critic: nn.Module, x: Tensor, fake: Tensor) -> Tensor:
    r"""Mean :math:`(\lVert \nabla D \rVert_2 - 1)^2` between the first `TESTED` images of each kind."""
    x, fake = x[:TESTED], fake[:TESTED]
    between = x.lerp(fake, torch.rand(len(x), 1, 1, 1)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


# --------------------------------------------------------------------------- distilling a classifier

SHARPNESS = 1e-4
"""Weight of the entropy of what the critic sees in drawn images."""


def distilling(
    images: np.ndarray, answers: Tensor, *, dim: int, width: int, plan: Plan, seed: int
) -> dict[str, np.ndarray]:
    r"""A generator and a critic that also learns a classifier's answers T, as arrays.

    With K logits l of the critic, :math:`q = \mathrm{softmax}(l)` and
    :math:`D = Z / (Z + 1)`, :math:`Z = \sum_k e^{l_k}` (Salimans et al. 2016, Improved Techniques for
    Training GANs, NeurIPS),

    .. math:: \min_D -E \sum_k T_k(x) \log q_k(x) - E \log D(x) - E \log (1 - D(G(z))),

        \min_G \lVert E f(x) - E f(G(z)) \rVert^2 + 10^{-4} E\, H(q(G(z)))

    with f what enters the critic's last layer, as a mean over its D numbers, and H the entropy.

    Args:
        images: ``(M, C, H, W)`` in 0..1.
        answers: ``(M, K)`` probabilities.

    Chen et al. 2021, Knowledge-Enriched Distributional Model Inversion Attacks, ICCV.
    """
    with training(seed):
        generator = Generator(dim, images.shape[1:], width)
        critic = Encoder(images.shape[1:], width, answers.shape[1])
        x_all, softplus = torch.from_numpy(images), nn.functional.softplus

        def real() -> Batch:
            chosen = torch.randint(len(x_all), (BATCH,))
            return x_all[chosen], answers[chosen]

        def critic_loss(x: Tensor, fake: Tensor, labels: Tensor) -> Tensor:
            seen = critic(x)
            taught = -(labels * seen.log_softmax(dim=1)).sum(dim=1)
            return (taught + unreal(seen) + softplus(critic(fake).logsumexp(dim=1))).mean()

        def generator_loss(x: Tensor, fake: Tensor, _: Tensor) -> Tensor:
            features = critic.features(fake)
            gap = features.mean(dim=0) - critic.features(x).mean(dim=0)
            q = critic.output(features).log_softmax(dim=1)
            return gap.square().mean() - SHARPNESS * (q.exp() * q).sum(dim=1).mean()

        kept = train_adversarially(
            generator, critic, AdversarialLosses(real, critic_loss, generator_loss), plan
        )
        return packed(generator=kept, critic=critic)


def unreal(logits: Tensor) -> Tensor:
    r""":math:`-\log D`, of the critic's K logits; ``(n, K)`` -> ``(n,)``."""
    return nn.functional.softplus(-logits.logsumexp(dim=1))


# --------------------------------------------------------------------------- with pseudo-labels


def labelled(
    images: np.ndarray, best: Tensor, margin: Margin, *, dim: int, width: int, plan: Plan, seed: int
) -> dict[str, np.ndarray]:
    r"""A generator of images of a class, as arrays "generator...", from images that a model labelled.

    Critic and generator, both given the class y, minimise

    .. math:: E \max(0, 1 - D(x, y)) + E \max(0, 1 + D(G(z, y), y)), \qquad
        -E\, D(G(z, y), y) + E\, m(G(z, y), y)

    with spectral norms in D (Miyato et al. 2018, Spectral Normalization for Generative Adversarial
    Networks, ICLR). Every class is drawn as often.

    Args:
        images: ``(M, C, H, W)`` in 0..1.
        best: positions of the images of each class, ``(K, n)``.
        margin: m, of images ``(B, C, H, W)`` and their classes ``(B,)``, ``(B,)``.

    Yuan et al. 2023, Pseudo Label-Guided Model Inversion Attack via Conditional Generative
    Adversarial Network, AAAI.
    """
    with training(seed):
        x_all, n_classes = torch.from_numpy(images), len(best)
        generator = Generator(dim, images.shape[1:], width, n_classes)
        critic = Encoder(images.shape[1:], width, 1, n_classes)
        for module in [m for m in critic.modules() if isinstance(m, _WEIGHED)]:
            nn.utils.parametrizations.spectral_norm(module)

        def real() -> Batch:
            classes = torch.randint(n_classes, (BATCH,))
            return x_all[best[classes, torch.randint(best.shape[1], (BATCH,))]], classes

        def critic_loss(x: Tensor, fake: Tensor, classes: Tensor) -> Tensor:
            return ((1 - critic(x, classes)).relu() + (1 + critic(fake, classes)).relu()).mean()

        def generator_loss(x: Tensor, fake: Tensor, classes: Tensor) -> Tensor:
            return margin(fake, classes).mean() - critic(fake, classes).mean()

        return packed(
            generator=train_adversarially(
                generator, critic, AdversarialLosses(real, critic_loss, generator_loss), plan
            )
        )


_WEIGHED = (nn.Conv2d, nn.Linear, nn.Embedding)
