"""Members never reach the frozen layers; what is not frozen is trained as before."""

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import ConfigError, Records
from medleak.config.instantiate import static
from medleak.core.keys import seed_for
from medleak.defenses.train._recipes import changed
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.federated import Federated
from medleak.defenses.train.mixup import MixUp
from medleak.defenses.train.regularised import EarlyStopping
from medleak.defenses.train.transfer_freeze import TransferFreeze, Transferred, frozen
from medleak.targets.recipes import SGD

HEAD = ("5.weight", "5.bias")


def public(small):
    return small.records(40, seed=9)


def weights(fit):
    return fit.model.state_dict()


@pytest.mark.parametrize("labels", [None, 3])
def test_without_freezing_and_pretraining_it_is_plain_training_bit_by_bit(small, labels):
    defense = TransferFreeze(frozen=0, pretrain_epochs=0)
    assert small.same(small.fit(defense, labels=labels), small.fit(labels=labels))


def test_frozen_layers_are_those_of_the_public_network_and_the_rest_moves(small):
    fit = small.fit(TransferFreeze(), validation=public(small))
    alone = small.recipe.fit(
        small.network(), public(small), problem=small.problem(), seed=seed_for("pretrain", 0)
    )
    for name, tensor in weights(fit).items():
        assert torch.equal(tensor, weights(alone)[name]) == (name not in HEAD)
    assert fit.facts["frozen_modules"] == 2  # of three: convolution, norm, linear
    assert fit.facts["frozen_parameters"] == 4 * 9 + 4 + 4 + 4
    assert fit.facts["public_records"] == 40
    assert fit.facts["public_loss"] == alone.facts["train_loss"]
    assert fit.facts["n_records"] == 60


def test_members_do_not_reach_the_frozen_layers(small):
    one, other, again = (
        small.fit(TransferFreeze(), data=small.records(seed=s), validation=public(small))
        for s in (1, 2, 1)
    )
    assert small.same(one, again)
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]) == (name not in HEAD)
    elsewhere = small.fit(
        TransferFreeze(), data=small.records(seed=1), validation=small.records(40)
    )
    assert not torch.equal(weights(one)["0.weight"], weights(elsewhere)["0.weight"])


def test_without_freezing_every_layer_goes_on_from_the_public_network(small):
    fit = small.fit(TransferFreeze(frozen=0), validation=public(small))
    alone = small.recipe.fit(
        small.network(), public(small), problem=small.problem(), seed=seed_for("pretrain", 0)
    )
    want = small.recipe.fit(alone.model.train(), small.records(), problem=small.problem(), seed=0)
    assert small.same(fit, want)
    longer = small.fit(TransferFreeze(frozen=0, pretrain_epochs=9), validation=public(small))
    assert not small.same(fit, longer)


def test_it_learns_in_the_last_layer_alone(small):
    def shaded(n, seed):
        data = small.records(n, seed=seed)
        x = (data.y * 120)[:, None, None, None] + data.x // 4
        return Records(x.astype(np.uint8), data.y, data.patients)

    recipe = SGD(epochs=20, batch_size=16, lr=0.01, optimizer="adamw")
    fit = small.fit(TransferFreeze(), recipe=recipe, data=shaded(60, 0), validation=shaded(40, 1))
    assert fit.facts["train_accuracy"] == 1


def test_running_statistics_stay_and_everything_is_put_back(small):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 4), nn.Linear(4, 2)
    )
    x, before = torch.rand(8, 1, 8, 8), {}
    with frozen(model, 0.6) as still:
        assert still == {"frozen_modules": 2, "frozen_parameters": 2 * 9 + 2 + 2 + 2}
        before = {n: t.clone() for n, t in model.state_dict().items()}
        model.train()(x).sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is not None] == [
            "3.weight", "3.bias", "4.weight", "4.bias"
        ]  # fmt: skip
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    model.train()(x)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_the_last_module_is_never_frozen(small, share):
    with frozen(small.network(), share) as still:
        assert still["frozen_modules"] == min(round(3 * share), 2)


def test_only_the_training_on_members_is_private(small):
    defenses = DPSGD(noise_multiplier=1.0, batch_size=16), TransferFreeze()
    fit = small.fit(*defenses, validation=public(small))
    assert fit.facts["sigma"] == 1.0
    noisy = small.fit(DPSGD(noise_multiplier=1.0, batch_size=16))
    for name in ("epsilon", "delta", "q", "steps"):
        assert fit.facts[name] == noisy.facts[name]
    alone = small.recipe.fit(
        small.network(),
        public(small),
        problem=small.problem(),
        seed=seed_for("pretrain", 0),
    )
    assert torch.equal(weights(fit)["0.weight"], weights(alone)["0.weight"])
    after = TransferFreeze().apply(small.recipe, problem=small.problem())
    assert DPSGD(epsilon=8).incompatibilities(small.problem(), after)


def test_a_rule_before_it_holds_for_members_only(small):
    fit = small.fit(MixUp(alpha=1.0), TransferFreeze(), validation=public(small))
    plain = small.fit(TransferFreeze(), validation=public(small))
    assert fit.facts["mixup_alpha"] == 1.0
    for name, tensor in weights(fit).items():
        assert torch.equal(tensor, weights(plain)[name]) == (name not in HEAD)


def test_public_records_are_needed_and_count_in_the_key(small):
    for validation in (None, small.records(1)):
        with pytest.raises(ConfigError, match="n_validation"):
            small.fit(TransferFreeze(), validation=validation)
    target = "medleak.defenses.train.transfer_freeze.TransferFreeze"
    assert static(target).literals["reads_validation"] is True


def test_what_it_does_not_go_with(small):
    public_setting = small.problem()
    stopping = EarlyStopping().apply(small.recipe, problem=public_setting)
    (reason,) = TransferFreeze().incompatibilities(public_setting, stopping)
    assert "pre-trains on" in reason
    federation = Federated().apply(small.recipe, problem=public_setting)
    assert (
        "FederatedTrainer is none"
        in TransferFreeze().incompatibilities(public_setting, federation)[0]
    )
    transferred = TransferFreeze().apply(small.recipe, problem=public_setting)
    assert isinstance(transferred, Transferred)
    assert "Transferred" in repr(transferred)
    for second in (Federated(), EarlyStopping(), MixUp(), TransferFreeze()):
        assert second.incompatibilities(public_setting, transferred)
    flat = changed(small.recipe, augment=["flip"])
    table = small.problem(n_patients=60)
    assert TransferFreeze().apply(flat, problem=table).incompatibilities(
        table
    ) == flat.incompatibilities(table)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [({"frozen": 1}, "frozen 1"), ({"frozen": -0.1}, "frozen -0.1"), ({"frozen": None}, "frozen"),
     ({"pretrain_epochs": -1}, "pretrain_epochs -1"), ({"pretrain_epochs": 1.5}, "pretrain_epochs")],
)  # fmt: skip
def test_impossible_settings_are_named(small, keywords, named):
    assert named in TransferFreeze(**keywords).invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        TransferFreeze(**keywords).apply(small.recipe, problem=small.problem())
