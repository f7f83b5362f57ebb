"""Records of which a model, or messages of federated training, tell who was trained on; strangers without a leak.

An attack on a classifier meets `membership_world`; one on messages, batches of members under a small
network. One that plants canaries takes part in a short training under DP-SGD, of which, without a leak,
another coin decided who was in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    Knowledge,
    MembershipTruth,
    NotApplicable,
    Output,
    PoisoningPolicy,
    ProblemSpec,
    Records,
    Release,
    Trainer,
)
from medleak.api.goal import Example, Outcome, Question
from medleak.config.instantiate import build
from medleak.goals import synthetic
from medleak.goals.membership.membership_world import membership_world

VIEWS = ("labels", "scores", "weights")
LEAK, MOST_SHADOWS = 6.0, 64
PEOPLE, FEATURES, HIDDEN, BATCH = 120, 40, 32, 3
AUDITED, WIDE = 400, 300
RECIPE = {"_target_": "medleak.targets.recipes.SGD"}
PRIVATE = {
    "_target_": "medleak.defenses.train.dp_sgd.DPSGD",
    "noise_multiplier": 0.5,
    "sampling_rate": 0.25,
    "epochs": 10,
}


def example(attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0) -> Example:
    """About half of the records were trained on; `knowledge["example"]` may set the task and the shape.

    Raises:
        NotApplicable: no example has the view that the attack needs.
    """
    access = attack.requires.access
    policy = knowledge.get("policy")
    if access in VIEWS:
        made = _classifier(knowledge, leak=leak, seed=seed)
    elif access == "aggregate":
        made = _messages(leak, seed)
    elif isinstance(policy, PoisoningPolicy):
        made = _poisoned(policy, leak, seed)
    else:
        raise NotApplicable(f"the example of membership has no view '{access}'")
    made.knowledge.budget = knowledge.get("budget")
    if "architecture" not in attack.requires.knowledge:
        made.knowledge.network = None
    return made


def outcome(question: Question, output: Output) -> Outcome:
    """AUC, against the exact standard deviation of the rank statistic where nothing leaks."""
    from medleak.metrics.statistics.roc import auc

    member = question.truth.member
    slack = synthetic.auc_slack(int(member.sum()), int((~member).sum()))
    return Outcome(auc(output.scores, member), 0.5, slack)


def _classifier(knowledge: Mapping[str, Any], *, leak: bool, seed: int) -> Example:
    release, challenge, truth, known = membership_world(
        leak=LEAK * leak,
        seed=seed,
        n_shadows=min(MOST_SHADOWS, int(knowledge.get("n_shadows") or 0)),
        pool=knowledge.get("pool", "audit"),
        **knowledge.get("example", {}),
    )
    if not knowledge.get("reference"):
        known.reference = None
    return Example(release, Question(challenge, truth), known)


def _table(rng: np.random.Generator, n: int, width: int) -> Records:
    x = rng.standard_normal((n, width)).astype(np.float32)
    return Records(x, rng.integers(0, 2, n), np.arange(n))


def _messages(leak: bool, seed: int) -> Example:
    rng = np.random.default_rng([seed, 0])
    network = synthetic.dense(FEATURES, 2, hidden=HIDDEN, activation="Tanh")
    asked, strangers, auxiliary = (_table(rng, PEOPLE, FEATURES) for _ in range(3))
    member = rng.permutation(np.arange(PEOPLE) % 2 == 0)
    batches = np.flatnonzero(member).reshape(-1, BATCH)
    seen = [
        synthetic.message([network], [(asked if leak else strangers).take(batch)], index=i)
        for i, batch in enumerate(batches)
    ]
    known = Knowledge(
        ProblemSpec(PEOPLE // 2, PEOPLE // 2, 1, (FEATURES,), 2),
        auxiliary=auxiliary,
        rng=np.random.default_rng([seed, 1]),
        network=synthetic.with_weights(network),
    )
    challenge = Challenge(asked, np.full(PEOPLE, "natural"))
    return Example(
        Release({"aggregate": seen}), Question(challenge, MembershipTruth(member)), known
    )


def _poisoned(policy: PoisoningPolicy, leak: bool, seed: int) -> Example:
    """The challenge holds the canaries alone."""
    rng = np.random.default_rng([seed, 2])
    records = _table(rng, AUDITED, WIDE)
    member, other = rng.random((2, AUDITED)) < 0.5
    problem = ProblemSpec(AUDITED // 2, AUDITED // 2, 1, (WIDE,), 2)
    trainer: Trainer = build(PRIVATE).apply(build(RECIPE), problem=problem)
    everybody = policy.marked(Challenge(records, np.full(AUDITED, "natural")))
    trainer, own = policy.poison(trainer, everybody, member if leak else other, seed=seed)
    network = synthetic.dense(WIDE, 2, hidden=4, activation="Tanh").train()
    facts = trainer.fit(network, own, problem=problem, seed=seed).facts
    planted = everybody.kind != "natural"
    challenge = Challenge(records.take(planted), everybody.kind[planted])
    return Example(
        Release(policy.seen(facts)),
        Question(challenge, MembershipTruth(member[planted])),
        Knowledge(problem, rng=np.random.default_rng([seed, 3])),
    )
