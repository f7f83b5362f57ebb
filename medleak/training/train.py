"""Training a run, once, and keeping what it took."""

from __future__ import annotations

import time

import numpy as np

from medleak.api import (
    Challenge,
    ClientPolicy,
    Knowledge,
    MedleakError,
    Observer,
    PoisoningPolicy,
    Records,
    ServerPolicy,
    Trainer,
)
from medleak.core.keys import rng_for, seed_for
from medleak.core.store import Store
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
    trainer, records, member = _prepared(spec, seed)
    model = build_model(spec.target, experiment, seed)
    recorder = ObservationRecorder(store, spec.key, _positions(records, spec, member))
    policy = spec.adversary if isinstance(spec.adversary, ServerPolicy) else None
    observing_client = spec.adversary.client if isinstance(spec.adversary, ClientPolicy) else None
    rng = rng_for("policy", seed)
    knowledge = Knowledge(experiment.problem, auxiliary=experiment.auxiliary, rng=rng)
    trained = trainer.observed_by(Observer(policy, knowledge, recorder, observing_client)).fit(
        model,
        records,
        problem=experiment.problem,
        seed=seed,
        validation=experiment.validation,
        device=device,
    )
    seconds = time.perf_counter() - start
    n_members = len(np.unique(spec.records.patients[member]))
    facts = {**trained.facts, "n_members": n_members, "seconds": seconds}
    facts |= {"messages": recorder.kept} if recorder.kept else {}
    network = StoredModel(spec, store, device, trained.model)
    parts = (experiment.challenge.records, experiment.auxiliary, experiment.evaluation)
    answers = [(part.x, network.forward(part.x)) for part in parts if len(part)]
    if not all(np.isfinite(logits).all() for _, logits in answers):
        raise MedleakError("training diverged: the model answers NaN or infinity")
    store.save("runs", spec.key, facts, network.arrays())
    for x, logits in answers:
        network.remember(x, logits)
    remember_cost(store, cost_key(spec.cost_class, device), seconds)
    return seconds


def _prepared(spec: RunSpec, seed: int) -> tuple[Trainer, Records, np.ndarray]:
    """The trainer, the records and which of the pool they are."""
    experiment = spec.experiment
    member = spec.member
    trainer, records = make_trainer(spec), spec.records.take(member)
    if isinstance(spec.adversary, PoisoningPolicy):
        # Who is planted among the shadows of pool "auxiliary" is nobody of the challenge.
        natural = Challenge(experiment.auxiliary, np.full(len(experiment.auxiliary), "natural"))
        asked = spec.challenge if spec.base == "audit" else natural
        trainer, records = spec.adversary.poison(trainer, asked, member, seed=seed)
    return trainer, DefensePipeline(spec.slots).records(records, experiment.problem), member


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
