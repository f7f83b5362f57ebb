"""The contract of networks, recipes and metrics: what is shipped keeps it, and each breach is named."""

import numpy as np
import pytest

from medleak.api import Curve, Estimate, Metric, Trained, Trainer
from medleak.cli.check import subjects
from medleak.config import compose, plugins
from medleak.testing import check_metric, check_model, check_recipe
from medleak.testing.examples import EXAMPLES


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")


@pytest.mark.parametrize("name", plugins.options("metric"))
def test_shipped_metrics_keep_the_contract(name):
    assert check_metric(compose.metrics()[name]) == []


@pytest.mark.parametrize("name", plugins.options("model"))
def test_shipped_networks_keep_the_contract(name):
    [job] = compose.expand([f"model={name}"])
    assert check_model(job.config["target"]["model"]) == []


@pytest.mark.parametrize("name", plugins.options("recipe"))
def test_shipped_recipes_keep_the_contract(name):
    [job] = compose.expand([f"recipe={name}"])
    assert check_recipe(job.config["target"]["recipe"]) == []


class Good(Metric):
    """Mean score of members less that of others."""

    goal = "membership"

    def __init__(self, *, level=0.95):
        self.level = level

    def __call__(self, output, secret):
        return Estimate(self.gap(output, secret), None, None, len(output.scores))

    def gap(self, output, secret):
        members = output.scores[secret.member]
        return float(members.mean() - output.scores[~secret.member].mean())


def metric(**members):
    return type("Variant", (Good,), {"__doc__": Good.__doc__, **members})()


def changes_its_input(self, output, secret):
    value = self.gap(output, secret)
    output.scores.sort()
    return Estimate(value, None, None, 1)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"__call__": lambda s, o, t: 0.5}, "it returned float: an Estimate or a Curve is needed"),
        ({"__call__": lambda s, o, t: 1 / 0}, "calling it raised ZeroDivisionError"),
        ({"__call__": changes_its_input}, "it changes its input"),
        ({"__call__": lambda s, o, t: Estimate(s.gap(o, t) + np.random.rand(), None, None, 1)},
         "answers differently when asked again"),
        ({"__call__": lambda s, o, t: Estimate(-s.gap(o, t), None, None, 1)}, "is not above"),
        ({"higher_is_leakier": False}, "is not below"),
        ({"__doc__": ""}, "no docstring"),
        ({"__init__": lambda self, level=0.95: setattr(self, "level", level)}, "keyword-only"),
    ],
)  # fmt: skip
def test_a_broken_metric_is_named(members, words):
    found = check_metric(metric(**members))
    assert any(words in problem for problem in found), found


def test_good_metrics_pass():
    assert check_metric(Good()) == []
    unmeasured = metric(__call__=lambda s, o, t: Estimate(None, None, None, 0, flag="too few"))
    assert check_metric(unmeasured) == []

    def curve(self, output, secret):
        level = self.gap(output, secret)
        return Curve((0.0, 1.0), (0.0, level), (0.0, level), (0.0, level), 1)

    assert check_metric(metric(__call__=curve)) == []


@pytest.mark.parametrize("goal", EXAMPLES)
def test_examples_are_the_same_each_time(goal):
    for one, two in zip(EXAMPLES[goal](1.0), EXAMPLES[goal](1.0), strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(two, name))


class Steps(Trainer):
    """A few steps of gradient descent."""

    def fit(self, model, records, *, problem, seed, validation=None, device="cpu"):
        import torch

        x, y = torch.from_numpy(records.x).float(), torch.from_numpy(records.y)
        torch.nn.functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= 0.1 * weight.grad
        return Trained(model, {})


def recipe(before=lambda records: None, **members):
    def fit(self, model, records, **more):
        before(records)
        return Steps.fit(self, model, records, **more)

    return type("Variant", (Steps,), {"__doc__": Steps.__doc__, "fit": fit, **members})()


def from_torch(records):
    import torch

    torch.rand(1)


def from_the_air(records):
    records.x[:] = np.random.default_rng().normal(size=records.x.shape)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (recipe(before=from_torch), "torch's global generator"),
        (recipe(before=from_the_air), "two fits from the same seed"),
        (recipe(before=from_the_air), "changes the records"),
        (recipe(fit=lambda self, model, records, **more: model), "a Trained is needed"),
        (recipe(fit=lambda self, model, records, **more: 1 / 0), "fit raised ZeroDivisionError"),
    ],
)
def test_a_broken_recipe_is_named(made, words):
    found = check_recipe(made)
    assert any(words in problem for problem in found), found


def test_a_recipe_for_images_alone_is_tried_on_images():
    seen = []
    images = recipe(
        before=lambda records: seen.append(records.x.ndim),
        incompatibilities=lambda self, problem: (
            [] if len(problem.in_shape) == 3 else ["images only"]
        ),
    )
    assert check_recipe(images) == []
    assert set(seen) == {4}


def test_each_choice_is_checked_once():
    words = ["model=cnn,mlp", "recipe=sgd", "metric=auc,roc", "seed=0,1"]
    found = [(group, name) for group, name, _ in subjects(words)]
    assert found == [
        ("model", "cnn"), ("model", "mlp"), ("recipe", "sgd"), ("metric", "auc"), ("metric", "roc"),
    ]  # fmt: skip
