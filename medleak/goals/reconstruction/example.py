"""Gradient messages of a small network, with the records behind them; without a leak, noise instead.

Images are smooth and few. An honest server reads messages of one record, or of a few where the attack
solves for a fully connected first layer; a malicious one sends what its policy makes, and reads the
sum of two clients. An informed adversary knows all records of a message but one, and the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    InformedPrior,
    Knowledge,
    NotApplicable,
    Output,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
)
from medleak.api.goal import Example, Outcome, Question
from medleak.goals import synthetic
from medleak.goals.synthetic import SIDE

SHAPE, CLASSES = (1, SIDE, SIDE), 2
MESSAGES, MORE_MESSAGES, CLIENTS = 8, 24, 2
"""More messages where records are solved for in closed form, without a search."""
FEW, MANY, CANDIDATES = 3, 16, 8
"""Records of a message that a dense layer is solved for; of a sum under a malicious server; and those
that an informed adversary chooses from."""
DECOYS, AUXILIARY = 300, 300
WAVES, CONTRAST = 4, 0.16


@dataclass(frozen=True)
class MessageTruth:
    """The records behind each message.

    Attributes:
        gallery: ``(R, C, H, W)``.
        choices: ``(T, G)`` int, positions in the gallery that each answer is compared with.
        inside: ``(T, G)`` bool, which of them are behind the message.
    """

    gallery: np.ndarray
    choices: np.ndarray
    inside: np.ndarray


def example(attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0) -> Example:
    """Messages for `attack`; `knowledge` names its `policy`, where it needs one.

    Raises:
        NotApplicable: it needs another view than "aggregate", or a policy that its YAML does not name.
    """
    needs = attack.requires
    if needs.access != "aggregate":
        raise NotApplicable(f"the example of reconstruction has no view '{needs.access}'")
    informed, malicious = "all_but_one" in needs.knowledge, needs.conduct == "malicious"
    if malicious and "policy" not in knowledge:
        raise NotApplicable("a malicious server needs a `policy` block in the attack's YAML")
    linear = attack.first_layer == "linear"
    n = MANY if malicious else FEW if linear or informed else 1
    network = (
        synthetic.dense(SIDE * SIDE, CLASSES, hidden=64, activation="ReLU")
        if linear
        else synthetic.convolutional(CLASSES)
    )
    n_messages = MESSAGES if n == 1 else MORE_MESSAGES
    records, auxiliary = (
        _records(n_messages * n + DECOYS, [seed, 0]),
        _records(AUXILIARY, [seed, 1]),
    )
    known = Knowledge(
        ProblemSpec(len(records), len(records), 1, SHAPE, CLASSES),
        auxiliary=auxiliary,
        rng=np.random.default_rng([seed, 2]),
        budget=knowledge.get("budget"),
        keep=partial(synthetic.keep, ("reconstruction", seed)),
    )
    batches = np.arange(n_messages * n).reshape(n_messages, n)
    make = synthetic.with_weights(network)
    seen = []
    for t, batch in enumerate(batches):
        parts = batch.reshape(CLIENTS if malicious else 1, -1)
        rng = np.random.default_rng([seed, 3, t])
        sent = [
            knowledge["policy"].module(make(None), client=c, knowledge=_at(known, [seed, 4, t]))
            if malicious
            else network
            for c in range(len(parts))
        ]
        one = synthetic.message(sent, [records.take(part) for part in parts])
        seen.append(one if leak else synthetic.noised(one, rng))
    if "architecture" in needs.knowledge:
        known.network = make
    question = _informed(records, batches, seed) if informed else _plain(records, batches, needs)
    return Example(Release({"aggregate": seen}), question, known)


def outcome(question: Question, output: Output) -> Outcome:
    """Share of the messages one of whose records is the nearest of the gallery to what was rebuilt.

    Chance is that of as many different guesses as were made.
    """
    truth, hits, chances = question.truth, [], []
    for t, n in enumerate(question.challenge.n_records):
        found, choices = output.reconstructions[t, :n], truth.choices[t]
        nearest = synthetic.correlations(found, truth.gallery[choices]).argmax(axis=1)
        guesses, outside = len(np.unique(nearest)), (~truth.inside[t]).mean()
        hits.append(truth.inside[t][nearest].any())
        chances.append(1 - outside**guesses)
    chance = float(np.mean(chances))
    return Outcome(float(np.mean(hits)), chance, synthetic.binomial_slack(len(hits), chance))


def _records(n: int, seed: list[int]) -> Records:
    x = synthetic.smooth_images(n, seed, waves=WAVES, contrast=CONTRAST)
    y = (x[..., SIDE // 2 :].mean(axis=(1, 2, 3)) > 0.5).astype(np.int64)
    return Records(x, y, np.arange(n))


def _at(knowledge: Knowledge, seed: list[int]) -> Knowledge:
    """What a server knows in one round: the same for all clients."""
    return Knowledge(
        knowledge.problem, auxiliary=knowledge.auxiliary, rng=np.random.default_rng(seed)
    )


def _plain(records: Records, batches: np.ndarray, needs: Any) -> Question:
    trials, n = batches.shape
    choices = np.broadcast_to(np.arange(len(records)), (trials, len(records)))
    inside = (choices[:, None] == batches[:, :, None]).any(axis=1)
    labels = tuple(np.sort(records.y[batch]) for batch in batches)
    challenge = ReconstructionChallenge(
        np.arange(trials),
        np.full(trials, n),
        SHAPE,
        labels if "labels" in needs.knowledge else None,
    )
    return Question(challenge, MessageTruth(records.x, choices, inside))


def _informed(records: Records, batches: np.ndarray, seed: int) -> Question:
    """The first record of each batch is asked for, among decoys of its label."""
    rng, decoys = np.random.default_rng([seed, 5]), np.arange(batches.size, len(records))
    choices, priors = [], []
    for t, batch in enumerate(batches):
        same_label = decoys[records.y[decoys] == records.y[batch[0]]]
        named = np.append(rng.choice(same_label, CANDIDATES - 1, replace=False), batch[0])
        choices.append(rng.permutation(named))
        priors.append(InformedPrior({t: records.take(batch[1:])}, records.take(choices[-1])))
    choices, target = np.array(choices), batches[:, :1]
    challenge = ReconstructionChallenge(
        np.arange(len(batches)),
        np.ones(len(batches), dtype=np.int64),
        SHAPE,
        tuple(records.y[target]),
        tuple(priors),
    )
    return Question(challenge, MessageTruth(records.x, choices, choices == target))
