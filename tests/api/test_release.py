"""Somebody's model as a release: what it answers, and what is left as it was."""

import numpy as np
import pytest
import torch

from medleak.api import ConfigError, DataError, Hidden, Release, task_of

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def network(n=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(6, n), torch.nn.Dropout(0.5))


def test_a_network_has_three_views():
    net = network()
    release = Release.from_torch(net, n_outputs=3)
    with torch.no_grad():
        wanted = net.eval()(torch.from_numpy(X)).log_softmax(1).numpy()
    np.testing.assert_allclose(release.scores(X), wanted, atol=1e-6)
    assert (release.labels(X) == wanted.argmax(1)).all()
    assert release.queries == 80
    np.testing.assert_array_equal(release.weights["0.bias"], net[0].bias.detach().numpy())
    assert release.granting("scores").hidden.keys() >= {"weights"}


def test_batches_are_one_answer():
    whole, parts = (Release.from_torch(network(), batch_size=n).scores(X) for n in (512, 7))
    np.testing.assert_allclose(whole, parts, atol=1e-6)


def test_modes_gradients_and_generators_stay():
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.head = torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3)

        def forward(self, x):
            return torch.nn.functional.dropout(self.head(self.frozen(x)), training=True)

    net = Noisy().train()
    net.frozen.eval()
    state = torch.get_rng_state()
    Release.from_torch(net).scores(X)
    assert torch.equal(state, torch.get_rng_state())
    assert (net.training, net.frozen.training, net.head.training) == (True, False, True)
    assert net.head.weight.grad is None


def test_images_are_scaled():
    pictures = np.random.default_rng(1).integers(0, 256, (4, 1, 5, 5), dtype=np.uint8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(25, 3))
    release = Release.from_torch(net)
    np.testing.assert_allclose(
        release.scores(pictures), release.scores((pictures / 255).astype(np.float32)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("task", "last"),
    [("multiclass", torch.nn.Softmax(1)), ("multilabel", torch.nn.Sigmoid())],
)
def test_probabilities_are_noticed(task, last):
    net = torch.nn.Sequential(network(), last)
    with pytest.raises(ConfigError, match="returns='probabilities'"):
        Release.from_torch(net, task=task).scores(X)
    plain = Release.from_torch(network(), task=task).scores(X)
    read = Release.from_torch(net, task=task, returns="probabilities").scores(X)
    np.testing.assert_allclose(read, plain, atol=1e-5)


@pytest.mark.parametrize(("task", "shape"), [("multiclass", (5, 3)), ("segmentation", (5, 3, 4, 4)),
                                             ("multilabel", (5, 3))])  # fmt: skip
def test_a_function_says_what_it_returns(task, shape):
    z = np.random.default_rng(0).normal(size=shape)
    log_p = task_of(task).log_probabilities(z)
    p = np.exp(log_p[..., 1] if task == "multilabel" else np.moveaxis(log_p, -1, 1))
    for returns, answer in {"probabilities": p, "log_probabilities": log_p, "logits": z}.items():
        release = Release.from_callable(lambda x, a=answer: a, returns=returns, task=task)
        np.testing.assert_allclose(release.scores(X[:5]), log_p, atol=1e-9)
        assert (release.labels(X[:5]) == log_p.argmax(-1)).all()
        with pytest.raises(Hidden, match="function"):
            release.weights  # noqa: B018


def test_certainty_is_minus_infinity():
    release = Release.from_callable(lambda x: np.array([[1.0, 0.0]] * len(x)))
    assert release.scores(X[:1]).tolist() == [[0.0, -np.inf]]
    several = Release.from_callable(lambda x: np.array([[1.0, 0.0]]), task="multilabel")
    assert several.scores(X[:1]).tolist() == [[[-np.inf, 0.0], [0.0, -np.inf]]]


def test_labels_only():
    release = Release.from_callable(lambda x: np.ones(len(x), int), returns="labels")
    assert release.labels(X[:3]).tolist() == [1, 1, 1]
    with pytest.raises(Hidden, match="labels only"):
        release.scores(X)


@pytest.mark.parametrize(
    ("answer", "returns", "words"),
    [
        ([[0.5, 0.8]], "probabilities", "sum of 1 by 0.3"),
        ([[-0.5, 1.5]], "probabilities", "no probability"),
        ([[np.nan, 1.0]], "probabilities", "no probability"),
        ([[0.5, 0.5]], "log_probabilities", "no log-probability"),
        ([[np.nan, 0.5]], "logits", "NaN"),
        ([[0.5, 0.5]] * 2, "probabilities", r"\(2, 2\) to 1 record"),
    ],
)
def test_strange_answers_are_refused(answer, returns, words):
    with pytest.raises(DataError, match=words):
        Release.from_callable(lambda x: np.array(answer), returns=returns).scores(X[:1])


def test_what_cannot_be_a_release():
    with pytest.raises(ConfigError, match="probabilities"):
        Release.from_callable(len, returns="probability")
    with pytest.raises(ConfigError, match="did you mean 'multiclass'"):
        Release.from_torch(network(), task="multiclas")
    with pytest.raises(DataError, match=r"\(40, 3\): \(40, 4\)"):
        Release.from_torch(network(), n_outputs=4).scores(X)

    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(DataError, match="tuple"):
        Release.from_torch(Pair()).scores(X)
