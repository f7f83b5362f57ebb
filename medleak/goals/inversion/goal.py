"""The inversion game: what does a model tell of how its classes look, and of whom?

Pictures of some classes are judged by an evaluator: a network of another architecture, trained on other
records of the same classes, which has to be at least as accurate as the attacked model. Beside them stand
pictures that owe nothing to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import (
    ConfigError,
    Estimate,
    InversionChallenge,
    InversionTruth,
    InvertedImages,
    Metric,
    Release,
)
from medleak.config.instantiate import build
from medleak.core.keys import rng_for
from medleak.core.store import Store
from medleak.core.validation import whole
from medleak.goals.base import AttackOutputs, Game, gain
from medleak.goals.reconstruction.goal import pixels
from medleak.release.build import release_of
from medleak.training.pipeline import stage_blocks
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import StoredModel, log_probabilities

if TYPE_CHECKING:
    from medleak.data.experiment import ExperimentData
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row

SHUFFLED = "randomly labelled target"
FEW_CLASSES = 10
"""Asked about unless the attack's knowledge block says otherwise."""
BLOCKS = ("model", "recipe")


class Inversion(Game):
    """How the classes of a model look."""

    persons = True
    options = {"n_classes": None, "n_images": 5}

    def reasons(self, cell: Cell) -> list[str]:
        experiment, found = cell.target_spec.experiment, []
        if len(experiment.problem.in_shape) != 3:
            found.append("model inversion pictures images, and these records are a table")
        if experiment.problem.task != "multiclass":
            found.append(
                "model inversion asks about classes, and this task has several labels a record"
            )
        if len(cell.shadowed_targets) > 1:
            found.append("n_targets > 1: an inversion game asks about one run")
        if not len(experiment.auxiliary):
            found.append("model inversion needs auxiliary patients: target.split.n_auxiliary is 0")
        if np.intersect1d(experiment.auxiliary.patients, experiment.challenge.patients).size:
            raise ConfigError(
                "auxiliary and private patients overlap: no figure would mean anything"
            )
        _n_classes(cell)
        _evaluator_block(cell)
        return found

    def controls(self, cell: Cell) -> Mapping[str, ShadowedTarget]:
        """The same training with labels that mean nothing: pictures are then of the right class by chance."""
        (shadowed,) = cell.shadowed_targets[:1]
        shuffle = {"_target_": "medleak.goals.inversion.shuffled_labels.ShuffledLabels"}
        slots = shadowed.target.slots
        records = [*stage_blocks(slots.get("records")), shuffle]
        target = replace(shadowed.target, slots={**slots, "records": records})
        return {SHUFFLED: replace(shadowed, target=target)}

    def judges(self, cell: Cell) -> list[RunSpec]:
        return [_evaluator(cell)]

    def asked(self, cell: Cell, shadowed: ShadowedTarget, store: Store) -> InversionChallenge:
        """Some of the classes, drawn by the split's seed: the same for every attack and defense."""
        experiment, n = shadowed.target.experiment, _n_classes(cell)
        order = rng_for("sittings", experiment.split_seed).permutation(experiment.problem.n_outputs)
        return InversionChallenge(
            np.sort(order[:n]), cell.knowledge["n_images"], experiment.problem.in_shape
        )

    def rows(self, cell: Cell, store: Store, played: AttackOutputs) -> list[Row]:
        """One row: the pictures of all classes asked about."""
        (shadowed,), (output,) = cell.shadowed_targets, played.outputs
        experiment, asked = shadowed.target.experiment, self.asked(cell, shadowed, store)
        evaluator = StoredModel(_evaluator(cell), store, played.device)
        release = release_of(shadowed.target, cell.slots, store, device=played.device)
        guesses = _without_model(experiment, asked, release, cell.key)
        if output.prior_samples is not None:
            guesses["prior alone"] = output.prior_samples
        guesses |= {name: out.reconstructions for name, out in played.controls.items()}
        pictures = _portraits(output.reconstructions, asked, evaluator)
        baselines = {name: _portraits(x, asked, evaluator) for name, x in guesses.items()}
        truth = _sitters(experiment, shadowed.target.column, evaluator)
        metrics = {name: build(block) for name, block in cell.metrics.items()}
        accuracy = _accuracies(experiment, release, evaluator)
        shared = dict(played.shared)
        shared["controls"] = {**shared["controls"], "evaluator": accuracy}
        if accuracy["evaluator"] < accuracy["target"]:
            shared["status"] = "invalid"
            shared["reason"] = (
                f"control failed: the evaluator (accuracy {accuracy['evaluator']:.3f}) is worse than the "
                f"target ({accuracy['target']:.3f})"
            )
        found = _figures(metrics, pictures, baselines, truth)
        if not experiment.identities:  # of persons, only shares of all of them are told
            found["groups"] = _by_class(metrics, pictures, truth, experiment)
        arrays = {"images": output.reconstructions.astype(np.float32), "classes": asked.classes}
        controls = {f"control/{name}": x.astype(np.float32) for name, x in guesses.items()}
        store.save("pictured", cell.key, {"controls": list(guesses)}, {**arrays, **controls})
        records, unit = ("persons", "patient") if experiment.identities else ("classes", "class")
        return [cell.row(**shared, **found, records=records, unit=unit)]


def _n_classes(cell: Cell) -> int:
    """How many classes are asked about.

    Raises:
        ConfigError: no whole number, or more than there are.
    """
    n = cell.target_spec.experiment.problem.n_outputs
    images = cell.knowledge["n_images"]
    whole("attack.knowledge.n_images", images, least=1)
    wanted = whole("attack.knowledge.n_classes", cell.knowledge["n_classes"], least=1, null=True)
    if wanted is None:
        return min(FEW_CLASSES, n)
    if wanted > n:
        name = cell.config["target"]["name"]
        raise ConfigError(f"attack.knowledge.n_classes={wanted}: target={name} has {n} classes")
    return wanted


def _evaluator_block(cell: Cell) -> Mapping[str, Any]:
    """The target's `evaluator` block.

    Raises:
        ConfigError: there is none, it is of the target's own architecture, or its recipe is wrong.
    """
    target = cell.config["target"]
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


def _evaluator(cell: Cell) -> RunSpec:
    """Another network, trained without any defense on the records that the target was not trained on."""
    spec, block = cell.target_spec, _evaluator_block(cell)
    target = {**spec.target, **{name: block[name] for name in BLOCKS if name in block}}
    return RunSpec(target, {}, spec.n_members, "complement", spec.column)


# --------------------------------------------------------------------------- pictures


def _portraits(
    images: np.ndarray, asked: InversionChallenge, evaluator: StoredModel
) -> InvertedImages:
    """Pictures as the evaluator sees them."""
    flat = np.clip(np.asarray(images, dtype=np.float32), 0, 1).reshape(-1, *asked.in_shape)
    logits, features = evaluator.activations(flat)
    shape = asked.shape[:2]
    return InvertedImages(
        flat.reshape(asked.shape),
        asked.classes,
        log_probabilities(logits).reshape(*shape, -1),
        features.reshape(*shape, -1),
    )


def _sitters(experiment: ExperimentData, column: int, evaluator: StoredModel) -> InversionTruth:
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


# --------------------------------------------------------------------------- figures


def _figures(
    metrics: Mapping[str, Metric],
    pictures: InvertedImages,
    baselines: Mapping[str, InvertedImages],
    truth: InversionTruth,
) -> dict[str, Any]:
    """The parts of a row that are measured on pictures: leakage, baselines, what the model adds."""
    return {
        "leakage": {name: metric(pictures, truth) for name, metric in metrics.items()},
        "ceilings": dict.fromkeys(metrics),
        "baselines": {
            prior: {name: metric(guess, truth) for name, metric in metrics.items()}
            for prior, guess in baselines.items()
        },
        "excess": {
            name: gain(metric, [metric.excess(pictures, g, truth) for g in baselines.values()])
            for name, metric in metrics.items()
        },
    }


def _by_class(
    metrics: Mapping[str, Metric],
    pictures: InvertedImages,
    truth: InversionTruth,
    experiment: ExperimentData,
) -> dict[str, dict[str, Estimate]]:
    """Figures of each class alone: of pictures of one class there is no interval over classes."""
    found = {}
    for place, target in enumerate(pictures.classes):
        mine = slice(place, place + 1)
        one = InvertedImages(
            pictures.images[mine],
            pictures.classes[mine],
            pictures.scores[mine],
            pictures.features[mine],
        )
        name = f"class={experiment.dataset.classes[target]}"
        found[name] = {metric: of(one, truth) for metric, of in metrics.items()}
    return found
