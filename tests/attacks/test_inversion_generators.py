"""Generative priors of model inversion: networks, their training, and the space that they span."""

import json

import numpy as np
import pytest
import torch
from inversion_world import N_AUXILIARY, experiment, faces

from medleak.api import MedleakError, replace
from medleak.attacks.model_inversion._gan_training import gradient_penalty
from medleak.attacks.model_inversion._generators import GAN
from medleak.attacks.model_inversion._networks import Encoder, Generator, packed, unpacked

SMALL = {"dim": 8, "width": 8, "steps": 80, "lr": 0.003}


def own_images(decoder, n=400, seed=7):
    with torch.no_grad():
        return decoder.decode(decoder.sample(n, np.random.default_rng(seed)))


@pytest.fixture(scope="module")
def learnt():
    _, _, knowledge, _ = experiment()
    return GAN(**SMALL).fit(knowledge, None)


# --------------------------------------------------------------------------- networks


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 33, 40), (1, 64, 64)])
def test_networks_take_any_image(shape):
    generator, encoder = Generator(5, shape, 8, n_classes=3), Encoder(shape, 8, 2, n_classes=3)
    z, classes = torch.randn(4, 5), torch.tensor([0, 1, 2, 2])
    images = generator(z, classes)
    assert images.shape == (4, *shape)
    assert 0 < images.min() < images.max() < 1
    assert encoder(images, classes).shape == (4, 2)
    assert encoder.features(images).shape == (4, encoder.output.in_features)
    # Each image depends on its own point and class alone.
    assert torch.allclose(generator(z[1:2], classes[1:2]), images[1:2], atol=1e-6)


def test_weights_survive_packing_and_do_not_move():
    shape = (1, 12, 12)
    there = packed(a=Generator(3, shape, 8), b=Encoder(shape, 8))
    back = unpacked(lambda: Encoder(shape, 8), "b", there)
    assert all(np.array_equal(there[f"b.{k}"], v) for k, v in back.state_dict().items())
    assert not any(p.requires_grad for p in back.parameters())


def test_the_gradient_penalty_of_a_plane_by_hand():
    plane = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 1))
    with torch.no_grad():
        plane[1].weight.fill_(0.75)  # its slope has norm 3 everywhere
    x, fake = torch.rand(20, 1, 4, 4), torch.rand(20, 1, 4, 4)
    assert gradient_penalty(plane, x, fake).item() == pytest.approx(4.0, rel=1e-5)


# --------------------------------------------------------------------------- the prior


def test_it_draws_images_like_those_it_saw(learnt):
    drawn, seen = own_images(learnt).flatten(1).numpy(), faces(400, [0, 9]).reshape(400, -1)
    assert np.abs(drawn.mean(0) - seen.mean(0)).mean() < 0.05
    # along the directions in which faces differ, by about as much; across them hardly at all
    _, size, rows = np.linalg.svd(seen - seen.mean(0), full_matrices=False)
    spread = (drawn - drawn.mean(0)) @ rows.T
    wanted = size[:8] / np.sqrt(400)
    assert (spread.std(0)[:8] > 0.4 * wanted).all()
    assert (spread.std(0)[:8] < 1.6 * wanted).all()
    assert spread[:, 9:].std() < 0.25 * wanted.mean()


def test_it_repeats_no_image(learnt):
    _, _, knowledge, _ = experiment()
    seen, new = knowledge.auxiliary.x, faces(400, [0, 9])

    def nearest(x):
        return np.sqrt(
            ((x.reshape(len(x), 1, -1) - seen.reshape(1, len(seen), -1)) ** 2).mean(2)
        ).min(1)

    assert np.median(nearest(own_images(learnt).numpy())) > 0.7 * np.median(nearest(new))


def test_points_stay_within_reach_and_the_critic_prefers_what_it_saw(learnt):
    z = learnt.sample(2000, np.random.default_rng(0))
    assert z.shape == (2000, 8) == (2000, learnt.dim)
    assert z.abs().max() == 3
    seen, noise = torch.from_numpy(faces(200, [0, 9])), torch.rand(200, 1, 12, 12)
    assert learnt.penalty(None, seen).shape == (200,)
    assert learnt.penalty(None, seen).mean() < learnt.penalty(None, noise).mean()


def test_it_is_trained_once_whatever_the_reach_and_by_its_own_generator():
    made, few = {}, SMALL | {"steps": 3}

    def keep(name, make):
        key = json.dumps(name, sort_keys=True)
        if key not in made:
            made[key] = make(np.random.default_rng(5))
        return made[key]

    knowledge, state = replace(experiment()[2], keep=keep), torch.get_rng_state()
    near, far = (GAN(**few, reach=r).fit(knowledge, None) for r in (1.0, 3.0))
    assert len(made) == 1
    z = far.sample(4, np.random.default_rng(7))
    assert torch.equal(near.sample(4, np.random.default_rng(7)), z.clamp(-1, 1))
    GAN(**few | {"width": 16}).fit(knowledge, None)
    assert len(made) == 2
    first = far.decode(z)
    made.clear()
    assert torch.equal(GAN(**few).fit(knowledge, None).decode(z), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_images_and_faults():
    _, _, knowledge, _ = experiment()
    assert len(knowledge.auxiliary) == N_AUXILIARY
    few = replace(knowledge, auxiliary=knowledge.auxiliary.take(np.arange(63)))
    with pytest.raises(MedleakError, match="a generator needs 64 auxiliary images, has 63"):
        GAN(**SMALL).fit(few, None)
    found = GAN(dim=0, width=12, steps=0, critic_steps=0, lr=0, reach=0).invalid_parameters()
    assert [f.split()[0] for f in found] == ["dim", "steps", "width", "lr", "reach", "critic_steps"]
    assert "width 12 must be a multiple of 8" in found
    assert GAN().invalid_parameters() == []
