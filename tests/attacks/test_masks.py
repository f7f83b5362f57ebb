"""Membership attacks on segmentation: what is defined for masks finds a planted leak, and nothing else."""

import numpy as np
import pytest

from medleak.api import Challenge, segmentation
from medleak.attacks._kernels import augmented
from medleak.attacks.membership._queries import labels_sent
from medleak.attacks.membership.attack_p import AttackP
from medleak.attacks.membership.augmentation_votes import AugmentationVotes
from medleak.attacks.membership.base import BASE
from medleak.attacks.membership.boundary import BoundaryDistance
from medleak.attacks.membership.gradient_norm import GradientNorm
from medleak.attacks.membership.last_layer_gradient import LastLayerGradient
from medleak.attacks.membership.lira import LiRA
from medleak.attacks.membership.modified_entropy import ModifiedEntropy
from medleak.attacks.membership.rmia import RMIA
from medleak.attacks.membership.shokri import Shokri
from medleak.attacks.membership.yeom import Yeom
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

DEFINED = [Yeom(), LiRA(), LiRA(mode="offline"), RMIA(), ModifiedEntropy(), AttackP(), BASE()]


def experiment(leak, n=200):
    return membership_world(leak=leak, n=n, n_shadows=8, task="segmentation")


@pytest.mark.parametrize("attack", DEFINED, ids=repr)
def test_a_planted_leak_is_found_and_nothing_else(attack):
    for leak in (4.0, 0.0):
        release, challenge, secret, knowledge = experiment(leak)
        assert attack.incompatibilities(knowledge.problem, {"n_shadows": 8}) == []
        scores = attack.execute(release.granting("scores"), challenge, knowledge).scores
        found = auc(scores, secret.member)
        assert found > 0.9 if leak else abs(found - 0.5) < 3.3 * np.sqrt(201 / (12 * 100 * 100))


def test_the_loss_of_an_image_is_the_mean_over_its_pixels():
    release, challenge, _, knowledge = experiment(2.0, n=40)
    scores = Yeom().execute(release, challenge, knowledge).scores
    own = np.take_along_axis(release.scores(challenge.x), challenge.y[..., None], axis=-1)
    assert np.allclose(scores, own.reshape(40, -1).mean(axis=1))


def test_gradients_of_masks_are_those_of_the_mean_loss():
    release, challenge, _, knowledge = experiment(2.0, n=30)
    knowledge.shadows = None
    few = Challenge(challenge.records.take(np.arange(8)), challenge.kind[:8])
    scores = GradientNorm().execute(release, few, knowledge).scores
    loss = Yeom().execute(release, few, knowledge).scores
    assert np.isfinite(scores).all()
    assert np.corrcoef(scores, loss)[0, 1] > 0.5


def test_masks_move_with_their_images():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    y = (x[:, 0] > 127).astype(np.int64)
    moved = labels_sent(segmentation, y, "all", 18)
    for image, mask in zip(augmented(x, "all"), moved, strict=True):
        assert np.array_equal(mask, image[:, 0] > 127)


@pytest.mark.parametrize(
    "attack", [AugmentationVotes(), BoundaryDistance(), LastLayerGradient(), Shokri()], ids=repr
)
def test_what_is_not_defined_for_masks_says_so(attack):
    problem = experiment(0.0, n=4)[3].problem
    (reason,) = attack.incompatibilities(problem, {"n_shadows": 8})
    assert "segmentation" in reason
