"""Priors, losses, views, selections and descent of model inversion, each by itself."""

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import Knowledge, NotApplicable, ProblemSpec, Records, Release
from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Descent, StoppedDescent
from medleak.attacks.model_inversion._losses import (
    LOSSES,
    NEARLY,
    confidence,
    cross_entropy,
    max_margin,
    poincare,
)
from medleak.attacks.model_inversion._oracle import SENT, AttackState, Oracle
from medleak.attacks.model_inversion._priors import Components, Pixels
from medleak.attacks.model_inversion._selection import AsDrawn, Confident

PROBLEM = ProblemSpec(10, 10, 1, (1, 8, 8), 3)


def knowledge(x=None, **more):
    auxiliary = None if x is None else Records(x, np.full(len(x), -1), np.arange(len(x)))
    return Knowledge(PROBLEM, auxiliary=auxiliary, rng=np.random.default_rng(0), **more)


def some_images(n=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


# --------------------------------------------------------------------------- losses


def test_losses_by_hand():
    logits, t = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([2])
    p = float(torch.softmax(logits, 1)[0, 2])
    assert cross_entropy(logits, t).item() == pytest.approx(-np.log(p), rel=1e-6)
    assert confidence(logits, t).item() == pytest.approx(1 - p, rel=1e-6)
    assert max_margin(logits, t).item() == 1.0
    assert max_margin(logits, torch.tensor([1])).item() == -1.0


def test_the_poincare_distance_by_hand():
    # u = (1/2, -1/2), v = (1 - h, 0): |u|^2 = 1/2, |u - v|^2 = (1/2 - h)^2 + 1/4
    logits, h = torch.tensor([[3.0, -3.0]], dtype=torch.float64), NEARLY
    ratio = 2 * ((0.5 - h) ** 2 + 0.25) / (0.5 * (1 - (1 - h) ** 2))
    wanted = np.arccosh(1 + ratio)
    assert poincare(logits, torch.tensor([0])).item() == pytest.approx(wanted, rel=1e-9)
    nearer = poincare(torch.tensor([[3.0, -1.0]], dtype=torch.float64), torch.tensor([0]))
    assert nearer.item() < wanted


@pytest.mark.parametrize("name", LOSSES)
def test_losses_fall_towards_the_class_and_have_finite_slopes(name):
    logits = torch.tensor([[0.5, 0.1, -0.4], [0.3, -0.2, 5.0]], requires_grad=True)
    classes = torch.tensor([1, 2])
    before = LOSSES[name](logits, classes)
    (gradient,) = torch.autograd.grad(before.sum(), logits)
    assert torch.isfinite(gradient).all()
    assert (LOSSES[name](logits - 1e-2 * gradient, classes) < before).all()


# --------------------------------------------------------------------------- priors


def test_pixels_start_where_they_are_told():
    rng = np.random.default_rng(0)
    zero = Pixels(noise=0.1).fit(knowledge(), None)
    z = zero.sample(4, rng)
    assert z.shape == (4, 64) == (4, zero.dim)
    assert (z[0] == 0).all()
    assert 0 < z[1:].max() < 1
    images = zero.decode(z)
    assert torch.equal(images.flatten(1), z)
    x = some_images()
    mean = Pixels(start="mean").fit(knowledge(x), None).sample(1, rng)
    assert np.allclose(mean[0], x.reshape(60, -1).mean(0) / 255, atol=1e-6)
    public = Pixels(start="public", noise=0.0).fit(knowledge(x), None).sample(5, rng)
    assert all(any(np.allclose(z, row / 255) for row in x.reshape(60, -1)) for z in public)
    with pytest.raises(NotApplicable, match="start=mean needs 1 auxiliary images, has 0"):
        Pixels(start="mean").fit(knowledge(), None)


def test_components_span_what_they_saw():
    rng = np.random.default_rng(1)
    scores, directions = rng.normal(size=(90, 2)), rng.normal(size=(2, 64))
    x = (0.5 + 0.02 * scores @ directions).reshape(-1, 1, 8, 8).astype(np.float32)
    decoder = Components(components=2).fit(knowledge(x), None)
    z = decoder.sample(20000, rng)
    drawn = decoder.decode(z).flatten(1).numpy()
    rows = x.reshape(90, -1)
    assert np.allclose(drawn.mean(0), rows.mean(0), atol=2e-3)
    assert np.allclose(np.cov(drawn.T), np.cov(rows.T), atol=1.5e-4)  # of a Gaussian cut at 3 sd
    assert z.abs().max() == 3
    assert torch.equal(decoder.penalty(torch.tensor([[1.0, 2.0]]), None), torch.tensor([2.5]))
    with pytest.raises(NotApplicable, match="needs 10 auxiliary images, has 9"):
        Components().fit(knowledge(x[:9]), None)


def test_the_penalty_of_pixels_is_their_total_variation():
    x = torch.zeros(2, 1, 8, 8)
    x[1, 0, :, 4:] = 1.0  # one edge: 8 steps of 1 among 8 * 7 neighbours, none downwards
    decoder = Pixels().fit(knowledge(), None)
    assert torch.allclose(decoder.penalty(x.flatten(1), x), torch.tensor([0.0, 8 / 56]))


# --------------------------------------------------------------------------- views


def test_a_crop_of_everything_is_the_image():
    x = torch.from_numpy(some_images(4).astype(np.float32) / 255)
    whole = RandomCrops(least=1.0, most=1.0, stretch=1.0)(x, np.random.default_rng(0))
    assert torch.allclose(whole, x, atol=1e-6)


def test_crops_are_never_mirrored():
    ramp = torch.linspace(0, 1, 8).expand(200, 1, 8, 8)
    crops = RandomCrops(least=0.3, most=0.8, stretch=1.5)
    seen = crops(ramp, np.random.default_rng(0))
    step = seen.diff(dim=3)
    assert (step >= -1e-6).all()
    assert torch.allclose(seen[:, :, :1], seen, atol=1e-6)
    share = step[:, 0, 0, 3] * 7  # of the breadth: at most the square root of .8 * 1.5, and 1
    assert np.sqrt(0.3 / 1.5) - 0.01 < share.min() < share.max() <= 1.01
    assert RandomCrops(least=0.9, most=0.5).invalid_parameters() == [
        "least 0.9 must not be above most 0.5"
    ]
    assert RandomCrops(stretch=0.5).invalid_parameters() == [
        "stretch 0.5 must be a number from 1 up"
    ]


# --------------------------------------------------------------------------- the target


class Bright(nn.Module):
    """Sees class 1 in bright images, class 0 in dark ones, class 2 never."""

    def forward(self, x):
        light = 20 * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-light, light, torch.full_like(light, -50)], dim=1)


def release_of(model):
    def scores(x):
        with torch.no_grad():
            return model(torch.from_numpy(x)).double().log_softmax(1).numpy()

    return Release({"weights": {}, "scores": scores, "labels": lambda x: scores(x).argmax(1)})


def test_the_oracle_answers_alike_whatever_it_sees_and_counts():
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    known = knowledge(network=lambda weights: Bright().eval())
    release = release_of(Bright())
    told = {a: Oracle(release, known, a).probabilities(x) for a in ("weights", "scores", "labels")}
    assert release.queries == 80
    assert torch.allclose(told["weights"], told["scores"], atol=1e-6)
    assert torch.equal(told["scores"].argmax(1), told["labels"].argmax(1))
    assert set(told["labels"].unique().tolist()) == {0.0, 1.0}


def test_the_oracle_asks_little_at_a_time_and_never_beyond_the_budget():
    sent = []
    plain = release_of(Bright())
    release = Release({"labels": lambda x: sent.append(len(x)) or plain.labels(x)})
    release.queries = 7  # somebody else's
    oracle = Oracle(release, knowledge(budget=50), "labels")
    oracle.labels(torch.zeros(40, 1, 8, 8))
    assert max(sent) == SENT
    assert oracle.left == 10
    with pytest.raises(NotApplicable, match="11 queries are needed, and 10 of the budget are left"):
        oracle.labels(torch.zeros(11, 1, 8, 8))
    assert sum(sent) == 40


# --------------------------------------------------------------------------- selections


def scene(noise=0.3):
    decoder = Pixels(start="public", noise=noise).fit(knowledge(some_images()), None)
    oracle = Oracle(release_of(Bright()), knowledge(), "scores")
    return AttackState(decoder, oracle, np.random.default_rng(3))


def test_the_confident_start_where_the_class_is_seen():
    here, classes = scene(), torch.tensor([0, 1])
    chosen = Confident(pool=100, views=3).starts(here, classes, 4)
    drawn = AsDrawn().starts(here, classes, 4)
    assert chosen.shape == drawn.shape == (2, 4, 64)
    assert here.oracle._release.queries == 300  # one pool for both classes
    assert chosen[0].mean(1).max() < drawn.mean() < chosen[1].mean(1).min()
    again = Confident(pool=100, views=3).starts(scene(), classes, 4)
    assert torch.equal(again, chosen)


def test_finals_are_the_surest_of_their_class_best_first():
    light = torch.tensor([0.2, 0.9, 0.4, 0.6])
    z = light[None, :, None].expand(2, 4, 64)
    classes = torch.tensor([1, 0])
    best = Confident(views=0).finals(scene(), z, classes, 2)
    assert torch.equal(best[:, :, 0], torch.tensor([[0.9, 0.6], [0.2, 0.4]]))
    assert torch.equal(AsDrawn().finals(scene(), z, classes, 2), z[:, :2])


def test_views_see_through_what_only_the_whole_image_shows():
    # One bright edge tips the whole image into class 1; most crops leave the edge out.
    edge = torch.full((1, 1, 8, 8), 0.45)
    edge[..., 0] = 1.0
    here = scene()
    whole = Confident(views=0).confidence(here, edge)[0, 1]
    crops = RandomCrops(least=0.2, most=0.4)
    cropped = Confident(views=50, crops=crops).confidence(here, edge)[0, 1]
    assert whole > 0.5 > cropped


def test_faults_of_selections_name_their_parts():
    assert Confident().invalid_parameters() == AsDrawn().invalid_parameters() == []
    found = Confident(pool=0, crops=RandomCrops(least=2)).invalid_parameters()
    assert found[0].startswith("pool 0")
    assert found[1].startswith("crops: least 2")
    assert "must be a RandomCrops" in Confident(crops=3).invalid_parameters()[0]


# --------------------------------------------------------------------------- descent


@pytest.mark.parametrize("method", ["adam", "nesterov"])
def test_descent_reaches_the_nearest_allowed_point_of_each_row(method):
    aim = torch.tensor([[0.5, 2.0], [-1.0, 0.2]])
    done = []
    z = Descent(method=method, iterations=300, lr=0.05)(
        lambda z, classes: (z - aim[classes]).square().sum(1),
        torch.zeros(2, 2),
        torch.tensor([0, 1]),
        clip=lambda z: z.clamp(0, 1),
        progress=done.append,
    )
    assert torch.allclose(z, torch.tensor([[0.5, 1.0], [0.0, 0.2]]), atol=1e-3)
    assert len(done) == 300
    assert done[-1] == 1


def test_faults_of_descent():
    found = Descent(method="adan", iterations=0, lr=0).invalid_parameters()
    assert "did you mean 'adam'" in found[0]
    assert len(found) == 3
    assert StoppedDescent().invalid_parameters() == []
    assert len(StoppedDescent(lr=0, iterations=0, window=0, enough=-1).invalid_parameters()) == 4


def stopped(curvature, start, **options):
    """Where a `StoppedDescent` ends on c(x) = x^2 k / 2, and the points that were evaluated."""
    seen = []

    def cost(z, classes):
        seen.append(z.detach().clone())
        return curvature * z.square().sum(1) / 2

    end = StoppedDescent(**options)(cost, torch.tensor([start]), torch.tensor([0]))
    return end, torch.cat(seen).flatten()


def test_it_stops_when_the_loss_is_small():
    # x_i = (1 - lr k)^i x_0 and c = k x^2 / 2: c <= g from i = log(sqrt(2 g / k) / x_0) / log(1 - lr k) on
    end, seen = stopped(2.0, [1.0], lr=0.1, window=5, enough=0.01)
    steps = int(np.ceil(np.log(np.sqrt(0.01)) / np.log(0.8)))
    assert len(seen) == steps + 1
    assert np.allclose(seen, 0.8 ** np.arange(steps + 1), rtol=1e-5)
    assert end.item() == seen[-1]


def test_it_stops_when_the_loss_is_no_lower_than_a_window_ago_and_returns_the_lowest():
    # lr k = 2: x jumps between 1 and -1, its loss never falls: stopped at once after a whole window
    end, seen = stopped(20.0, [1.0], lr=0.1, window=7)
    assert torch.equal(seen, torch.tensor([1.0, -1.0] * 4))
    assert end.item() == 1.0
    # lr k > 2: the loss rises, and what counts is the start
    end, seen = stopped(22.0, [1.0], lr=0.1, window=7)
    assert len(seen) == 8
    assert end.item() == 1.0 < seen.abs().max()


def test_it_stops_at_the_last_iteration_and_each_row_by_itself():
    _, seen = stopped(1.0, [1.0], lr=0.01, iterations=20, enough=0.0)
    assert len(seen) == 21
    aim, sizes = torch.tensor([0.0, 0.5]), []

    def cost(z, classes):
        sizes.append(len(z))
        return (z[:, 0] - aim[classes]).square()

    start, classes = torch.tensor([[0.11], [1.0]]), torch.tensor([0, 1])
    end = StoppedDescent(lr=0.05)(cost, start, classes)
    assert sizes[0] == 2
    assert sizes[-1] == 1
    assert ((end[:, 0] - aim).square() <= 0.01).all()
