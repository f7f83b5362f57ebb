"""The contract of plugins: `check_attack`, `check_defense`, `check_target`, and a synthetic world.

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
    Dataset,
    DatasetSource,
    Defense,
    Guarantee,
    ProblemSpec,
    Records,
    Release,
    Task,
    ThreatModel,
    Trainer,
    View,
)
from medleak.config.instantiate import build, static
from medleak.goals.membership.membership_world import membership_world
from medleak.goals.registry import goal_of
from medleak.testing.attack_check import AttackCheck, unexercised
from medleak.testing.contract import attempt, generic, made_from, strings
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
    problems += generic(made, defense, ("slot", "hides", "exposes"), Defense)
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
    subjects = {"train": (base, Trainer), "records": (challenge.records, Records)}
    if made.slot in subjects:
        subject, kind = subjects[made.slot]
        result = attempt(problems, "apply", lambda: made.apply(subject, problem=problem))
        if result is not None and not isinstance(result, kind):
            problems.append(f"apply returned {type(result).__name__}: a {kind.__name__} is needed")
        elif isinstance(result, Records):
            problems += _records_problems(result, problem.n_outputs, problem.task)
    return problems


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
    return problems


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

    The data set loads into consistent arrays; the model maps ``(N, *in_shape)`` to finite
    ``(N, n_outputs)``; the recipe is a `Trainer`; medleak's own components have a version.

    Args:
        target: the YAML as a mapping.
        need_data: whether data that cannot be loaded are a problem; if not, the model is tried on
            ``(3, 64, 64)`` images instead.
    """
    missing = [name for name in ("dataset", "model", "recipe", "split") if name not in target]
    if missing:
        return [f"block '{name}' is missing" for name in missing]
    problems: list[str] = []
    for name in ("dataset", "model", "recipe"):
        problems += _version_problems(target[name])
    in_shape, n_outputs = (3, 64, 64), 2
    source = made_from(target["dataset"], DatasetSource, problems)
    if source is not None:
        problems += generic(source, target["dataset"], (), DatasetSource)
        unread: list[str] = []
        dataset = attempt(unread, "dataset.load", source.load)
        problems += [p for p in unread if need_data or " raised DataError" not in p]
        if isinstance(dataset, Dataset):
            problems += _dataset_problems(dataset)
            in_shape, n_outputs = dataset.records.x.shape[1:], len(dataset.classes)
        elif dataset is not None:
            problems.append(f"dataset.load returned {type(dataset).__name__}: a Dataset is needed")
    problems += _model_problems(target["model"], tuple(in_shape), n_outputs)
    recipe = made_from(target["recipe"], Trainer, problems)
    return problems if recipe is None else problems + generic(recipe, target["recipe"], (), Trainer)


def _version_problems(block: Any) -> list[str]:
    try:
        read = static(block["_target_"])
    except (ConfigError, KeyError, TypeError):
        return []  # building it says so
    if read.builtin and not isinstance(read.literals.get("version", 1), int):
        return [f"{read.target}: `version` is {read.literals['version']!r}: an integer is needed"]
    return []


def _records_problems(records: Records, n_outputs: int, task: Task) -> list[str]:
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
    wanted = (n, n_outputs) if task == "multilabel" else (n,)
    top = 2 if task == "multilabel" else n_outputs
    if y.shape != wanted or y.dtype != np.int64:
        problems.append(f"y is {y.dtype} {y.shape}: int64 {wanted} is needed")
    elif n and not 0 <= y.min() <= y.max() < top:
        problems.append(f"y lies in {y.min()}..{y.max()}: 0..{top - 1} is needed")
    if records.patients.dtype != np.int64:
        problems.append(f"patients is {records.patients.dtype}: int64 is needed")
    return problems


def _dataset_problems(dataset: Dataset) -> list[str]:
    problems = _records_problems(dataset.records, len(dataset.classes), dataset.task)
    if len(dataset.source) != len(dataset.records):
        problems.append(f"source has {len(dataset.source)} rows, y has {len(dataset.records)}")
    problems += [
        f"dataset.{n} is empty" for n in ("name", "fingerprint") if not getattr(dataset, n)
    ]
    return [f"dataset: {problem}" for problem in problems]


def _model_problems(block: Any, in_shape: tuple[int, ...], n_outputs: int) -> list[str]:
    import torch

    problems: list[str] = []

    def answer() -> Any:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            model = build(block, in_shape=in_shape, n_outputs=n_outputs).eval()
            return model(torch.rand(3, *in_shape))

    found = attempt(problems, f"model on {in_shape}", answer)
    if found is not None and tuple(getattr(found, "shape", ())) != (3, n_outputs):
        shape = tuple(getattr(found, "shape", ()))
        problems.append(
            f"model answers {shape} to 3 records of {in_shape}: (3, {n_outputs}) is needed"
        )
    elif found is not None and not torch.isfinite(found).all():
        problems.append(f"model answers NaN or infinity to records of {in_shape}")
    return problems


__all__ = ["check_attack", "check_defense", "check_target", "membership_world", "not_exercised"]
