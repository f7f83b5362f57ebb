"""A model that knows a few smooth faces by heart, and an attacker's own faces, for tests of inversion."""

import json
from functools import partial

import numpy as np
import torch
from torch import nn

from medleak.api import InversionChallenge, Knowledge, ProblemSpec, Records, Release
from medleak.goals.synthetic import SIDE
from medleak.goals.synthetic import smooth_images as faces

PEOPLE = 4
N_AUXILIARY = 120
KEPT = {}


class Heart(nn.Module):
    r"""Logit of class k: ``reach - sharp |x - m_k|^2``; of the last class, "none of them": 0."""

    def __init__(self, known, sharp=0.25, reach=6.0):
        super().__init__()
        self.known = nn.Parameter(torch.from_numpy(known).flatten(1))
        self.sharp, self.reach = sharp, reach

    def forward(self, x):
        far = (x.flatten(1)[:, None] - self.known).square().sum(2)
        near = self.reach - self.sharp * far
        return torch.cat([near, torch.zeros(len(x), 1)], dim=1)


def experiment(*, knows=True, turn=0, budget=None, n_images=3, seed=0):
    """Release, sittings, knowledge, and the faces asked for; a model of other people unless it `knows`.

    With a `turn` it knows the people by the names of others, as if labels had been shuffled.
    """
    people = faces(PEOPLE, [seed, 0])
    model = Heart(np.roll(people, turn, axis=0) if knows else faces(PEOPLE, [seed, 1])).eval()

    def scores(x):
        with torch.no_grad():
            return model(torch.from_numpy(x)).double().log_softmax(1).numpy()

    release = Release(
        {
            "weights": {"known": model.known.detach().numpy()},
            "scores": scores,
            "labels": lambda x: scores(x).argmax(1),
        }
    )
    n = N_AUXILIARY
    auxiliary = Records(faces(n, [seed, 2]), np.full(n, -1), 100 + np.arange(n))
    knowledge = Knowledge(
        ProblemSpec(PEOPLE, PEOPLE, 1, (1, SIDE, SIDE), PEOPLE + 1),
        auxiliary=auxiliary,
        rng=np.random.default_rng([seed, 3]),
        budget=budget,
        keep=partial(keep, seed),
        network=lambda weights: Heart(weights["known"].copy()).eval(),
    )
    sittings = InversionChallenge(np.arange(PEOPLE), n_images, (1, SIDE, SIDE))
    return release, sittings, knowledge, people


def keep(seed, name, make):
    """As the bench does: computed once for these auxiliary images and this name."""
    key = (seed, json.dumps(name, sort_keys=True))
    if key not in KEPT:
        KEPT[key] = make(np.random.default_rng([seed, 4]))
    return KEPT[key]


def recognised(images, people):
    """Share of images ``(K, M, C, H, W)`` whose nearest person, by correlation, is their own."""
    flat = images.reshape(*images.shape[:2], -1).astype(np.float64)
    rows = people.reshape(len(people), -1)
    flat, rows = (a - a.mean(-1, keepdims=True) for a in (flat, rows))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = (flat @ rows.T).argmax(2)
    return float((nearest == np.arange(len(people))[:, None]).mean())


def over_worlds(attack, *, seeds, access="weights", prior_samples=False, **options):
    """Mean of `recognised` over worlds; by the attack's answer, or by what it draws unguided."""
    shares = []
    for seed in seeds:
        release, sittings, knowledge, people = experiment(seed=seed, **options)
        output = attack.execute(release.granting(access), sittings, knowledge)
        assert output.reconstructions.shape == sittings.shape
        assert 0 <= output.reconstructions.min() <= output.reconstructions.max() <= 1
        shares.append(
            recognised(output.prior_samples if prior_samples else output.reconstructions, people)
        )
    return float(np.mean(shares))
