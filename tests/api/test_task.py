"""What holds of every task, and that nothing else asks which one it is."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from medleak.api import (
    ConfigError,
    Dataset,
    Records,
    Task,
    multiclass,
    multilabel,
    register_task,
    segmentation,
    task_of,
)
from medleak.api import task as registry
from medleak.api.scores import zero_floor
from medleak.data.canaries import plant_canaries
from medleak.metrics.utility import STATISTICS, utility, utility_by_group

ROOT = Path(__file__).parents[2]
TASKS = [multiclass, multilabel, segmentation]
N, C, IN = 24, 3, (1, 6, 8)


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request):
    return request.param


@pytest.fixture
def sample(task):
    """Logits ``(N, ...)`` and labels drawn with their probabilities."""
    rng = np.random.default_rng(0)
    z = 2 * rng.standard_normal((N, *task.output_shape(C, IN)))
    return z, task.drawn(z, rng)


def test_tasks_are_found_by_name(task):
    assert task_of(task.name) is task


def test_an_unknown_name_is_named_with_its_neighbour():
    with pytest.raises(ConfigError, match="'segmentatoin': did you mean 'segmentation'"):
        task_of("segmentatoin")


def test_a_name_is_taken_once():
    class Other(type(multiclass)):
        pass

    with pytest.raises(ConfigError, match="'multiclass'"):
        register_task(Other())
    assert register_task(type(multiclass)()) == multiclass  # a module that is loaded again


def test_tasks_are_frozen(task):
    with pytest.raises(AttributeError):
        task.name = "other"


def test_labels_have_the_declared_shape_and_range(task, sample):
    _, y = sample
    assert task.label_faults(y, C, IN) == []
    assert task.label_faults(y.astype(np.int32), C, IN)
    assert task.label_faults(y[..., None], C, IN)
    assert task.label_faults(y + task.n_values(C), C, IN)
    one = task.random_label(C, IN, np.random.default_rng(0))
    assert np.shape(one) == task.label_shape(C, IN)


def test_relabelling_leaves_no_entry_as_it_was(task, sample):
    _, y = sample
    other = task.relabelled(y, C, np.linspace(0, 0.999, N))
    assert (other != y).all()
    assert task.label_faults(other, C, IN) == []


def test_mislabelled_canaries_have_no_true_label(task, sample):
    _, y = sample
    x = np.zeros((N, *IN), dtype=np.uint8)
    records = Records(x, y, np.arange(N), {})
    names = tuple("abc")
    dataset = Dataset(records, np.full(N, "all"), "toy", names, "fingerprint", task=task.name)
    challenge = plant_canaries(dataset, dataset.records, {"mislabelled": 0.5}, seed=0)
    planted = challenge.kind == "mislabelled"
    assert planted.any()
    assert (challenge.y[planted] != y[planted]).all()
    assert np.array_equal(challenge.y[~planted], y[~planted])


def test_batches_in_order_tell_nothing_of_their_order(task, sample):
    _, y = sample
    order = np.random.default_rng(1).permutation(N)
    assert np.array_equal(task.in_order(y), task.in_order(y[order]))


def test_log_probabilities_normalise(task, sample):
    z, y = sample
    log_p = task.log_probabilities(z.astype(np.float32))
    assert log_p.dtype == np.float64
    assert log_p.shape[:-1] == y.shape
    assert np.allclose(np.exp(log_p).sum(axis=-1), 1)


def test_predictions_are_the_decisions_of_the_logits(task, sample):
    z, _ = sample
    decided = task.decided(z)
    assert np.array_equal(task.predictions(task.log_probabilities(z)), decided)
    assert np.array_equal(task.decided(torch.from_numpy(z)).numpy(), decided)


def test_the_loss_is_minus_the_mean_true_log_probability(task, sample):
    z, y = sample
    losses = task.losses(torch.from_numpy(z), torch.from_numpy(y)).numpy()
    found = task.true_log_probability(task.log_probabilities(z), y)
    assert losses.shape == (N,)
    assert np.allclose(losses, -found.mean(axis=1))
    sure = np.exp(task.log_probabilities(100 * task.towards(y, C)))
    soft = task.soft_losses(torch.from_numpy(z), torch.from_numpy(sure)).numpy()
    assert np.allclose(soft, -found.sum(axis=1))


def test_a_step_along_the_true_label_makes_it_more_probable(task, sample):
    z, y = sample
    before, after = (
        task.true_log_probability(task.log_probabilities(v), y) for v in (z, z + task.towards(y, C))
    )
    assert (after > before).all()


def test_record_scores_rise_together(task, sample):
    """The same questions, surer by degrees: every score has their order, at any temperature."""
    z, y = sample
    surer = np.stack([task.log_probabilities(z + k * task.towards(y, C)) for k in range(1, 5)])
    for score in (task.true_log_probability, task.logit_score):
        values = np.stack([score(log_p, y) for log_p in surer])
        assert np.isfinite(values).all()
        assert (np.diff(values, axis=0) > 0).all()
    tempered = [task.tempered_log_probability(log_p, y, temperature=2.0) for log_p in surer]
    assert np.shape(tempered) == (4, N)
    assert (np.diff(tempered, axis=0) > 0).all()


def test_scores_of_rounded_answers_are_finite(task, sample):
    z, y = sample
    with np.errstate(divide="ignore"):
        log_p = np.log(np.round(np.exp(task.log_probabilities(20 * z)), 1))
    floor = zero_floor(log_p)
    for values in (
        task.true_log_probability(log_p, y, floor=floor),
        task.logit_score(log_p, y, floor=floor),
        task.modified_entropy(log_p, y),
        task.tempered_probability(log_p, y, temperature=1.0),
    ):
        assert np.isfinite(values).all()


def test_no_record_is_no_mistake(task):
    shape = task.label_shape(C, IN)
    log_p, y = np.zeros((0, *shape, task.n_values(C))), np.zeros((0, *shape), dtype=np.int64)
    assert task.logit_score(log_p, y).shape[0] == 0
    assert task.tempered_probability(log_p, y, temperature=2.0).shape == (0,)


def test_thresholds_are_within_classes_of_what_is_scored(task, sample):
    z, y = sample
    assert task.classes(y).shape == task.logit_score(task.log_probabilities(z), y).shape


def test_one_hot_labels_add_up_to_their_values(task, sample):
    _, y = sample
    shown = task.one_hot(y, C)
    assert shown.shape == (N, C)
    assert shown.sum() == pytest.approx(y.sum() if task is multilabel else N)


def test_only_a_constant_model_has_collapsed(task, sample):
    z, _ = sample
    log_p = task.log_probabilities(z)
    assert not task.collapsed(task.predictions(log_p))
    assert task.collapsed(np.ones((N, *task.label_shape(C, IN)), dtype=np.int64))
    assert task.spread(log_p).ndim == 1


def test_a_mask_is_scored_by_its_mean_loss():
    rng = np.random.default_rng(0)
    log_p = segmentation.log_probabilities(rng.standard_normal((N, C, 4, 5)))
    y = rng.integers(0, C, (N, 4, 5))
    own = np.take_along_axis(log_p, y[..., None], axis=-1)[..., 0].reshape(N, -1)
    loss = -own.mean(axis=1)
    assert np.allclose(segmentation.true_log_probability(log_p, y)[:, 0], -loss)
    p = np.exp(-loss)
    assert np.allclose(segmentation.logit_score(log_p, y)[:, 0], np.log(p / (1 - p)))
    assert np.allclose(segmentation.tempered_probability(log_p, y, temperature=1.0), p)
    pixel = multiclass.modified_entropy(log_p.reshape(-1, C), y.ravel()).reshape(N, -1)
    assert np.allclose(segmentation.modified_entropy(log_p, y)[:, 0], pixel.mean(axis=1))


# --------------------------------------------------------------------------- utility


def test_a_perfect_model_is_perfect(task, sample):
    _, y = sample
    log_p = task.log_probabilities(50 * task.towards(y, C))
    found = utility(y, scores=log_p, patients=np.arange(N), task=task.name)
    assert tuple(found) == task.utility
    for name, estimate in found.items():
        assert estimate.value == 1
        assert STATISTICS[name].least < estimate.low < estimate.high == 1


def test_dice_and_iou_by_hand():
    y, guess = np.zeros((3, 4, 4), dtype=np.int64), np.zeros((3, 4, 4), dtype=np.int64)
    y[0, 0], guess[0, :2] = 1, 1  # 4 of 8 pixels: Dice 2 4 / 12, IoU 4 / 8
    guess[1, 0, 0] = 1  # nothing there: 0; the third image has no mask at all and says nothing
    found = utility(y, labels=guess, patients=np.arange(3), task="segmentation")
    assert found["dice"].value == pytest.approx((2 / 3 + 0) / 2)
    assert found["iou"].value == pytest.approx((1 / 2 + 0) / 2)
    assert found["pixel_accuracy"].value == pytest.approx(1 - (4 + 1) / 48)
    nothing = utility(y[2:], labels=guess[2:], patients=np.arange(1), task="segmentation")
    assert nothing["dice"].value is None
    assert nothing["dice"].flag == "no image has a mask"


def test_a_constant_answer_has_no_dice():
    rng = np.random.default_rng(0)
    y = (rng.random((20, 8, 8)) < 0.1).astype(np.int64)
    empty = utility(y, labels=np.zeros_like(y), patients=np.arange(20), task="segmentation")
    full = utility(y, labels=np.ones_like(y), patients=np.arange(20), task="segmentation")
    assert empty["dice"].value == 0
    share = y.reshape(20, -1).mean(axis=1)
    assert full["iou"].value == pytest.approx(share.mean())
    assert full["dice"].value == pytest.approx((2 * share / (1 + share)).mean())


def test_groups_have_the_statistics_of_the_task(task, sample):
    z, y = sample
    groups = {"sex": np.array(["F", "M"] * (N // 2))}
    found = utility_by_group(
        y, scores=task.log_probabilities(z), patients=np.arange(N), groups=groups, task=task.name
    )
    assert set(found) == {"sex=F", "sex=M"}
    assert all(tuple(one) == task.utility for one in found.values())


# --------------------------------------------------------------------------- one place


OWN = {"medleak/api/tasks.py", "medleak/api/__init__.py"}
"""Where tasks are defined and exported."""


def literals(path):
    names = {task.name for task in TASKS}
    tree = ast.parse(path.read_text())
    return [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in names]


def test_no_code_outside_the_tasks_names_one():
    found = {}
    for folder in ("medleak", "attacks", "defenses", "targets", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name not in OWN and (at := literals(path)):
                found[name] = at
    assert found == {}


def test_the_search_for_names_finds_them(tmp_path):
    file = tmp_path / "code.py"
    file.write_text("def f(task):\n    return task == 'multilabel'\n")
    assert literals(file) == [2]


def test_a_plugin_can_bring_a_task(monkeypatch):
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))

    class Ordinal(type(multiclass)):
        name = "ordinal"
        utility = ("accuracy",)

    task = register_task(Ordinal())
    assert isinstance(task_of("ordinal"), Task)
    y = np.arange(30) % 3
    found = utility(y, labels=y, patients=np.arange(30), task=task.name)
    assert list(found) == ["accuracy"]
