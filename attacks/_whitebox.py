"""What attacks do with a network: its inputs, its loss, per-record gradients, its last layer.

Everything runs on the CPU in evaluation mode. Torch is imported inside the functions, so that
planning does without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from medleak.api import Records, Task
from medleak.api.networks import inputs as inputs
from medleak.api.networks import last_layer as last_layer

CHUNK = 64
"""Records whose gradients are held at once."""


def gradient_squares(network: Any, x: np.ndarray, y: np.ndarray, *, task: Task) -> np.ndarray:
    r"""Squared norms of each record's gradient, by parameter, float64 ``(N, P)``.

    .. math:: \lVert \nabla_{\theta_k} \ell(f_\theta(x_i), y_i) \rVert^2

    In double precision: for a memorised record, :math:`1 - p_y` has no digits left in single precision.
    """
    import torch

    def squares(grads: Any) -> Any:
        return torch.stack([(g**2).flatten(1).sum(-1) for g in grads.values()], dim=-1)

    return each_gradient(network, x, y, squares, task=task)


def gradients(network: Any, records: Records, *, task: Task) -> np.ndarray:
    """Each record's gradient over all parameters, in the network's order, float64 ``(N, P)``."""
    return each_gradient(network, records.x, records.y, _flat(network), task=task)


def _flat(network: Any) -> Callable[[Any], Any]:
    """Gradients by name, ``(n, ...)`` each, to ``(n, P)``."""
    import torch

    names = [name for name, _ in network.named_parameters()]
    return lambda grads: torch.cat([grads[name].flatten(1) for name in names], dim=1)


def gradient_cosines(
    network: Any,
    records: Records,
    updates: Sequence[Mapping[str, np.ndarray]],
    others: Records,
    *,
    task: Task,
    hidden: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> np.ndarray:
    """Cosines of each record's gradient with `updates`, float64 ``(N, U)``.

    Over all parameters, after the span of the gradients of `others` is projected out of both: what many
    records share says nothing about one. Entries that are `hidden` in the updates (name ->
    bool array) are left out.
    """
    import torch
    from torch.nn.functional import normalize

    sizes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    visible = np.concatenate(
        [~np.asarray(hidden.get(n, np.zeros(s, bool))).ravel() for n, s in sizes.items()]
    )
    kept = torch.from_numpy(visible)

    whole = _flat(network)

    def flat(grads: Any) -> Any:
        return whole(grads)[:, kept] if len(hidden) else whole(grads)

    shared = torch.from_numpy(each_gradient(network, others.x, others.y, flat, task=task))
    basis = torch.linalg.qr(shared.T).Q

    def own(rows: Any) -> Any:
        return normalize(rows - (rows @ basis) @ basis.T, dim=1)

    sent = np.stack(
        [np.concatenate([update[name].ravel() for name in sizes])[visible] for update in updates]
    )
    directions = own(torch.from_numpy(sent).double())
    return each_gradient(
        network, records.x, records.y, lambda g: own(flat(g)) @ directions.T, task=task
    )


def each_gradient(
    network: Any, x: np.ndarray, y: np.ndarray, reduce: Callable[[Any], Any], *, task: Task
) -> np.ndarray:
    """`reduce` of the gradients of some records, name -> ``(n, ...)``, for all records in turn.

    Of the task's loss, summed over the labels of a record.

    Vectorised over records by `torch.func`, one after the other where the network does not allow that.
    """
    import torch
    from torch.func import functional_call, grad, vmap

    network = network.double()
    weights = {n: p.detach() for n, p in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def of_one(weights: Any, xi: Any, yi: Any) -> Any:
        answer = functional_call(network, {**weights, **buffers}, (xi[None],))
        return task.total_loss(answer, yi[None])

    together = vmap(grad(of_one), in_dims=(None, 0, 0))
    x, y = inputs(x).double(), torch.from_numpy(np.ascontiguousarray(y))
    rows = []
    for xs, ys in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        try:
            rows.append(reduce(together(weights, xs, ys)))
        except RuntimeError:  # an operation that has no vectorised form
            singly = [grad(of_one)(weights, xi, yi) for xi, yi in zip(xs, ys, strict=True)]
            rows += [reduce({n: g[None] for n, g in one.items()}) for one in singly]
    return torch.cat(rows).numpy()


@contextlib.contextmanager
def training(seed: int) -> Iterator[None]:
    """Run torch on one thread with its generator seeded by `seed`; restore both afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
