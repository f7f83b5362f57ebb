"""The contract of plugins: a check for each kind of component, and a synthetic world.

Each check returns problems, one line each; none means that the plugin passes::

    def test_contract():
        assert check_attack(MyAttack()) == []

Attacks are checked on the examples of their goal, defenses on `membership_world`, without data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (  # fmt: skip
    SLOTS,
    VIEWS,
    Attack,
    ConfigError,
    Defense,
    Guarantee,
    ProblemSpec,
    Records,
    Release,
    ThreatModel,
    Trainer,
    View,
)
from medleak.config.instantiate import build, static
from medleak.core.suggestions import unknown
from medleak.goals.membership.membership_world import membership_world
from medleak.goals.registry import goal_of
from medleak.testing.attack_check import AttackCheck, unexercised
from medleak.testing.contract import attempt, generic, made_from, strings
from medleak.testing.parts import (
    check_dataset,
    check_metric,
    check_model,
    check_recipe,
    loaded,
    records_problems,
)
from medleak.training.artefacts import KINDS
from medleak.training.pipeline import stage_blocks

KNOWLEDGE = {"pool": "audit", "n_shadows": 16, "reference": True}
"""What an attack is given where it comes without a YAML block."""
RECIPE = {"_target_": "medleak.targets.recipes.SGD"}


def check_attack(attack: Attack | Mapping[str, Any], *, rng: int = 0) -> list[str]:
    """What keeps an attack from being one; empty where it passes.

    Its literals, docstring and constructor; then, on the examples of its goal and with no view but
    those that `requires.access` grants: an answer of the right shape without NaN that depends on nothing
    random but `Knowledge.rng`; inputs and global generators left alone; queries counted and within
    budget; no leak found where there is none, and a planted one found. Scores of membership do not depend
    on the order of the records. What no example suits is only checked without: see `not_exercised`.

    Args:
        attack: the object, or its YAML as a mapping.
        rng: seed of the examples.
    """
    problems: list[str] = []
    made = made_from(attack, Attack, problems)
    if made is None:
        return problems
    problems += generic(made, attack, ("requires", "paper"), Attack)
    if not made.paper:
        problems.append('`paper` is missing: "Author et al. year, title, venue"')
    if not isinstance(getattr(made, "requires", None), ThreatModel):
        return [*problems, "`requires` is no ThreatModel"]
    goal = attempt(problems, "its goal", lambda: goal_of(made.requires.goal))
    block = attempt(problems, "its policy", lambda: _block(attack))
    if goal is None or block is None:
        return problems
    reason = attempt(problems, "the example of its goal", lambda: unexercised(made, goal, block))
    if reason is None or reason:
        return problems
    return problems + AttackCheck(made, goal, block, rng).problems()


def not_exercised(attack: Attack | Mapping[str, Any]) -> str:
    """Why `check_attack` cannot run an attack: no example of its goal suits it. "" where one does."""
    made = made_from(attack, Attack, [])
    if made is None:
        return ""
    try:
        return unexercised(made, goal_of(made.requires.goal), _block(attack))
    except ConfigError:
        return ""  # `check_attack` says so


def _block(attack: Attack | Mapping[str, Any]) -> dict[str, Any]:
    """What an example is made by: the knowledge block, and the policy."""
    if not isinstance(attack, Mapping):
        return dict(KNOWLEDGE)
    policy = {"policy": build(attack["policy"])} if attack.get("policy") else {}
    return {**(attack.get("knowledge") or {}), **policy}


# --------------------------------------------------------------------------- defenses


def check_defense(
    defense: Defense | Mapping[str, Any], *, trainer: Trainer | Mapping[str, Any] | None = None
) -> list[str]:
    """What keeps a defense from being one; empty where it passes.

    Slot and views are literals that exist; `incompatibilities` and `guarantees` return what they should;
    `apply` maps the slot's type to the same type, takes away the views in `hides` and no others,
    adds those in `exposes`, and leaves what it was given as it was.

    Args:
        defense: the object, its block, or a whole preset with `slots`.
        trainer: what a filling of the train slot receives (None: the plain recipe).
    """
    if isinstance(defense, Mapping) and "_target_" not in defense:
        return _preset_problems(defense, trainer)
    problems: list[str] = []
    made = made_from(defense, Defense, problems)
    if made is None:
        return problems
    problems += generic(made, defense, ("slot", "hides", "exposes", "makes"), Defense)
    if getattr(made, "slot", None) not in SLOTS:
        return [*problems, f"`slot` is {getattr(made, 'slot', None)!r}: one of {', '.join(SLOTS)}"]
    for view in [*made.hides, *made.exposes]:
        if view not in VIEWS:
            problems.append(f"view {view!r} does not exist (views: {', '.join(VIEWS)})")
    problems += [f"`hides` gives no reason for '{v}'" for v, why in made.hides.items() if not why]
    base = made_from(RECIPE if trainer is None else trainer, Trainer, problems)
    release, challenge, _, knowledge = membership_world(leak=1.0, n=2000, n_shadows=0)
    problem = knowledge.problem
    refused = strings(problems, "incompatibilities", lambda: made.incompatibilities(problem, base))
    if refused:
        return [*problems, f"refuses the plain recipe: {'; '.join(refused)}"]
    promised = attempt(problems, "guarantees", lambda: made.guarantees(problem, base))
    if promised is not None and not (
        isinstance(promised, list) and all(isinstance(g, Guarantee) for g in promised)
    ):
        problems.append(f"guarantees returned {promised!r}: a list of Guarantee is needed")
    if made.slot in ("release", "serve"):
        return problems + _release_problems(made, release, challenge.x, problem)
    if made.slot == "records":
        problems += _made_problems(made, challenge.records, problem)
    if made.slot == "train":
        result = attempt(problems, "apply", lambda: made.apply(base, problem=problem))
        if result is not None and not isinstance(result, Trainer):
            problems.append(f"apply returned {type(result).__name__}: a Trainer is needed")
    return problems


def _made_problems(stage: Defense, records: Records, problem: ProblemSpec) -> list[str]:
    """What a stage of slot `records` makes: twice the same, of the kinds that it says."""
    problems = [
        f"`makes` names {unknown('kind of artefact', name, KINDS.names())}"
        for name in stage.makes
        if name not in KINDS
    ]
    found, again = (
        attempt(problems, "make", lambda: stage.make(records, problem=problem, seed=1))
        for _ in range(2)
    )
    if found is None or again is None:
        return problems[:1] or ["make returned None: a Made is needed"]
    if not isinstance(found.records, Records):
        name = type(found.records).__name__
        return [*problems, f"apply returned {name}: a Records is needed"]
    if set(found.artefacts) != set(stage.makes):
        problems.append(f"made {sorted(found.artefacts)}, and `makes` says {sorted(stage.makes)}")
    if not np.array_equal(found.records.x, again.records.x):
        problems.append("make gives other records when called again with the same seed")
    return problems + records_problems(found.records, problem.n_outputs, problem.task)


def _preset_problems(preset: Mapping[str, Any], trainer: Any) -> list[str]:
    problems: list[str] = []
    *_, knowledge = membership_world(leak=1.0, n=2000, n_shadows=0)
    base = made_from(RECIPE if trainer is None else trainer, Trainer, problems)
    for slot, blocks in (preset.get("slots") or {}).items():
        for block in stage_blocks(blocks):
            name = str(block.get("_target_", "")).rpartition(".")[2]
            found = check_defense(block, trainer=base)
            problems += [f"{slot}: {name}: {p}" for p in found]
            if slot == "train" and not found:  # the next filling receives what this one made
                base = build(block).apply(base, problem=knowledge.problem)
            try:
                fills = static(block["_target_"]).literals.get("slot")
            except (ConfigError, KeyError):
                continue  # said above
            if fills != slot:
                problems.append(f"{slot}: {name} fills slot '{fills}'")
    return problems


def _release_problems(
    made: Defense, release: Release, x: np.ndarray, problem: ProblemSpec
) -> list[str]:
    problems: list[str] = []
    before = dict(release.views)
    served = attempt(problems, "apply", lambda: made.apply(release, problem=problem))
    if served is None:
        return problems or ["apply returned None: a Release is needed"]
    if not isinstance(served, Release):
        return [f"apply returned {type(served).__name__}: a Release is needed"]
    if release.views != before:
        problems.append("apply changes the release that it was given")
    left = set(served.views)
    problems += [f"view '{v}' is in `hides`, but still there" for v in made.hides if v in left]
    for view in sorted((set(before) | set(made.exposes)) - set(made.hides) - left):
        problems.append(f"view '{view}' is gone, but not in `hides`")
    for view in sorted(left - set(before) - set(made.exposes)):
        problems.append(f"view '{view}' is new, but not in `exposes`")
    for view in sorted(left & {"scores", "labels"}):
        problems += _answer_problems(served, release, view, x)
    if not problems and {"scores", "labels"} <= left:
        problems += _label_problems(served, x)
    return problems


def _label_problems(served: Release, x: np.ndarray) -> list[str]:
    scores, labels = served.scores(x), served.labels(x)
    own = np.take_along_axis(scores, np.asarray(labels, dtype=np.int64)[..., None], -1)[..., 0]
    wrong = int((own < scores.max(-1)).sum())
    return (
        [f"views 'labels' and 'scores' disagree on {wrong} of {own.size} records"] if wrong else []
    )


def _answer_problems(served: Release, plain: Release, view: View, x: np.ndarray) -> list[str]:
    problems: list[str] = []
    wanted = getattr(plain, view)(x)
    answer, again = (
        attempt(problems, f"view '{view}'", lambda: np.asarray(getattr(served, view)(x)))
        for _ in range(2)
    )
    if answer is None or again is None:
        return problems[:1]
    if answer.shape != wanted.shape:
        return [f"view '{view}' has shape {answer.shape}: {wanted.shape} is needed"]
    if not np.array_equal(answer, again, equal_nan=True):
        problems.append(f"view '{view}' answers differently when asked again")
    if view == "scores" and answer.dtype != np.float64:
        problems.append(f"view 'scores' is {answer.dtype}: float64 log-probabilities are needed")
    if view == "scores" and not (answer <= 1e-9).all():
        problems.append("view 'scores' holds values above 0 or NaN: log-probabilities are needed")
    return problems


# --------------------------------------------------------------------------- targets


def check_target(target: Mapping[str, Any], *, need_data: bool = False) -> list[str]:
    """What keeps a target's YAML from being one; empty where it passes.

    Its parts keep `check_dataset`, `check_model` and `check_recipe`; medleak's own have a version.

    Args:
        target: the YAML as a mapping.
        need_data: whether data that cannot be loaded are a problem; if not, the model is tried on
            ``(3, 64, 64)`` images instead.
    """
    missing = [name for name in ("dataset", "model", "recipe", "split") if name not in target]
    if missing:
        return [f"block '{name}' is missing" for name in missing]
    data, problems = loaded(target["dataset"], need_data=need_data)
    about = {}
    if data is not None:
        about = {"in_shape": tuple(data.records.x.shape[1:]), "n_outputs": len(data.classes)}
        about["task"] = data.task
    problems += check_model(target["model"], **about)
    return problems + check_recipe(target["recipe"])


__all__ = [
    "check_attack",
    "check_dataset",
    "check_defense",
    "check_metric",
    "check_model",
    "check_recipe",
    "check_target",
    "membership_world",
    "not_exercised",
]
