"""Who is behind a message: updates whose records carry an attribute, and updates whose records do not."""

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import (
    Knowledge,
    LocalTraining,
    MessageAttributeChallenge,
    NotApplicable,
    Observation,
    ProblemSpec,
    Records,
    Release,
    multiclass,
)
from medleak.attacks._whitebox import gradients
from medleak.attacks.attribute.update_attribute import UpdateAttribute
from medleak.metrics.batches import drawn, majority
from medleak.metrics.statistics.roc import auc

D, SIZE, T = 20, 8, 60


def network(weights):
    model = nn.Sequential(nn.Linear(D, 12), nn.Tanh(), nn.Linear(12, 2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p, std=0.4)
    if weights is not None:
        model.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    return model.eval()


def people(n, leak, seed):
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 2, n)
    x = rng.normal(size=(n, D)).astype(np.float32)
    x[:, 0] += leak * value
    return Records(x, rng.integers(0, 2, n), np.arange(n)), value


def gradient(some):
    model = network(None)
    y = torch.from_numpy(some.y)
    nn.functional.cross_entropy(model(torch.from_numpy(some.x)), y).backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters()}


def told(leak, **arguments):
    """AUC of the majority behind `T` messages of clients whose records are mostly alike."""
    some, value = people(600, leak, 1)
    rng = np.random.default_rng(2)
    batches = [
        np.append(rng.choice(np.flatnonzero(value == i % 2), SIZE - 1, replace=False), i)
        for i in range(T)
    ]
    truth = np.array([majority(value[batch], 2) for batch in batches])
    sent = {name: p.detach().numpy() for name, p in network(None).named_parameters()}
    local = LocalTraining(1, SIZE, 0.1)
    seen = [
        Observation(0, (i,), SIZE, sent, gradient(some.take(batch)), local)
        for i, batch in enumerate(batches)
    ]
    kept = np.flatnonzero(truth >= 0)
    known, known_value = people(400, leak, 3)
    asked = MessageAttributeChallenge(
        "sex", ("F", "M"), known, known_value, kept, np.full(len(kept), SIZE)
    )
    knowledge = Knowledge(ProblemSpec(300, 300, 1, (D,), 2), network=network)
    attack = UpdateAttribute(**arguments)
    scores = attack.execute(Release({"aggregate": seen}), asked, knowledge).scores
    assert scores.shape == (len(kept), 2)
    return auc(scores[:, 1] - scores[:, 0], truth[kept] == 1), len(kept)


def test_what_batches_have_in_common_is_told():
    assert told(5.0)[0] > 0.75


def test_nothing_is_told_where_records_have_nothing_in_common():
    found, n = told(0.0)
    assert abs(found - 0.5) < 3.29 * np.sqrt((n + 1) / (3 * n**2))


def test_a_few_directions_will_do():
    assert told(5.0, n_directions=8)[0] > 0.8


def test_no_message_is_no_attack():
    known, value = people(60, 0.0, 0)
    asked = MessageAttributeChallenge(
        "sex", ("F", "M"), known, value, np.zeros(1, int), np.ones(1, int)
    )
    knowledge = Knowledge(ProblemSpec(30, 30, 1, (D,), 2), network=network)
    with pytest.raises(NotApplicable, match="no message was observed"):
        UpdateAttribute().execute(Release({"aggregate": []}), asked, knowledge)


def test_gradients_of_records_add_up_to_that_of_their_batch():
    some, _ = people(5, 0.0, 4)
    rows = gradients(network(None), some, task=multiclass)
    whole = np.concatenate([g.ravel() for g in gradient(some).values()])
    assert np.allclose(rows.mean(axis=0), whole, atol=1e-6)


def test_a_majority_is_one_value_with_the_most_records():
    assert majority(np.array([0, 1, 1, -1]), 3) == 1
    assert majority(np.array([0, 1]), 2) == -1
    assert majority(np.array([-1, -1]), 2) == -1


def test_batches_have_every_majority_and_keep_to_a_group_of_patients():
    value = (np.arange(300) % 10 == 0).astype(int)  # a tenth
    patients = np.repeat(np.arange(100), 3)
    rows, truth, group = drawn(value, patients, 9, np.random.default_rng(0))
    assert rows.shape == (len(truth), 9)
    assert 0.1 < truth.mean() < 0.9
    assert [majority(value[row], 2) for row in rows] == truth.tolist()
    mine = {g: set(patients[rows[group == g]].ravel().tolist()) for g in np.unique(group)}
    assert len(mine) == 6
    assert sum(map(len, mine.values())) == len(set().union(*mine.values()))


def test_faults_name_the_argument():
    assert (
        "n_reference 3: a whole number from 20"
        in UpdateAttribute(n_reference=3).invalid_parameters()[0]
    )
