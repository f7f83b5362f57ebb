"""Model inversion: what a model reveals about how its classes look, and about which persons.

An evaluator scores the images of some classes. It is a network of another architecture, trained on other
records of the same classes, and has to be at least as accurate as the attacked model. The baselines are
images made without the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    ConfigError,
    InversionChallenge,
    InversionTruth,
    InvertedImages,
    Output,
    Release,
    multiclass,
    task_of,
)
from medleak.api.data import pixels
from medleak.api.goal import AttackOutputs, Example, Goal, Outcome, Question, Sample, Subgroup
from medleak.config.instantiate import build
from medleak.core.keys import rng_for
from medleak.core.validation import whole
from medleak.data.experiment import ExperimentData
from medleak.goals.inversion.report import REPORT
from medleak.release.shadowed_target import ShadowedTarget
from medleak.training.pipeline import stage_blocks
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import StoredModel

SHUFFLED = "randomly labelled target"
FEW_CLASSES = 10
"""Number of attacked classes unless the attack's knowledge block says otherwise."""
BLOCKS = ("model", "recipe")


class Inversion(Goal):
    """How the classes of a model look."""

    name = "inversion"
    report = REPORT
    supports_identity_targets = True
    options = {"n_classes": None, "n_images": 5}

    def reasons(self, case: Any) -> list[str]:
        experiment, found = case.experiment, []
        if len(experiment.problem.in_shape) != 3:
            found.append("model inversion pictures images, and these records are a table")
        if not task_of(experiment.problem.task).one_class:
            found.append(
                f"model inversion asks about classes, and the task is {experiment.problem.task}"
            )
        if len(case.shadowed_targets) > 1:
            found.append("n_targets > 1: model inversion asks about one run")
        if not len(experiment.auxiliary):
            found.append("model inversion needs auxiliary patients: target.split.n_auxiliary is 0")
        if np.intersect1d(
            experiment.auxiliary.patients, experiment.challenge.records.patients
        ).size:
            raise ConfigError(
                "auxiliary and private patients overlap: no figure would mean anything"
            )
        _n_classes(case)
        _evaluator_block(case)
        return found

    def controls(self, case: Any) -> Mapping[str, ShadowedTarget]:
        """The same training with labels that mean nothing: pictures are then of the right class by chance."""
        (shadowed,) = case.shadowed_targets[:1]
        shuffle = {"_target_": "medleak.goals.inversion.shuffled_labels.ShuffledLabels"}
        slots = shadowed.target.slots
        records = [*stage_blocks(slots.get("records")), shuffle]
        target = replace(shadowed.target, slots={**slots, "records": records})
        return {SHUFFLED: replace(shadowed, target=target)}

    def evaluators(self, case: Any) -> list[RunSpec]:
        return [_evaluator(case)]

    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        """Some of the classes, drawn by the split's seed: the same for every attack and defense."""
        run, n = shadowed.target, _n_classes(case)
        experiment = run.experiment
        order = rng_for("sittings", experiment.split_seed).permutation(experiment.problem.n_outputs)
        n_images, in_shape = case.knowledge["n_images"], experiment.problem.in_shape
        challenge = InversionChallenge(np.sort(order[:n]), n_images, in_shape)
        truth = _truth(experiment, run.column, runs.model(_evaluator(case)))
        guesses = _without_model(experiment, challenge, runs.release(run), run.lineage)
        return Question(challenge, truth, baselines=guesses, notes={"classes": challenge.classes})

    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """One sample: the images of all attacked classes."""
        (one,) = outputs.targets
        run, challenge, truth = one.shadowed.target, one.question.challenge, one.question.truth
        experiment, evaluator = run.experiment, runs.model(_evaluator(case))
        guesses = dict(one.question.baselines)
        if one.output.prior_samples is not None:
            guesses["prior alone"] = one.output.prior_samples
        guesses |= {name: output.reconstructions for name, output in outputs.controls.items()}
        pictures = _inverted(one.output.reconstructions, challenge, evaluator)
        accuracy = _accuracies(experiment, runs.release(run), evaluator)
        records, unit = ("persons", "patient") if experiment.identities else ("classes", "class")
        return [
            Sample(
                records=records,
                unit=unit,
                answer=pictures,
                truth=truth,
                baselines={name: _inverted(x, challenge, evaluator) for name, x in guesses.items()},
                # For persons, only shares over all of them are reported.
                subgroups={} if experiment.identities else _by_class(pictures, truth, experiment),
                controls={"evaluator": accuracy},
                invalid=_worse(accuracy),
            )
        ]

    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        from medleak.goals.inversion.example import example

        return example(attack, knowledge, leak=leak, seed=seed)

    def outcome(self, question: Question, output: Output) -> Outcome:
        from medleak.goals.inversion.example import outcome

        return outcome(question, output)


def _worse(accuracy: Mapping[str, float]) -> str:
    if accuracy["evaluator"] >= accuracy["target"]:
        return ""
    return (
        f"control failed: the evaluator (accuracy {accuracy['evaluator']:.3f}) is worse than the "
        f"target ({accuracy['target']:.3f})"
    )


def _n_classes(case: Any) -> int:
    """The number of attacked classes.

    Raises:
        ConfigError: no whole number, or more than there are.
    """
    n = case.experiment.problem.n_outputs
    images = case.knowledge["n_images"]
    whole("attack.knowledge.n_images", images, least=1)
    wanted = whole("attack.knowledge.n_classes", case.knowledge["n_classes"], least=1, null=True)
    if wanted is None:
        return min(FEW_CLASSES, n)
    if wanted > n:
        name = case.target["name"]
        raise ConfigError(f"attack.knowledge.n_classes={wanted}: target={name} has {n} classes")
    return wanted


def _evaluator_block(case: Any) -> Mapping[str, Any]:
    """The target's `evaluator` block.

    Raises:
        ConfigError: there is none, it is of the target's own architecture, or its recipe is wrong.
    """
    target = case.target
    block = target.get("evaluator")
    if not isinstance(block, Mapping) or "model" not in block:
        raise ConfigError(f"target={target['name']} names no evaluator: model inversion needs one")
    if block["model"].get("_target_") == target["model"].get("_target_"):
        raise ConfigError(
            f"target.evaluator of target={target['name']} has the target's own architecture: "
            "what fools one may fool the other"
        )
    if "recipe" in block and (invalid_parameters := build(block["recipe"]).invalid_parameters()):
        raise ConfigError(
            f"target.evaluator.recipe of target={target['name']}: {'; '.join(invalid_parameters)}"
        )
    return block


def _evaluator(case: Any) -> RunSpec:
    """Another network, trained without any defense on the records that the target was not trained on."""
    spec, block = case.shadowed_targets[0].target, _evaluator_block(case)
    target = {**spec.target, **{name: block[name] for name in BLOCKS if name in block}}
    return RunSpec(target, {}, spec.n_members, "complement", spec.column)


# --------------------------------------------------------------------------- pictures


def _inverted(
    images: np.ndarray, asked: InversionChallenge, evaluator: StoredModel
) -> InvertedImages:
    """Pictures as the evaluator sees them."""
    flat = np.clip(np.asarray(images, dtype=np.float32), 0, 1).reshape(-1, *asked.in_shape)
    logits, features = evaluator.activations(flat)
    shape = asked.shape[:2]
    return InvertedImages(
        flat.reshape(asked.shape),
        asked.classes,
        multiclass.log_probabilities(logits).reshape(*shape, -1),
        features.reshape(*shape, -1),
    )


def _truth(experiment: ExperimentData, column: int, evaluator: StoredModel) -> InversionTruth:
    member, records = experiment.member("audit", column), experiment.challenge.records
    trained, others = records.take(member), records.take(~member)
    images = pixels(trained.x).astype(np.float32)
    features = evaluator.activations(images)[1]
    return InversionTruth(
        images, trained.y, features, pixels(others.x).astype(np.float32), others.y
    )


def _without_model(
    experiment: ExperimentData, asked: InversionChallenge, release: Release, seed: str
) -> dict[str, np.ndarray]:
    """What an adversary shows who optimises nothing: the mean image, and the best that it holds."""
    auxiliary = experiment.auxiliary
    held = pixels(auxiliary.x)
    means = np.empty(asked.shape)
    for place, target in enumerate(asked.classes):
        mine = held[auxiliary.y == target]
        means[place] = (mine if len(mine) else held).mean(axis=0)
    return {
        "class mean": means,
        "best auxiliary image": _best(held, asked, release, auxiliary.x, seed),
    }


def _best(
    held: np.ndarray, asked: InversionChallenge, release: Release, x: np.ndarray, seed: str
) -> np.ndarray:
    """The auxiliary images that the model itself takes most for the class; ties by lot."""
    if "scores" in release.views:
        scores = release.scores(x)
    else:
        outputs = np.arange(asked.classes.max() + 1)
        scores = (release.labels(x)[:, None] == outputs).astype(np.float64)
    lot = rng_for("best auxiliary image", seed).random(len(x))
    found = np.empty(asked.shape)
    for place, target in enumerate(asked.classes):
        order = np.lexsort((lot, -scores[:, target]))
        found[place] = held[np.resize(order[: asked.n_images], asked.n_images)]
    return found


def _accuracies(
    experiment: ExperimentData, release: Release, evaluator: StoredModel
) -> dict[str, float]:
    """On evaluation records, which neither was trained on."""
    records = experiment.evaluation
    return {
        "evaluator": float((evaluator.logits(records.x).argmax(1) == records.y).mean()),
        "target": float((release.labels(records.x) == records.y).mean()),
        "n": len(records),
    }


def _by_class(
    pictures: InvertedImages, truth: InversionTruth, experiment: ExperimentData
) -> dict[str, Subgroup]:
    """The pictures of each class alone: of one class there is no interval over classes."""
    found = {}
    for place, target in enumerate(pictures.classes):
        mine = slice(place, place + 1)
        one = InvertedImages(
            pictures.images[mine],
            pictures.classes[mine],
            pictures.scores[mine],
            pictures.features[mine],
        )
        found[f"class={experiment.dataset.classes[target]}"] = Subgroup(one, truth, 1)
    return found
