"""Records of which a model tells a hidden value, and messages of batches that share one.

Without a leak the value has nothing to do with the records, their labels or the model. An attack on a
table's own column ("feature:N") meets a table; any other, images, one half of which the value darkens.
An attack on messages meets batches most of whose records have one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    AttributeChallenge,
    Knowledge,
    MessageAttributeChallenge,
    NotApplicable,
    Output,
    ProblemSpec,
    Records,
    Release,
)
from medleak.api.goal import Example, Outcome, Question
from medleak.api.networks import last_layer
from medleak.goals import synthetic

VIEWS = ("labels", "scores", "weights")
N, SIDE, FEATURES, CLASSES, HIDDEN = 300, 6, 6, 2, 12
MESSAGES, BATCH = 60, 8
LEAK = 3.0
VALUES = ("first", "second")


def example(attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0) -> Example:
    """Hidden values for `attack`; `knowledge` names the attribute.

    Raises:
        NotApplicable: the attack needs a view that is neither a classifier's nor a sum of messages.
    """
    access = attack.requires.access
    if access == "aggregate":
        made = _messages(leak, seed)
    elif access in VIEWS:
        made = _records(str(knowledge.get("attribute") or "sex"), leak, seed, access)
    else:
        raise NotApplicable(f"the example of attribute inference has no view '{access}'")
    made.knowledge.budget = knowledge.get("budget")
    if "architecture" not in attack.requires.knowledge:
        made.knowledge.network = None
    return made


def outcome(question: Question, output: Output) -> Outcome:
    """AUC of the second value against the first."""
    from medleak.metrics.statistics.roc import auc

    second = question.truth == 1
    value = auc(output.scores[:, 1] - output.scores[:, 0], second)
    return Outcome(value, 0.5, synthetic.auc_slack(int(second.sum()), int((~second).sum())))


def _records(attribute: str, leak: bool, seed: int, access: str) -> Example:
    rng = np.random.default_rng([seed, 0])
    own = attribute.startswith("feature:")
    column = int(attribute.partition(":")[2]) if own else None
    shape = (max(FEATURES, column + 1),) if own else (1, SIDE, SIDE)
    value, size = rng.integers(0, 2, 2 * N), int(np.prod(shape))
    flat = rng.normal(size=(2 * N, size)) if own else rng.random((2 * N, size))
    shown = value if leak else rng.integers(0, 2, 2 * N)
    place = np.arange(size) == column if own else np.arange(size) < size // 2
    if own:
        flat[:, column] = np.abs(flat[:, column]) * (2 * value - 1)
    else:
        flat = np.clip(flat - 0.3 * place * shown[:, None], 0, 1)
    x = flat.reshape(2 * N, *shape).astype(np.float32)
    network = synthetic.dense(size, CLASSES, hidden=HIDDEN, activation="Tanh")
    _read(network, place, used=leak or not own)
    release = _served(network)
    y = (release.scores(x)[:, 1] > np.log(rng.random(2 * N))).astype(np.int64)
    if not leak:
        y = rng.integers(0, 2, 2 * N)
    records = Records(x, y, np.arange(2 * N))
    known, hidden = records.take(np.arange(N)), records.take(np.arange(N, 2 * N))
    given = release.granting(access)
    table = hidden.x.copy() if own else None
    if own:
        table[:, column] = np.nan
    challenge = AttributeChallenge(
        attribute=attribute,
        values=VALUES,
        known=known,
        known_value=value[:N],
        y=hidden.y,
        labels=release.labels(hidden.x),
        scores=release.scores(hidden.x) if "scores" in given.views else None,
        features=last_layer(network, hidden.x, CLASSES)[0] if "weights" in given.views else None,
        x=table,
        column=column,
        centres=np.array([-0.8, 0.8]) if own else None,
    )
    return Example(
        _served(network),
        Question(challenge, value[N:]),
        Knowledge(
            ProblemSpec(N, N, 1, shape, CLASSES),
            auxiliary=known,
            rng=np.random.default_rng([seed, 1]),
            network=synthetic.with_weights(network),
        ),
    )


def _read(network: Any, place: np.ndarray, *, used: bool) -> None:
    """Let the first hidden unit, and the second class, go by the inputs at `place`, or none do."""
    import torch

    first, last = network[1], network[3]
    where = torch.from_numpy(place)
    with torch.no_grad():
        first.weight[:, where] = 0.0
        if used:
            first.weight[0] = torch.where(where, LEAK / where.sum(), 0.0)
            first.bias[0] = 0.0
            last.weight[:, 0] = torch.tensor([-LEAK, LEAK])


def _served(network: Any) -> Release:
    def scores(x: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            return network(torch.from_numpy(x)).double().log_softmax(1).numpy()

    views = {
        "weights": synthetic.arrays_of(network),
        "scores": scores,
        "labels": lambda x: scores(x).argmax(1),
    }
    return Release(views)


def _messages(leak: bool, seed: int) -> Example:
    rng = np.random.default_rng([seed, 2])
    network = synthetic.dense(FEATURES, CLASSES, hidden=HIDDEN, activation="Tanh")
    own, value = _people(rng, leak)
    sides = [np.flatnonzero(value == side) for side in (0, 1)]
    batches = [
        np.append(rng.choice(sides[i % 2], BATCH - 1, replace=False), rng.choice(sides[1 - i % 2]))
        for i in range(MESSAGES)
    ]
    seen = [
        synthetic.message([network], [own.take(batch)], index=i) for i, batch in enumerate(batches)
    ]
    auxiliary, known_value = _people(rng, leak)
    challenge = MessageAttributeChallenge(
        attribute="sex",
        values=VALUES,
        known=auxiliary,
        known_value=known_value,
        indices=np.arange(MESSAGES),
        n_records=np.full(MESSAGES, BATCH),
    )
    return Example(
        Release({"aggregate": seen}),
        Question(challenge, np.arange(MESSAGES) % 2),
        Knowledge(
            ProblemSpec(N, N, 1, (FEATURES,), CLASSES),
            auxiliary=auxiliary,
            rng=np.random.default_rng([seed, 3]),
            network=synthetic.with_weights(network),
        ),
    )


def _people(rng: np.random.Generator, leak: bool) -> tuple[Records, np.ndarray]:
    """A table half of whose columns carry the value, or do not, and the value."""
    value = rng.integers(0, 2, N)
    x = rng.normal(size=(N, FEATURES)).astype(np.float32)
    x[:, : FEATURES // 2] += LEAK * leak * value[:, None]
    return Records(x, rng.integers(0, 2, N), np.arange(N)), value
