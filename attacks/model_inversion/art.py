"""Model inversion of the Adversarial Robustness Toolbox, by YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medleak.api import Component, ProblemSpec, ThreatModel
from medleak.attacks.membership.art import instance, one_hot, seeded
from medleak.attacks.model_inversion._base import ModelInversion
from medleak.attacks.model_inversion._priors import Pixels
from medleak.attacks.model_inversion._selection import AsDrawn
from medleak.attacks.model_inversion.miface import blind
from medleak.core.suggestions import unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

PATHS = ("art.attacks.inference.model_inversion.MIFace",)


class ARTInversion(ModelInversion):
    """ART's MIFace on the released weights, from the same starts as ours; its answers are its own.

    ART sees a classifier whose ``predict`` is the softmax of the network. As of version 1.20 it goes on
    for as long as the confidence is *below* its goal or the loss does not fall, so that hardly any
    image stops before `max_iter`, and it returns the last image, not the best. ART draws from global
    generators: they are seeded from the attack's own and put back afterwards.

    Args:
        attack: dotted path of a class under ``art.attacks.inference.model_inversion``.
        options: its keyword arguments, less the classifier.
        prior: `Pixels` that start from zero.

    Raises:
        ConfigError: another class, or options that it does not take.
    """

    version = 1
    requires = ThreatModel(
        goal="inversion",
        access="weights",
        knowledge=("architecture",),
        adversary="outsider",
        conduct="honest-but-curious",
    )
    paper = "Nicolae et al. 2018, Adversarial Robustness Toolbox, arXiv:1807.01069"

    first = last = AsDrawn()
    starts = 1

    def __init__(
        self,
        *,
        prior: Pixels,
        attack: str = "art.attacks.inference.model_inversion.MIFace",
        options: Mapping[str, Any] | None = None,
    ):
        self.prior = prior
        self.attack = attack
        self.options = options

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters() + blind(self.prior)
        if self.attack not in PATHS:
            found.append(unknown("attack of ART", self.attack, PATHS))
        return found

    def parts(self) -> list[tuple[str, object, type[Component]]]:
        return [("prior", self.prior, Pixels)]

    def improve(self, z: Tensor, classes: Tensor) -> Tensor:
        import torch

        knowledge, images = self._knowledge, self._state.decoder.decode(z).numpy()
        with seeded(int(knowledge.rng.integers(2**32))):
            served = classifier(self._state.oracle.network, knowledge.problem)
            for k in classes.unique():  # one class at a time: ART's gradients cost a pass for each
                own = (classes == k).numpy()
                options = {"batch_size": int(own.sum()), "verbose": False, **(self.options or {})}
                art = instance(self.attack, served, options)
                images[own] = art.infer(
                    images[own], one_hot(classes[own].numpy(), knowledge.problem)
                )
        return torch.from_numpy(images).flatten(1)


def classifier(network: nn.Module, problem: ProblemSpec) -> Any:
    """A network as an ART classifier whose answers are probabilities."""
    from art.estimators.classification import PyTorchClassifier
    from torch import nn

    return PyTorchClassifier(
        model=nn.Sequential(network, nn.Softmax(dim=1)),
        loss=nn.NLLLoss(),  # required, and never called by MIFace
        input_shape=problem.in_shape,
        nb_classes=problem.n_outputs,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
