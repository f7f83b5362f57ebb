"""Whether a cell makes sense, found out before anything is trained."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medleak.api import Component, ConfigError, MedleakError, NotApplicable, ProblemSpec, Trainer
from medleak.config import catalogue
from medleak.config.instantiate import build, raised, static
from medleak.core.suggestions import unknown
from medleak.goals import known_goals

if TYPE_CHECKING:
    from medleak.engine.cell import Cell


def reasons(cell: Cell) -> list[str]:
    """Why the cell is not applicable, all reasons at once; empty where it is.

    Raises:
        ConfigError: a component with faults, which no cell can be measured with.
    """
    problem, found = cell.target_spec.experiment.problem, []
    recipe = build(cell.config["target"]["recipe"], of=Trainer)
    _refuse_faults(cell, recipe)
    try:
        trainer = cell.pipeline.trainer(recipe, problem)
        found += _short_of_validation(cell, trainer)
        found += cell.target_spec.adversary.incompatibilities(problem, trainer)
    except NotApplicable as refusal:
        found += refusal.reasons
    requires = static(cell.config["attack"]["_target_"]).requires or cell.attack.requires
    if cell.goal is None:
        found.append(unknown("goal", requires.goal, known_goals()))
    else:
        found += cell.goal.reasons(cell)
        if cell.experiment.identities and not cell.goal.supports_identity_targets:
            found.append("the classes are the patients: all of them are members, with some scans")
    found += _nothing_to_attack(cell)
    offered = [view for kind in cell.target_spec.kinds for view in kind.views]
    views = cell.pipeline.views(offered) | dict.fromkeys(_policy_views(cell), "")
    if hidden := views.get(requires.access, f"unknown view '{requires.access}'"):
        found.append(f"needs '{requires.access}': {hidden}")
    if cell.knowledge["pool"] == "auxiliary" and not (
        0 < cell.target_spec.experiment.shadow_share <= 0.8
    ):
        have = len(np.unique(cell.target_spec.experiment.auxiliary.patients))
        need = int(np.ceil(problem.n_patients / 0.8))
        found.append(f"pool=auxiliary needs {need} auxiliary patients for replicas, has {have}")
    return found + _unread(cell) + list(cell.attack.incompatibilities(problem, cell.knowledge))


def _nothing_to_attack(cell: Cell) -> list[str]:
    """Why the run makes nothing that this goal is about; nothing where it does."""
    made, wanted = cell.target_spec.makes, cell.goal.artefacts if cell.goal is not None else ()
    if not made:
        return [
            "nothing is made: the recipe trains nothing, and no stage of slot 'records' makes anything"
        ]
    if cell.goal is None or set(wanted) & set(made):
        return []
    return [
        f"goal '{cell.goal.name}' is about {', '.join(wanted)}: this run makes {', '.join(made)}"
    ]


def _unread(cell: Cell) -> list[str]:
    """Why the attack cannot read the network's first layer; nothing where that is not declared."""
    wanted, target = cell.attack.first_layer, cell.config["target"]
    has = static(target["model"]["_target_"]).literals.get("first_layer", wanted)
    if not wanted or has == wanted:
        return []
    choices = ", ".join(catalogue.with_first_layer(wanted)) or "none"
    return [
        f"needs a {wanted} first layer: that of {_origin(cell, 'model')} is {has} "
        f"({wanted}: {choices})"
    ]


def _short_of_validation(cell: Cell, trainer: Trainer) -> list[str]:
    fewest, there = trainer.fewest_validation(), len(cell.target_spec.experiment.validation)
    if there >= fewest:
        return []
    return [
        f"training reads {fewest} or more validation records, there are {there}: raise "
        "target.split.n_validation"
    ]


def _refuse_faults(cell: Cell, recipe: Trainer) -> None:
    """Refuse what is wrong whatever the setting, before anything is written or trained."""
    parts: list[tuple[str, str, Component]] = [("target", ".recipe", recipe)]
    for slot, stages in cell.pipeline.stages.items():
        parts += [("defense", f".slots.{slot}", stage) for stage in stages]
    parts.append(("attack", "", cell.attack))
    parts.append(("attack", ".policy", cell.target_spec.adversary))
    for group, place, component in parts:
        if invalid_parameters := component.invalid_parameters():
            origin = f"{group}={cell.config[group]['name']}"
            origin = _origin(cell, "recipe") if component is recipe else origin
            raise ConfigError(f"{group}{place} of {origin}: {'; '.join(invalid_parameters)}")
    # Shipped pairs of data and architecture are tested; only what was changed takes torch here.
    keys = (text.lstrip("+~").partition("=")[0] for text in cell.overrides)
    if any(key.removeprefix("target.").startswith(("model", "dataset")) for key in keys):
        _check_model(cell)


def _policy_views(cell: Cell) -> Sequence[str]:
    """Views that only this adversary has."""
    return static(cell.policy["_target_"]).literals.get("exposes", ()) if cell.policy else ()


def _origin(cell: Cell, part: str) -> str:
    """The option that a part of the target came from: ``model=cnn`` where it was chosen, else the target."""
    if part in cell.axes:
        return f"{part}={cell.axes[part]}"
    return f"target={cell.config['target']['name']}"


def _check_model(cell: Cell) -> None:
    """Build the model of the target once for its data, and throw it away.

    Raises:
        ConfigError: it cannot be built, with the reason.
    """
    block, problem = cell.config["target"]["model"], cell.target_spec.experiment.problem
    if fault := _model_fault(json.dumps(block), problem):
        chosen = [f"{part}={cell.axes[part]}" for part in ("dataset", "model") if part in cell.axes]
        target = f"target={cell.config['target']['name']}"
        raise ConfigError(f"target.model of {' with '.join([target, *chosen])}: {fault}")


@functools.lru_cache(maxsize=64)
def _model_fault(block: str, problem: ProblemSpec) -> str:
    try:
        import torch

        with torch.random.fork_rng(devices=[]):
            build(
                json.loads(block),
                of=torch.nn.Module,
                in_shape=problem.in_shape,
                n_outputs=problem.n_outputs,
            )
    except Exception as error:  # whatever a layer says to sizes that it cannot have
        return str(error) if isinstance(error, MedleakError) else f"building it {raised(error)}"
    return ""
