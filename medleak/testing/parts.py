"""The contract of a target's parts and of metrics: `check_dataset`, `check_model`, `check_recipe`, `check_metric`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    ConfigError,
    Curve,
    Dataset,
    DatasetSource,
    Estimate,
    Metric,
    ProblemSpec,
    Records,
    Trained,
    Trainer,
    multiclass,
    segmentation,
    task_of,
)
from medleak.config.instantiate import build, static
from medleak.testing.contract import attempt, generic, made_from
from medleak.testing.examples import EXAMPLES

SHAPES = ((3, 64, 64), (30,))
"""Of records on which a network is tried where no data are at hand: it has to take one of them."""
TRIED = (
    (SHAPES[0], multiclass.name),
    (SHAPES[1], multiclass.name),
    (SHAPES[0], segmentation.name),
)


def check_dataset(
    dataset: DatasetSource | Mapping[str, Any], *, need_data: bool = False
) -> list[str]:
    """What keeps a data set from being one; empty where it passes.

    It loads into arrays that fit each other and `medleak.api.Records`, with a name and a fingerprint.

    Args:
        dataset: the object, or its YAML as a mapping.
        need_data: whether data that cannot be loaded are a problem.
    """
    return loaded(dataset, need_data=need_data)[1]


def loaded(
    dataset: DatasetSource | Mapping[str, Any], *, need_data: bool = False
) -> tuple[Dataset | None, list[str]]:
    """The data, where they can be loaded, and the problems of `check_dataset`."""
    problems = _version_problems(dataset)
    source = made_from(dataset, DatasetSource, problems)
    if source is None:
        return None, problems
    problems += generic(source, dataset, (), DatasetSource)
    unread: list[str] = []
    data = attempt(unread, "dataset.load", source.load)
    problems += [p for p in unread if need_data or " raised DataError" not in p]
    if data is not None and not isinstance(data, Dataset):
        problems.append(f"dataset.load returned {type(data).__name__}: a Dataset is needed")
    if unread or not isinstance(data, Dataset):
        return None, problems
    return data, problems + _dataset_problems(data)


def check_model(
    model: Mapping[str, Any],
    *,
    in_shape: tuple[int, ...] | None = None,
    n_outputs: int = 2,
    task: str | None = None,
) -> list[str]:
    """What keeps a network from being one; empty where it passes.

    It takes `in_shape` and `n_outputs`, and maps ``(N, *in_shape)`` to finite outputs of the task's shape.

    Args:
        model: its YAML as a mapping.
        in_shape: of one record; None tries an image, and then a table.
        n_outputs: classes or labels.
        task: what it is for; None tries classes, and then masks.
    """
    first: list[str] = []
    for shape, name in TRIED if in_shape is None else [(in_shape, task or multiclass.name)]:
        problems = _model_problems(model, shape, n_outputs, task or name)
        if not problems:
            return _version_problems(model)
        first = first or problems
    return _version_problems(model) + first


def check_recipe(recipe: Trainer | Mapping[str, Any]) -> list[str]:
    """What keeps a recipe from being one; empty where it passes.

    It is a `Trainer` that fits a linear model to 16 records, twice alike from the same seed, and changes
    neither the records nor the global generators.
    """
    problems = _version_problems(recipe)
    made = made_from(recipe, Trainer, problems)
    if made is None:
        return problems
    problems += generic(made, recipe, ("makes",), Trainer)
    return problems or (_fit_problems(made) if made.makes else [])


def check_metric(metric: Metric | Mapping[str, Any]) -> list[str]:
    """What keeps a metric from being one; empty where it passes.

    Literals, docstring and constructor; on an example of its goal it returns an `Estimate` or a `Curve`, the
    same when asked again, leaves its inputs as they were, and says more where a leak is planted.
    """
    problems = _version_problems(metric)
    made = made_from(metric, Metric, problems)
    if made is None:
        return problems
    problems += generic(made, metric, ("goal",), Metric)
    example = EXAMPLES.get(made.goal)
    if problems or example is None:
        return problems
    found = [_measured(made, *example(leak), problems) for leak in (0.0, 1.0)]
    if not all(isinstance(one, Estimate | Curve) for one in found):
        return problems[:1]
    return list(dict.fromkeys(problems)) + _rise_problems(made, *map(_level, found))


def _measured(metric: Metric, answer: Any, truth: Any, problems: list[str]) -> Any:
    """What `metric` says, asked twice."""
    before = [_copied(answer), _copied(truth)]
    found, again = (attempt(problems, "calling it", lambda: metric(answer, truth)) for _ in "ab")
    if not isinstance(found, Estimate | Curve):
        problems.append(f"it returned {type(found).__name__}: an Estimate or a Curve is needed")
    elif repr(found) != repr(again):
        problems.append("it answers differently when asked again")
    if not all(_same(*pair) for pair in zip(before, [answer, truth], strict=True)):
        problems.append("it changes its input")
    return found


def _rise_problems(metric: Metric, without: float | None, with_leak: float | None) -> list[str]:
    if without is None or with_leak is None:
        return []  # "not measured", with a reason in the estimate: too few, or no such runs
    up = with_leak > without if metric.higher_is_leakier else with_leak < without
    if up:
        return []
    wanted = "above" if metric.higher_is_leakier else "below"
    return [
        f"a planted leak is not seen: {with_leak:.3g} with it is not {wanted} {without:.3g} without"
    ]


def _level(found: Estimate | Curve) -> float | None:
    return found.value if isinstance(found, Estimate) else float(np.mean(found.y))


def _copied(example: Any) -> dict[str, Any]:
    return {k: np.copy(v) for k, v in vars(example).items() if isinstance(v, np.ndarray)}


def _same(before: Mapping[str, np.ndarray], example: Any) -> bool:
    return all(np.array_equal(v, getattr(example, k)) for k, v in before.items())


def _version_problems(block: Any) -> list[str]:
    try:
        read = static(block["_target_"])
    except (ConfigError, KeyError, TypeError):
        return []  # building it says so
    if read.builtin and not isinstance(read.literals.get("version", 1), int):
        return [f"{read.target}: `version` is {read.literals['version']!r}: an integer is needed"]
    return []


def records_problems(records: Records, n_outputs: int, task: str) -> list[str]:
    """Where arrays do not fit each other, or `medleak.api.Records`."""
    x, y, n = records.x, records.y, len(records)
    problems = []
    columns = {"x": x, "patients": records.patients, **records.groups}
    lengths = {name: len(column) for name, column in columns.items() if len(column) != n}
    if lengths:
        return [f"{name} has {length} rows, y has {n}" for name, length in lengths.items()]
    if x.ndim not in (2, 4):
        problems.append(f"x has shape {x.shape}: (N, C, H, W) or (N, F) is needed")
    if x.dtype not in ((np.uint8, np.float32) if x.ndim == 4 else (np.float32,)):
        problems.append(f"x is {x.dtype}: uint8 or float32 images, or float32 tables, are needed")
    elif not np.isfinite(x).all():
        problems.append("x holds NaN or infinity")
    elif x.ndim == 4 and x.dtype == np.float32 and n and not (x.min() >= 0 and x.max() <= 1):
        problems.append(f"float images lie in {x.min():.3g}..{x.max():.3g}: 0..1 is needed")
    problems += task_of(task).label_faults(y, n_outputs, x.shape[1:])
    if records.patients.dtype != np.int64:
        problems.append(f"patients is {records.patients.dtype}: int64 is needed")
    return problems


def _dataset_problems(dataset: Dataset) -> list[str]:
    problems = records_problems(dataset.records, len(dataset.classes), dataset.task)
    if len(dataset.source) != len(dataset.records):
        problems.append(f"source has {len(dataset.source)} rows, y has {len(dataset.records)}")
    problems += [
        f"dataset.{n} is empty" for n in ("name", "fingerprint") if not getattr(dataset, n)
    ]
    return [f"dataset: {problem}" for problem in problems]


def _model_problems(block: Any, in_shape: tuple[int, ...], n_outputs: int, task: str) -> list[str]:
    import torch

    problems: list[str] = []

    def answer() -> Any:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            model = build(block, in_shape=in_shape, n_outputs=n_outputs).eval()
            return model(torch.rand(3, *in_shape))

    found = attempt(problems, f"model on {in_shape}", answer)
    wanted = (3, *task_of(task).output_shape(n_outputs, in_shape))
    shape = tuple(getattr(found, "shape", ()))
    if found is not None and shape != wanted:
        problems.append(f"model answers {shape} to 3 records of {in_shape}: {wanted} is needed")
    elif found is not None and not torch.isfinite(found).all():
        problems.append(f"model answers NaN or infinity to records of {in_shape}")
    return problems


def _fit_problems(recipe: Trainer) -> list[str]:
    import torch

    rng = np.random.default_rng(0)
    tables = rng.normal(size=(16, 64)).astype(np.float32)
    images = rng.integers(0, 256, (16, 1, 8, 8), dtype=np.uint8)
    settings = [(x, ProblemSpec(16, 16, 1, x.shape[1:], 2)) for x in (tables, images)]
    possible = [(x, problem) for x, problem in settings if not recipe.incompatibilities(problem)]
    if not possible:
        return []  # it is for other data, and says so
    x, problem = possible[0]
    records = Records(x, np.arange(16) % 2, np.arange(16))
    problems: list[str] = []
    before = x.copy()

    def fitted() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
            state = torch.get_rng_state()
            made = recipe.fit(model, records, problem=problem, seed=1, validation=records)
            if not torch.equal(state, torch.get_rng_state()):
                problems.append("fit draws from torch's global generator: seed one of its own")
        return made

    runs = [attempt(problems, "fit", fitted) for _ in range(2)]
    if problems:
        return problems[:1]
    if not all(isinstance(run, Trained) for run in runs):
        return [f"fit returned {type(runs[0]).__name__}: a Trained is needed"]
    if not np.array_equal(x, before):
        problems.append("fit changes the records that it was given")
    one, two = (run.model.state_dict() for run in runs)
    if not all(torch.equal(one[name], two[name]) for name in one):
        problems.append("two fits from the same seed give different weights")
    return problems


__all__ = ["check_dataset", "check_metric", "check_model", "check_recipe"]
