"""The views of somebody's model: a torch network, or any function that answers records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from medleak.api.errors import ConfigError, DataError
from medleak.api.networks import inputs
from medleak.api.task import Task, task_of

Returns = Literal["probabilities", "log_probabilities", "logits", "labels"]
RETURNS = ("probabilities", "log_probabilities", "logits", "labels")
"""What a model may answer."""
LEAST_ANSWERS = 32
"""Numbers from which logits that look like probabilities are none by chance."""


def of_function(
    function: Callable[[np.ndarray], Any], *, returns: Returns, task: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Views of a function, and why others are hidden. See `Release.from_callable`."""
    known = task_of(task)
    read = _reader(returns, known)

    def answers(x: np.ndarray) -> np.ndarray:
        found = np.asarray(function(x))
        if found.ndim == 0 or len(found) != len(x):
            raise DataError(f"the model answered shape {found.shape} to {len(x)} records")
        return read(found)

    if returns == "labels":
        reason = "the model answers labels only"
        return {"labels": answers}, {"scores": reason, "weights": reason}
    hidden = {"weights": "the model is a function: its parameters are not known"}
    return {"scores": answers, "labels": lambda x: known.predictions(answers(x))}, hidden


def of_torch(
    model: Any,
    *,
    n_outputs: int | None,
    task: str,
    returns: Returns,
    device: str | None,
    batch_size: int,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Views of a network, and why others are hidden. See `Release.from_torch`."""
    known = task_of(task)

    def answers(x: np.ndarray) -> np.ndarray:
        found = forward(model, x, device=device, batch_size=batch_size)
        n = n_outputs or (found.shape[1] if found.ndim > 1 else 0)
        if returns in ("logits", "probabilities"):
            wanted = (len(x), *known.output_shape(n, x.shape[1:]))
            if found.shape != wanted:
                raise DataError(f"the network answered shape {found.shape}: {wanted} is needed")
        if returns == "logits" and _normalised(found, known):
            raise ConfigError(
                "the network answers probabilities, not logits (it ends in a softmax or sigmoid): "
                "write returns='probabilities'"
            )
        return found

    views, hidden = of_function(answers, returns=returns, task=task)
    hidden.pop("weights")
    return views, hidden


def parameters(model: Any) -> dict[str, np.ndarray]:
    """name -> array of a network's state, copied."""
    return {name: t.detach().cpu().numpy().copy() for name, t in model.state_dict().items()}


def forward(model: Any, x: np.ndarray, *, device: str | None, batch_size: int) -> np.ndarray:
    """A network's answers in evaluation mode, without gradients; modes and generators are left as
    they were.

    Raises:
        DataError: it answers something other than one tensor.
    """
    import torch

    place = device or next((p.device for p in model.parameters()), "cpu")
    if device is not None:
        model.to(device)
    generators = [place] if torch.device(place).type == "cuda" else []
    with _evaluating(model), torch.inference_mode(), torch.random.fork_rng(generators):
        parts = [model(part.to(place)) for part in inputs(x).split(batch_size)]
    strange = [part for part in parts if not torch.is_tensor(part)]
    if strange:
        kind = type(strange[0]).__name__
        raise DataError(f"the network answers a {kind}: one tensor is needed (wrap its forward)")
    return torch.cat(parts).cpu().numpy()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _normalised(answers: np.ndarray, task: Task) -> bool:
    """Whether answers that should be logits are probabilities."""
    try:
        task.logits_of(answers)
    except DataError:
        return False
    return answers.size >= LEAST_ANSWERS


def _reader(returns: str, task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """From what a model answers to the view that a release offers of it."""
    readers = {
        "probabilities": lambda p: task.log_probabilities(task.logits_of(p)),
        "log_probabilities": _log_probabilities,
        "logits": lambda z: task.log_probabilities(_numbers(z)),
        "labels": lambda labels: labels,
    }
    if returns not in readers:
        raise ConfigError(f"returns={returns!r}: one of {', '.join(RETURNS)} is needed")
    return readers[returns]


def _numbers(z: np.ndarray) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    if np.isnan(z).any():
        raise DataError(f"{int(np.isnan(z).sum())} of the model's answers are NaN")
    return z


def _log_probabilities(log_p: np.ndarray) -> np.ndarray:
    log_p = _numbers(log_p)
    if (log_p > 1e-3).any():
        raise DataError(f"{log_p.max():.4g} is no log-probability: 0 or less is needed")
    return log_p
