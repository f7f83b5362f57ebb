"""A model that memorised a few smooth faces, and an attacker's own faces; without a leak, it memorised other people."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    InversionChallenge,
    Knowledge,
    NotApplicable,
    Output,
    ProblemSpec,
    Records,
    Release,
)
from medleak.api.goal import Example, Outcome, Question
from medleak.goals import synthetic

PEOPLE, IMAGES, AUXILIARY = 12, 2, 120
SHAPE = (1, synthetic.SIDE, synthetic.SIDE)
VIEWS = ("labels", "scores", "weights")
WAVES = 4
SHARP, REACH = 0.12, 6.0


def heart(known: np.ndarray) -> Any:
    r"""A network: logit of class k ``reach - sharp |x - m_k|^2``; of the last class, "none of them", 0.

    Args:
        known: the m_k, ``(K, C, H, W)``.
    """
    import torch
    from torch import nn

    class Heart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.known = nn.Parameter(torch.from_numpy(known.copy()).flatten(1))
            self.head = nn.utils.skip_init(nn.Linear, len(known), len(known) + 1)
            with torch.no_grad():
                self.head.weight.copy_(-SHARP * torch.eye(len(known) + 1, len(known)))
                self.head.bias.copy_(REACH * (torch.arange(len(known) + 1) < len(known)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((x.flatten(1)[:, None] - self.known).square().sum(2))

    return Heart().eval()


def example(attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0) -> Example:
    """The model, or without a leak another model, holds one image of each person.

    Raises:
        NotApplicable: the attack needs another view than those of a classifier.
    """
    if attack.requires.access not in VIEWS:
        raise NotApplicable(f"the example of inversion has no view '{attack.requires.access}'")
    people = _faces(PEOPLE, [seed, 0])
    network = heart(people if leak else _faces(PEOPLE, [seed, 1]))

    def scores(x: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            return network(torch.from_numpy(x)).double().log_softmax(1).numpy()

    views = {
        "weights": synthetic.arrays_of(network),
        "scores": scores,
        "labels": lambda x: scores(x).argmax(1),
    }
    others = _faces(AUXILIARY, [seed, 2])
    auxiliary = Records(others, np.full(AUXILIARY, -1), PEOPLE + np.arange(AUXILIARY))
    known = Knowledge(
        ProblemSpec(PEOPLE, PEOPLE, 1, SHAPE, PEOPLE + 1),
        auxiliary=auxiliary,
        rng=np.random.default_rng([seed, 3]),
        budget=knowledge.get("budget"),
        keep=partial(synthetic.keep, ("inversion", seed)),
    )
    if "architecture" in attack.requires.knowledge:
        known.network = synthetic.with_weights(network)
    challenge = InversionChallenge(np.arange(PEOPLE), IMAGES, SHAPE)
    return Example(Release(views), Question(challenge, people), known)


def _faces(n: int, seed: list[int]) -> np.ndarray:
    return synthetic.smooth_images(n, seed, waves=WAVES)


def outcome(question: Question, output: Output) -> Outcome:
    """Share of the images whose most similar person is the requested one.

    By chance each of the requested persons is equally near. Images of one person resemble each
    other, so only persons count as independent.
    """
    people, pictures = question.truth, output.reconstructions
    nearest = synthetic.correlations(pictures.reshape(-1, *SHAPE), people).argmax(axis=1)
    right = nearest.reshape(pictures.shape[:2]) == np.arange(len(people))[:, None]
    chance = 1 / len(people)
    slack = synthetic.binomial_slack(len(people), chance)
    return Outcome(float(right.mean()), chance, slack)
