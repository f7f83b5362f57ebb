from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import MedleakError, Release, multiclass, multilabel
from medleak.attacks._whitebox import training
from medleak.attacks.membership.loss_trajectory import LossTrajectory, fresh
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

SMALL = {"epochs": 3, "n_distilled": 2}


def rows(x):
    return {row.tobytes() for row in x}


def observed_by(shadow, sent):
    def scores(x):
        sent.append(x)
        return shadow.release.view("scores")(x)

    return replace(shadow, release=Release({"scores": scores}))


def test_the_soft_loss_of_sure_targets_is_the_cross_entropy():
    z, y = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 4
    hard = nn.functional.cross_entropy(z, y)
    assert torch.allclose(
        multiclass.soft_losses(z, nn.functional.one_hot(y, 4).float()).mean(), hard
    )
    labels = (torch.arange(28).reshape(7, 4) % 3 == 0).float()
    hard = nn.functional.binary_cross_entropy_with_logits(z, labels, reduction="sum") / 7
    assert torch.allclose(
        multilabel.soft_losses(z, torch.stack([1 - labels, labels], dim=-1)).mean(), hard
    )


def test_a_student_comes_to_answer_as_its_teacher():
    release, challenge, _, knowledge = membership_world(leak=0.0, n=400, n_shadows=0, in_shape=(5,))
    attack = LossTrajectory(epochs=60, lr=0.02)
    attack.fit(release, knowledge)
    towards = np.exp(release.scores(knowledge.auxiliary.x))
    answers = attack._distilled(towards, knowledge.auxiliary.x, challenge.x, seed=1)
    teacher = release.scores(challenge.x)
    gaps = [np.abs(multiclass.logit_score(torch.tensor(z).log_softmax(1).numpy(), challenge.y)
                   - multiclass.logit_score(teacher, challenge.y)).mean() for z in answers]  # fmt: skip
    assert len(gaps) == 60
    assert gaps[-1] < gaps[0] / 4


def test_a_trajectory_ends_with_the_release_itself():
    release, challenge, _, knowledge = membership_world(leak=2.0, n=60, n_shadows=0)
    attack = LossTrajectory(**SMALL)
    attack.fit(release, knowledge)
    one, two = (
        attack._trajectory(release, knowledge.auxiliary, challenge.records, s) for s in (1, 2)
    )
    assert one.shape == (60, 4)
    assert np.array_equal(
        one[:, -1], multiclass.logit_score(release.scores(challenge.x), challenge.y)[:, 0]
    )
    assert np.array_equal(one[:, -1], two[:, -1])
    assert not np.isclose(one[:, :3], two[:, :3]).any(axis=0).all()
    again = attack._trajectory(release, knowledge.auxiliary, challenge.records, 1)
    assert np.array_equal(one, again)


def test_fresh_weights_are_the_seeds_and_none_of_the_releases():
    release, *_, knowledge = membership_world(leak=2.0, n=60, n_shadows=0)
    found = []
    for seed in (1, 1, 2):
        network = knowledge.network(release.weights)
        with training(seed):
            fresh(network)
        found.append(network.state_dict())
    for name, array in release.weights.items():
        assert torch.equal(found[0][name], found[1][name])
        assert not torch.isclose(found[0][name], found[2][name]).all()
        assert not np.isclose(found[0][name].numpy(), array).all()


def test_torch_is_left_as_it_was():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(RuntimeError), training(5):  # noqa: PT012
        assert torch.get_num_threads() == 1
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_students_never_see_whom_their_shadow_is_watched_on(pool):
    release, challenge, _, knowledge = membership_world(leak=1.0, n=120, n_shadows=3, pool=pool)
    sent = [[], [], []]
    shadows = [observed_by(s, into) for s, into in zip(knowledge.shadows, sent, strict=True)]
    LossTrajectory(**SMALL).execute(release, challenge, replace(knowledge, shadows=shadows))
    assert not sent[2]  # only two are distilled
    sizes = []
    for shadow, (taught, on) in zip(shadows[:2], sent[:2], strict=True):
        assert not rows(taught) & rows(on)
        assert rows(taught) <= rows(knowledge.auxiliary.x)
        assert not rows(taught) & rows(knowledge.auxiliary.x[shadow.auxiliary_member])
        if pool == "audit":
            assert rows(on) == rows(challenge.x)
        else:
            assert rows(on) >= rows(knowledge.auxiliary.x[shadow.auxiliary_member])
        sizes.append(len(taught))
    assert len(set(sizes)) == 1
    assert release.queries == len(challenge) + sizes[0]  # the target's student gets as many


def test_the_budget_cuts_what_students_learn_from():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=120, n_shadows=2)
    attack = LossTrajectory(**SMALL)
    output = attack.execute(release, challenge, replace(knowledge, budget=150))
    assert output.queries == 150
    with pytest.raises(MedleakError, match="no auxiliary record is left"):
        attack.execute(release, challenge, replace(knowledge, budget=120))
    with pytest.raises(MedleakError, match="no auxiliary records to distil on"):
        attack.execute(release, challenge, replace(knowledge, auxiliary=None))


def test_rounded_scores_are_no_obstacle():
    release, challenge, secret, knowledge = membership_world(leak=6.0, n=120, n_shadows=2)

    def rounded(release):
        def scores(x):
            with np.errstate(divide="ignore"):
                return np.log(np.round(np.exp(release.view("scores")(x)), 1))

        return Release({"scores": scores})

    shadows = [replace(s, release=rounded(s.release)) for s in knowledge.shadows]
    target = rounded(release)
    assert np.isinf(target.view("scores")(challenge.x)).any()
    attack = LossTrajectory(**SMALL)
    scores = attack.execute(target, challenge, replace(knowledge, shadows=shadows)).scores
    assert auc(scores, secret.member) > 0.9


@pytest.mark.parametrize("classifier", ["logistic", "mlp"])
@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
@pytest.mark.parametrize(("task", "in_shape"), [("multiclass", (1, 8, 8)), ("multilabel", (12,))])
def test_a_planted_leak_is_found_and_nothing_else(classifier, pool, task, in_shape):
    for leak in (3.0, 0.0):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n=300, n_shadows=2, pool=pool, task=task, in_shape=in_shape
        )
        attack = LossTrajectory(**SMALL, classifier=classifier)
        scores = attack.execute(release.granting("scores"), challenge, knowledge).scores
        found = auc(scores, secret.member)
        assert found > 0.85 if leak else abs(found - 0.5) < 3.3 * np.sqrt(301 / (12 * 150 * 150))


def test_refusals_and_faults():
    assert LossTrajectory().incompatibilities(None, {"n_shadows": 3}) == []
    assert (
        "distilling 2 needs at least 2"
        in LossTrajectory().incompatibilities(None, {"n_shadows": 1})[0]
    )
    assert LossTrajectory().invalid_parameters() == []
    broken = LossTrajectory(epochs=0, n_distilled=True, batch_size=1.5, lr=0, classifier="mpl")
    assert len(broken.invalid_parameters()) == 5
    assert "did you mean 'mlp'" in broken.invalid_parameters()[-1]
