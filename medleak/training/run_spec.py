"""The run: the only way in which anything is made. A target is one column of the membership matrix, a
shadow another."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medleak.api import (
    OWN,
    AdversaryPolicy,
    ArtefactKind,
    Challenge,
    Records,
    Trainer,
)
from medleak.config.instantiate import build, identities, static
from medleak.core.files import contents
from medleak.core.keys import BENCH_VERSION, array_digest, digest, lasting_digest
from medleak.data import proportions as proportions
from medleak.data.experiment import ExperimentData, load_experiment_data, member_digest
from medleak.training.artefacts import KINDS, made_by
from medleak.training.pipeline import DefensePipeline, stage_blocks, training_blocks


@dataclass(frozen=True)
class RunSpec:
    """What a run is made from; plain data, so that it can be sent to a worker.

    Attributes:
        target: the resolved target YAML.
        slots: the fillings that change training (`slots.training_blocks`).
        n_members: expected number of member patients (None: the target's own).
        pool: "audit" (challenge patients) or "auxiliary", or a skewed one of them (`medleak.data.proportions`).
        column: column of the membership matrix.
        policy: of an active adversary (None: none).
    """

    target: Mapping[str, Any]
    slots: Mapping[str, Any]
    n_members: int | None
    pool: str
    column: int
    policy: Mapping[str, Any] | None = None

    @functools.cached_property
    def experiment(self) -> ExperimentData:
        """The patients; loaded once per process."""
        return load_experiment_data(self.target, self.n_members)

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 over everything that decides the weights; not device, workers or paths."""
        return digest(
            {
                **self._facts,
                "data": self.experiment.content_digest(groups=self._reads("reads_groups")),
                "recipe": self.recipe_key,
                "problem": asdict(self.experiment.problem),
            }
        )

    @functools.cached_property
    def lineage(self) -> str:
        """What draws about this run descend from. Unlike `key` it keeps its layout for ever: another
        would be another draw, and other figures."""
        problem = self.experiment.problem
        fields = ("n_records", "n_patients", "max_records", "in_shape", "n_outputs", "task", "unit")
        values = [getattr(problem, name) for name in fields]
        return lasting_digest({**self._facts, "recipe": self.recipe_lineage, "setting": values})

    @functools.cached_property
    def _facts(self) -> dict[str, Any]:
        experiment = self.experiment
        return {
            "data": experiment.dataset.fingerprint,
            "members": member_digest(self.records, self.member),
            "validation": self._validation_digest(),
            "bench": BENCH_VERSION,
            "pool": self.pool,
            "column": self.column,
        }

    @property
    def base(self) -> str:
        """Whose patients it is trained on: "audit" or "auxiliary"."""
        return proportions.read(self.pool)[0]

    @property
    def records(self) -> Records:
        """The records of the pool, members or not."""
        return self.experiment.pool(self.base)

    @property
    def member(self) -> np.ndarray:
        """Which of them it is trained on, ``(N,)`` bool."""
        return proportions.member(self.experiment, self.pool, self.column)

    def _validation_digest(self) -> str:
        """Only what may be read: of what is shipped, early stopping and the stages that say so."""
        validation = self.experiment.validation
        if self.target["recipe"].get("early_stopping") or self._reads("reads_validation"):
            return array_digest(validation.x, validation.y)
        return ""

    def _reads(self, literal: str) -> bool:
        """Whether a part of the training says so by this `literal`; of a plugin's part it is assumed."""
        blocks = [self.target["recipe"]]
        for stage in self.slots.values():
            blocks += stage_blocks(stage)
        parts = [static(block["_target_"]) for block in blocks if block and "_target_" in block]
        return any(not part.builtin or bool(part.literals.get(literal)) for part in parts)

    @functools.cached_property
    def recipe_key(self) -> str:
        """What replicas share: model, recipe, training slots and component versions."""
        blocks = recipe_blocks(self.target, self.slots, self.policy)
        return digest({"blocks": blocks, "versions": identities(blocks), "files": contents(blocks)})

    @functools.cached_property
    def recipe_lineage(self) -> str:
        """As `recipe_key`, for seeds; see `lineage`."""
        blocks = recipe_blocks(self.target, self.slots, self.policy)
        return lasting_digest({"blocks": blocks, "versions": identities(blocks)})

    @functools.cached_property
    def makes(self) -> tuple[str, ...]:
        """Names of the kinds of artefact that the run makes. They follow from components, whose versions
        are in the key."""
        return made_by(self.target, self.slots)

    @property
    def kinds(self) -> list[ArtefactKind]:
        """The kinds of artefact that the run makes."""
        return [KINDS.get(name) for name in self.makes]

    @property
    def fitted(self) -> list[str]:
        """Names of the kinds that come from training; empty where the run trains nothing."""
        return [kind.name for kind in self.kinds if kind.fitted]

    @functools.cached_property
    def adversary(self) -> AdversaryPolicy:
        """The active adversary, built; without a policy one who changes nothing."""
        return build(self.policy, of=AdversaryPolicy) if self.policy else AdversaryPolicy()

    @property
    def challenge(self) -> Challenge:
        """Who is asked about, with what a poisoning adversary planted, and a curious client owns."""
        challenge = self.adversary.marked(self.experiment.challenge)
        client = self.adversary.observing_client
        if client is None:
            return challenge
        records, problem = challenge.records, self.experiment.problem
        own = make_trainer(self).records_of_client(records, client, problem)
        return Challenge(records, np.where(own, OWN, challenge.kind))

    @property
    def cost_class(self) -> str:
        """Runs of one class take about the same time."""
        return digest(
            [self.recipe_key, self.experiment.problem.n_records, self.experiment.dataset.name]
        )[:16]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "experiment"}


def recipe_blocks(
    target: Mapping[str, Any], slots: Mapping[str, Any], policy: Mapping[str, Any] | None = None
) -> list[Any]:
    """Model, recipe, training slots and policy: what replicas share. A run that trains nothing has no model."""
    trains = any(KINDS.get(name).fitted for name in made_by(target, slots))
    blocks = [*([target["model"]] if trains else []), target["recipe"], training_blocks(slots)]
    return blocks + ([policy] if policy else [])


def build_model(target: Mapping[str, Any], experiment: ExperimentData, seed: int) -> Any:
    """A fresh ``nn.Module`` whose initial weights depend on `seed` alone."""
    import torch

    problem = experiment.problem
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return build(
            target["model"],
            of=torch.nn.Module,
            in_shape=problem.in_shape,
            n_outputs=problem.n_outputs,
        )


def with_weights(
    target: Mapping[str, Any], experiment: ExperimentData, weights: Mapping[str, np.ndarray] | None
) -> Any:
    """The target's network carrying `weights` (None: untrained ones), in evaluation mode."""
    import torch

    model = build_model(target, experiment, 0)
    if weights is not None:
        model.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    return model.eval()


def make_trainer(spec: RunSpec) -> Trainer:
    """The target's trainer under the training slots of `spec`."""
    return DefensePipeline(spec.slots).trainer(
        build(spec.target["recipe"], of=Trainer), spec.experiment.problem
    )
