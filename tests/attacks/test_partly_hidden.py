"""What attacks make of messages of which a public part is encrypted."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from medleak.api import (
    Knowledge,
    LocalTraining,
    NotApplicable,
    Observation,
    ProblemSpec,
    Records,
    multiclass,
    replace,
)
from medleak.attacks._whitebox import gradient_cosines
from medleak.attacks.gradient_inversion import _labels, _matching, _shared_weights_batching
from medleak.attacks.gradient_inversion._update_constraints import Question, update_constraints
from medleak.attacks.gradient_inversion.imprint import Bins, ImprintServer, quotients
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer
from medleak.defenses.aggregate.ckks_aggregation import PartialCKKSAggregation
from medleak.defenses.train._vectors import Layout, parameters
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP

SHAPE = (1, 12, 12)


def network(kind, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(in_shape=SHAPE, n_outputs=2, **options).eval()


def records(n, seed):
    rng = np.random.default_rng(seed)
    return Records(rng.random((n, *SHAPE), np.float32), np.arange(n) % 2, np.arange(n))


def message(model, some):
    loss = functional.cross_entropy(model(torch.from_numpy(some.x)), torch.from_numpy(some.y))
    found = torch.autograd.grad(loss, list(model.parameters()))
    update = {n: g.numpy() for (n, _), g in zip(model.named_parameters(), found, strict=True)}
    return Observation(
        0, (0,), len(some), parameters(model), update, LocalTraining(1, len(some), 0.1)
    )


def encrypted(seen, share, part):
    """The message as a server reads it under partial encryption."""
    defense, layout = PartialCKKSAggregation(share=share, part=part), Layout.of(seen.update)
    vector = layout.vector(seen.update)
    hidden = layout.arrays(~defense.visible(len(vector)), dtype=bool)
    return replace(seen, update=layout.arrays(defense.seen(vector)), hidden=hidden)


def known(model):
    def rebuilt(weights):
        copied = copy.deepcopy(model)
        if weights is not None:
            copied.load_state_dict({n: torch.from_numpy(w) for n, w in weights.items()})
        return copied

    return Knowledge(ProblemSpec(50, 50, 1, SHAPE, 2), auxiliary=records(40, 9), network=rebuilt)


# --------------------------------------------------------------------------- matching


@pytest.mark.parametrize("part", ["first", "last"])
@pytest.mark.parametrize("aware", [True, False])
def test_hidden_entries_are_not_matched(part, aware):
    whole = message(network(SmallCNN), records(2, 1))
    seen = encrypted(whole, 0.4, part)
    found = update_constraints(seen.update, aware, seen.hidden)
    told = np.concatenate([seen.readable(name).ravel() for name in seen.update])
    assert np.array_equal(found.keep == 1, told)
    sizes = [g.size for g in whole.update.values()]
    truth = torch.from_numpy(np.concatenate([g.ravel() for g in whole.update.values()]))[None]
    for distance in (_matching.cosine, _matching.squared):
        assert _matching.Believed([found], sizes, distance)(truth).item() < 1e-6
    untold = _matching.Believed([update_constraints(seen.update, aware)], sizes, _matching.cosine)
    assert untold(truth).item() > 1e-3


def test_pruning_and_rounding_are_seen_in_what_is_left():
    update = message(network(SmallCNN), records(2, 1)).update
    pruned = {n: np.where(np.abs(g) < np.quantile(np.abs(g), 0.9), 0, g) for n, g in update.items()}
    rounded = {n: np.rint(g / np.abs(g).max() * 7) * np.abs(g).max() / 7 for n, g in update.items()}
    for part in ("first", "last"):
        seen = encrypted(
            replace(message(network(SmallCNN), records(2, 1)), update=pruned), 0.3, part
        )
        found = update_constraints(seen.update, True, seen.hidden)
        assert np.array_equal(found.keep == 1, found.target != 0)
        seen = encrypted(replace(seen, update=rounded), 0.3, part)
        found = update_constraints(seen.update, True, seen.hidden)
        large = np.repeat(
            [g.size >= 64 for g in update.values()], [g.size for g in update.values()]
        )
        assert found.margin[large & (found.target != 0)].min() > 0


# --------------------------------------------------------------------------- labels


@pytest.mark.parametrize("share", [0.002, 0.03, 0.08])
@pytest.mark.parametrize("label", [0, 1])
def test_the_label_of_a_single_record_is_read_from_half_a_layer(share, label):
    model, some = network(SmallCNN), records(6, 2)
    for i in np.flatnonzero(some.y == label):
        seen = encrypted(message(model, some.take(np.array([i]))), share, "last")
        assert seen.hidden["head.1.bias"].all()
        assert _labels.single_label(_labels.readable_bias(seen, 2)) == label


def test_a_bias_that_is_told_is_taken_as_it_is():
    seen = message(network(SmallCNN), records(5, 2))
    for one in (seen, encrypted(seen, 0.3, "first")):
        assert np.array_equal(_labels.readable_bias(one, 2), seen.update["head.1.bias"])


def test_labels_of_several_are_estimated_and_without_a_last_layer_expected():
    model, some = network(SmallCNN), records(8, 3).take(np.array([0, 2, 4, 6, 1]))
    whole = message(model, some)
    for share, labels in ((0.08, [0, 0, 0, 0, 1]), (0.3, None)):
        seen = encrypted(whole, share, "last")
        question = Question(seen, 5, None, 0, update_constraints(seen.update, True, seen.hidden))
        found = _shared_weights_batching.labels_of(
            question, known(model).network(seen.sent), known(model)
        )
        assert len(found) == 5
        if labels:
            assert found.tolist() == labels
        else:
            assert not _labels.readable_bias(seen, 2).any()


# --------------------------------------------------------------------------- closed forms


def test_rows_of_a_first_layer_that_are_left_still_tell_the_record():
    model, some = network(MLP, hidden=32), records(1, 4)
    whole = message(model, some)
    attack = LinearLayer()
    attack.fit(None, known(model))
    for part, share in (("last", 0.01), ("first", 0.5)):
        seen = encrypted(whole, share, part)
        found = attack.rebuild(seen, 1, None)[0].reshape(SHAPE)
        assert np.abs(found - some.x[0]).max() < 1e-3
    with pytest.raises(NotApplicable, match=r"no row of .* is told in full"):
        attack.rebuild(encrypted(whole, 0.97, "first"), 1, None)


@pytest.mark.parametrize("sparse", [True, False])
def test_bins_that_are_told_return_their_records(sparse):
    model, some = network(SmallCNN), records(12, 5)
    front = ImprintServer(bins=64, sparse=sparse).module(model, client=0, knowledge=known(model))
    whole = message(front, some)
    seen = encrypted(whole, 0.3, "first")
    told = ~seen.hidden["imprint.weight"].any(axis=1)
    assert 0 < told.sum() < 64
    every, some_bins = Bins.of(whole), Bins.of(seen)
    assert len(some_bins.bias) == told.sum()  # bins of which the next is hidden would be left out
    assert np.allclose(some_bins.weight, every.weight[told])
    x = some.x.reshape(12, -1)

    def returned(bins):
        images = quotients(bins)
        return {i for i in range(12) if np.abs(images - x[i]).max(axis=1).min(initial=1) < 1e-2}

    assert returned(some_bins) < returned(every)
    with pytest.raises(NotApplicable, match="no row of imprint is told"):
        Bins.of(encrypted(whole, 0.9, "first"))


def test_cosines_are_those_of_the_entries_told():
    model, some, others = network(MLP, hidden=8), records(4, 6), records(10, 7)
    whole = message(model, records(5, 8))
    seen = encrypted(whole, 0.6, "first")
    found = gradient_cosines(
        copy.deepcopy(model), some, [seen.update], others, hidden=seen.hidden, task=multiclass
    )[:, 0]
    told = np.concatenate([seen.readable(name).ravel() for name in seen.update])

    def left(some):
        update = message(model, some).update
        return np.concatenate([g.ravel() for g in update.values()]).astype(float)[told]

    shared = np.stack([left(others.take(np.array([i]))) for i in range(10)])
    basis = np.linalg.qr(shared.T).Q
    u = left(records(5, 8))
    u = u - basis @ (basis.T @ u)
    for i in range(4):
        g = left(some.take(np.array([i])))
        g = g - basis @ (basis.T @ g)
        assert found[i] == pytest.approx(g @ u / np.linalg.norm(g) / np.linalg.norm(u), abs=1e-4)
