"""Distances, priors, descent and evidence of gradient matching, each by itself."""

import numpy as np
import pytest
import torch
from matching_world import images, made, sent_by

from medleak.api import LocalTraining, NotApplicable
from medleak.attacks.gradient_inversion import _matching, _priors
from medleak.attacks.gradient_inversion._update_constraints import update_constraints

pytestmark = pytest.mark.usefixtures("one_thread")


def test_distances_are_the_plain_ones():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 7))
    one_by_one = [1 - u @ v / np.sqrt((u @ u) * (v @ v)) for u, v in zip(a, b, strict=True)]
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert np.allclose(_matching.cosine(a, b), one_by_one)
    assert np.allclose(_matching.squared(a, b), ((a - b) ** 2).sum(dim=1))
    assert np.allclose(_matching.relative(3 * b, b), 4.0)


def test_total_variation_by_hand():
    x = torch.tensor([[0.0, 1.0], [3.0, 1.0]])[None, None, None]
    assert _priors.total_variation(x).item() == pytest.approx((3 + 0) / 2 + (1 + 2) / 2)
    assert _priors.total_variation(torch.full((2, 3, 1, 4, 4), 0.3)).tolist() == [0, 0]


def test_principal_components_are_a_gaussian():
    rng = np.random.default_rng(0)
    shape = np.diag([9.0, 4.0, 1.0, 1.0, 1.0, 1.0]) ** 0.5
    x = (rng.standard_normal((20_000, 6)) @ shape + 2).reshape(-1, 1, 2, 3)
    prior = _priors.PrincipalComponents(x, components=2)
    rows = rng.standard_normal((5, 1, 6)) * 3 + 2
    wanted = ((rows - 2) ** 2 / np.array([9, 4, 1, 1, 1, 1])).sum(axis=2)[:, 0] / 6
    found = prior(torch.from_numpy(rows.reshape(5, 1, 1, 2, 3)).float())
    assert np.allclose(found, wanted, rtol=0.05)
    with pytest.raises(NotApplicable, match="needs 10"):
        _priors.components_of(None)


def test_group_spread_by_hand():
    x = torch.tensor([0.0, 2.0, 5.0, 5.0]).reshape(4, 1)
    assert _priors.group_spread(x, 2).tolist() == [1, 1, 0, 0]


def rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)


def test_lbfgs_rows_do_not_touch_each_other():
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    start[2] *= 1e3
    found = _matching.lbfgs(rosenbrock, start, 400)
    assert rosenbrock(found).max() < 1e-10
    alone = _matching.lbfgs(rosenbrock, start[1:2], 400)
    assert torch.allclose(found[1:2], alone, rtol=1e-9)


@pytest.mark.parametrize("signed", [True, False])
def test_adam_is_torchs(signed):
    start = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double()
    plan = _matching.Schedule(16, 0.1, signed)
    found = _matching.adam(lambda u: ((u - 0.3) ** 4).sum(dim=1), start, plan)
    u = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([u], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [6, 10, 14], gamma=0.1)
    for _ in range(16):
        optimiser.zero_grad()
        ((u - 0.3) ** 4).sum().backward()
        if signed:
            u.grad.sign_()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            u.clamp_(-2, 2)
    assert torch.allclose(found, u.detach())


def some_update():
    network = made("cnn")
    x, y = images(2)
    return sent_by(network, x, y, LocalTraining(1, 2, 0.1))


def test_an_honest_update_is_taken_at_its_word():
    found = update_constraints(some_update())
    assert found.keep.all()
    assert not found.margin.any()
    assert not found.signs


def test_pruned_entries_are_left_out():
    update = {n: np.where(np.abs(g) < np.quantile(np.abs(g), 0.9), 0, g)
              for n, g in some_update().items()}  # fmt: skip
    found = update_constraints(update)
    assert np.array_equal(found.keep == 0, found.target == 0)
    assert update_constraints(update, aware=False).keep.all()


def test_hidden_columns_are_left_out():
    update = some_update()
    name = "head.1.weight"
    hidden = np.arange(update[name].shape[1]) % 10 != 0
    found = update_constraints(update | {name: np.where(hidden, 0, update[name])})
    cut = np.concatenate([np.broadcast_to(hidden if n == name else False, g.shape).ravel()
                          for n, g in update.items()])  # fmt: skip
    assert (found.keep[cut] == 0).all()
    assert (found.keep[~cut & (found.target != 0)] == 1).all()


def test_signs_are_seen():
    update = {n: np.sign(g) * np.abs(g).mean() for n, g in some_update().items()}
    assert update_constraints(update).signs
    assert not update_constraints(update, aware=False).signs


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_the_true_gradient_lies_within_the_margin_of_a_rounded_one(bits):
    update, rounded = some_update(), {}
    for name, g in update.items():
        step = np.abs(g).max() / (2 ** (bits - 1) - 1)
        rounded[name] = (np.rint(g / step) * step).astype(np.float32)
    found, truth = update_constraints(rounded), np.concatenate([g.ravel() for g in update.values()])
    large = np.concatenate([np.full(g.size, g.size >= 64) for g in update.values()])
    assert (np.abs(found.target - truth)[large] <= found.margin[large] * 1.01 + 1e-9).all()
    assert found.margin[large].min() > 0


def test_what_the_evidence_does_not_bear_out_costs_nothing():
    update = some_update()
    sizes = [g.size for g in update.values()]
    truth = torch.from_numpy(np.concatenate([g.ravel() for g in update.values()]))[None]
    pruned = {n: np.where(np.abs(g) < np.quantile(np.abs(g), 0.5), 0, g) for n, g in update.items()}
    signs = {n: np.sign(g) * np.abs(g).mean() for n, g in update.items()}
    for sent in (update, pruned):
        aware = _matching.Believed([update_constraints(sent)], sizes, _matching.cosine)
        assert aware(truth).item() == pytest.approx(0, abs=1e-6)
    plain = _matching.Believed([update_constraints(pruned, aware=False)], sizes, _matching.cosine)
    assert plain(truth).item() > 1e-3
    aware, plain = (
        _matching.Believed([update_constraints(signs, aware=a)], sizes, _matching.cosine)
        for a in (True, False)
    )
    assert aware(truth).item() < plain(truth).item()
