"""Attribute attacks on models whose answers carry an attribute, and on models whose answers do not."""

import numpy as np
import pytest

from medleak.api import AttributeChallenge, Knowledge, ProblemSpec, Records, Release
from medleak.attacks.attribute.art_attribute import ARTAttribute
from medleak.attacks.attribute.embedding_attribute import EmbeddingAttribute
from medleak.attacks.attribute.score_attribute import ScoreAttribute
from medleak.metrics.statistics.roc import auc

N = 400


def problem(in_shape, task="multiclass"):
    return ProblemSpec(N // 2, N // 2, 1, in_shape, 2, task)


def log_softmax(z):
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True)


def asked(leak, *, seed=0, n_values=2):
    """Images whose scores carry the attribute as strongly as `leak`; y has nothing to do with it."""
    rng = np.random.default_rng(seed)
    value = rng.integers(0, n_values, 2 * N)
    y = rng.integers(0, 2, 2 * N)
    x = rng.integers(0, 256, (2 * N, 1, 8, 8), dtype=np.uint8)
    odds = leak * value + (2 * y - 1) + rng.normal(size=2 * N)
    scores = log_softmax(np.stack([np.zeros(2 * N), odds], axis=1))
    place = {row.tobytes(): i for i, row in enumerate(x)}

    def ask(some):
        return scores[[place[row.tobytes()] for row in some]]

    release = Release({"scores": ask, "labels": lambda some: ask(some).argmax(1)})
    known = Records(x[:N], y[:N], np.arange(N))
    names = tuple("ABC"[:n_values])
    hidden = AttributeChallenge(
        "sex", names, known, value[:N], y[N:], scores[N:].argmax(1), scores=scores[N:]
    )
    return release, hidden, value[N:], Knowledge(problem((1, 8, 8)))


@pytest.mark.parametrize("classifier", ["logistic", "trees"])
def test_what_scores_carry_is_found(classifier):
    release, hidden, value, knowledge = asked(2.0)
    output = ScoreAttribute(classifier=classifier).execute(release, hidden, knowledge)
    assert output.scores.shape == (N, 2)
    assert output.queries == N  # the answers about hidden records were there
    assert auc(output.scores[:, 1] - output.scores[:, 0], value == 1) > 0.8


@pytest.mark.parametrize("classifier", ["logistic", "trees"])
def test_nothing_is_found_where_scores_carry_nothing(classifier):
    release, hidden, value, knowledge = asked(0.0)
    told = ScoreAttribute(classifier=classifier).execute(release, hidden, knowledge).scores
    slack = 3.29 * np.sqrt((N + 1) / (3 * N**2))
    assert abs(auc(told[:, 1] - told[:, 0], value == 1) - 0.5) < slack


def test_several_values_are_told_apart():
    release, hidden, value, knowledge = asked(3.0, n_values=3)
    told = ScoreAttribute().execute(release, hidden, knowledge).scores
    assert told.shape == (N, 3)
    assert (told.argmax(1) == value).mean() > 0.6


def test_the_order_of_records_does_not_matter():
    release, hidden, _, knowledge = asked(1.0)
    told = ScoreAttribute().execute(release, hidden, knowledge).scores
    order = np.random.default_rng(1).permutation(N)
    names = ("y", "labels", "scores")
    moved = AttributeChallenge(
        "sex",
        hidden.values,
        hidden.known,
        hidden.known_value,
        **{name: getattr(hidden, name)[order] for name in names},
    )
    fresh = Knowledge(knowledge.problem)
    assert np.allclose(ScoreAttribute().execute(release, moved, fresh).scores, told[order])


def table(weight, *, seed=0):
    """A table whose last column is asked about; the model reads it with `weight`, and y follows it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * N, 5)).astype(np.float32)
    z = x[:, 0] + weight * x[:, 4]
    y = (z + rng.logistic(size=2 * N) > 0).astype(np.int64)
    value = (x[:, 4] > 0).astype(np.int64)

    def ask(some):
        odds = some[:, 0] + weight * some[:, 4]
        return log_softmax(np.stack([np.zeros(len(some)), odds], axis=1).astype(np.float64))

    release = Release({"scores": ask, "labels": lambda some: ask(some).argmax(1)})
    hidden = x[N:].copy()
    hidden[:, 4] = np.nan
    return release, AttributeChallenge(
        "feature:4",
        ("high", "low"),
        Records(x[:N], y[:N], np.arange(N)),
        1 - value[:N],
        y[N:],
        ask(x[N:]).argmax(1),
        scores=ask(x[N:]),
        x=hidden,
        column=4,
        centres=np.array([0.8, -0.8]),
    ), value[N:]  # fmt: skip


def test_a_feature_is_read_back_from_the_answers_of_a_model_that_uses_it():
    for weight, least, most in ((3.0, 0.9, 1.0), (0.0, 0.4, 0.6)):
        release, hidden, value = table(weight)
        output = ScoreAttribute().execute(release, hidden, Knowledge(problem((5,))))
        assert least < auc(output.scores[:, 0] - output.scores[:, 1], value == 1) < most
        assert output.queries == N + 2 * 2 * N  # known ones, and both with each value filled in


def network(weights):
    import torch

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.Linear(6, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[1].weight[:] = torch.from_numpy(weights["first"])
    return model.eval()


@pytest.mark.parametrize(("kept", "least", "most"), [(1.0, 0.95, 1.0), (0.0, 0.4, 0.6)])
def test_features_tell_what_scores_do_not(kept, least, most):
    rng = np.random.default_rng(0)
    value, y = rng.integers(0, 2, 2 * N), rng.integers(0, 2, 2 * N)
    x = rng.integers(0, 128, (2 * N, 1, 8, 8), dtype=np.uint8)
    x[value == 1, 0, :4] += 60  # a bright upper half; the last layer does not look at it
    first = np.zeros((6, 64), np.float32)
    first[0, :32] = kept
    first[1:, 32:] = rng.normal(size=(5, 32))
    weights = {"first": first}
    model = network(weights)
    from medleak.api.networks import last_layer

    hidden = AttributeChallenge(
        "sex",
        ("F", "M"),
        Records(x[:N], y[:N], np.arange(N)),
        value[:N],
        y[N:],
        y[N:],
        features=last_layer(model, x[N:], 2)[0],
    )
    release = Release({"weights": weights})
    knowledge = Knowledge(problem((1, 8, 8)), network=network)
    told = EmbeddingAttribute().execute(release, hidden, knowledge).scores
    assert least <= auc(told[:, 1] - told[:, 0], value[N:] == 1) <= most


def test_an_unknown_classifier_is_a_fault():
    assert "did you mean 'trees'" in ScoreAttribute(classifier="tree").invalid_parameters()[0]


def hard_table(weight):
    """`table`, whose answers are near enough to classes for decisions to say much."""
    release, hidden, value = table(weight)
    return release, hidden, 1 - value


@pytest.mark.parametrize("model", ["rf", "lr", "dt"])
def test_art_finds_a_column_that_the_class_gives_away(model):
    release, hidden, value = hard_table(6.0)
    attack = ARTAttribute(model=model)
    before = np.random.get_state()[1].tolist()
    output = attack.execute(release, hidden, Knowledge(problem((5,))))
    assert np.random.get_state()[1].tolist() == before
    assert output.scores.shape == (N, 2)
    assert (output.scores.argmax(1) == value).mean() > 0.8
    again = ARTAttribute(model=model).execute(release, hidden, Knowledge(problem((5,))))
    assert np.array_equal(output.scores, again.scores)
    assert output.queries == N


def test_art_finds_nothing_in_a_model_that_ignores_the_column():
    release, hidden, value = hard_table(0.0)
    told = ARTAttribute(label=False).execute(release, hidden, Knowledge(problem((5,)))).scores
    assert abs((told.argmax(1) == value).mean() - 0.5) < 3.29 * 0.5 / np.sqrt(N)


def test_art_refuses_what_is_no_column_of_a_table():
    attack = ARTAttribute()
    assert attack.incompatibilities(problem((5,)), {"attribute": "feature:1"}) == []
    assert "own columns" in attack.incompatibilities(problem((5,)), {"attribute": "sex"})[0]
    assert (
        "own columns" in attack.incompatibilities(problem((1, 8, 8)), {"attribute": "feature:1"})[0]
    )
    assert "did you mean 'rf'" in ARTAttribute(model="rff").invalid_parameters()[0]
