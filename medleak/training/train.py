"""Making a run, once, and keeping what it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from medleak.api import (
    Challenge,
    Knowledge,
    Made,
    MedleakError,
    Observer,
    Records,
    Trained,
    Trainer,
)
from medleak.core.keys import rng_for, seed_for
from medleak.core.store import Store
from medleak.training.artefacts import packed
from medleak.training.observations import ObservationRecorder
from medleak.training.pipeline import DefensePipeline
from medleak.training.run_spec import RunSpec, build_model, make_trainer
from medleak.training.stored_model import StoredModel


def train(spec: RunSpec, store: Store, *, device: str = "cpu") -> float | None:
    """Train `spec` unless it is stored; the run and its standard answers are then in the store.

    Returns:
        Seconds of training (0 if it was there), or None where another process is at it.
    """
    if store.has("runs", spec.key):
        return 0.0
    with store.claim("runs", spec.key) as mine:
        if not mine:
            return None
        if store.get("runs", spec.key) is not None:
            return 0.0
        return _train(spec, store, device)


def _train(spec: RunSpec, store: Store, device: str) -> float:
    experiment, start = spec.experiment, time.perf_counter()
    seed = seed_for("run", spec.recipe_lineage, experiment.split_seed, spec.pool, spec.column)
    trainer, made, member = _prepared(spec, seed, device)
    recorder = ObservationRecorder(store, spec.key, _positions(made.records, spec, member))
    contents, facts = dict(made.artefacts), {**made.facts}
    if spec.fitted:
        trained = _fit(spec, trainer, made.records, recorder, seed=seed, device=device)
        contents |= dict.fromkeys(spec.fitted, trained.model)
        facts |= trained.facts
    if unread := sorted(set(contents) - set(spec.makes)):
        raise MedleakError(
            f"{', '.join(unread)} made, but no class of this run says so: `makes` has to be a literal "
            "in the body of the class that the YAML names"
        )
    seconds = time.perf_counter() - start
    n_members = len(np.unique(spec.records.patients[member]))
    facts |= {"n_members": n_members, "seconds": seconds}
    facts |= {"messages": recorder.kept} if recorder.kept else {}
    remember = _answers(spec, store, device, trained.model) if spec.fitted else None
    store.save("runs", spec.key, facts, packed(contents))
    if remember is not None:
        remember()
    remember_cost(store, cost_key(spec.cost_class, device), seconds)
    return seconds


def _fit(
    spec: RunSpec,
    trainer: Trainer,
    records: Records,
    recorder: ObservationRecorder,
    *,
    seed: int,
    device: str,
) -> Trained:
    experiment, adversary = spec.experiment, spec.adversary
    rng = rng_for("policy", seed)
    knowledge = Knowledge(experiment.problem, auxiliary=experiment.auxiliary, rng=rng)
    observer = Observer(adversary.tampering, knowledge, recorder, adversary.observing_client)
    return trainer.observed_by(observer).fit(
        build_model(spec.target, experiment, seed),
        records,
        problem=experiment.problem,
        seed=seed,
        validation=experiment.validation,
        device=device,
    )


def _answers(spec: RunSpec, store: Store, device: str, model: Any) -> Callable[[], None]:
    """Ask the model about the standard records; what stores the answers once the run is stored.

    Raises:
        MedleakError: it answers what is no number.
    """
    experiment, network = spec.experiment, StoredModel(spec, store, device, model)
    parts = (experiment.challenge.records, experiment.auxiliary, experiment.evaluation)
    answers = [(part.x, network.forward(part.x)) for part in parts if len(part)]
    if not all(np.isfinite(logits).all() for _, logits in answers):
        raise MedleakError("training diverged: the model answers NaN or infinity")

    def remember() -> None:
        for x, logits in answers:
            network.remember(x, logits)

    return remember


def _prepared(spec: RunSpec, seed: int, device: str) -> tuple[Trainer, Made, np.ndarray]:
    """The trainer, what the records stages made, and which of the pool it was made from."""
    experiment, member = spec.experiment, spec.member
    # Who is planted among the shadows of pool "auxiliary" is nobody of the challenge.
    natural = Challenge(experiment.auxiliary, np.full(len(experiment.auxiliary), "natural"))
    asked = natural if spec.base == "auxiliary" else spec.challenge
    trainer, records = spec.adversary.poison(make_trainer(spec), asked, member, seed=seed)
    made = DefensePipeline(spec.slots).make(
        records,
        experiment.problem,
        seed=seed,
        validation=experiment.validation,
        device=device,
    )
    return trainer, made, member


def _positions(records: Records, spec: RunSpec, member: np.ndarray) -> np.ndarray:
    """Where the training records lie in their pool, if a defense has not replaced them; else -1."""
    positions = np.flatnonzero(member)
    same = np.array_equal(records.patients, spec.records.patients[positions])
    return positions if same else np.full(len(records), -1)


def cost_key(cost_class: str, device: str) -> str:
    """Runs or cells of one class on one kind of device take about the same time."""
    return f"{cost_class}-{device.partition(':')[0]}"


def remember_cost(store: Store, key: str, seconds: float) -> None:
    """Keep what a run took, for later estimates."""
    if not store.has("costs", key):
        store.save("costs", key, {"seconds": seconds})
