"""Any membership-inference attack of the Adversarial Robustness Toolbox, by YAML."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    ConfigError,
    Knowledge,
    MedleakError,
    ProblemSpec,
    Release,
    ThreatModel,
    task_of,
)
from medleak.api.scores import FLOOR
from medleak.attacks.membership._shadows import each, too_few
from medleak.core.suggestions import unknown

INFERENCE = "art.attacks.inference."
MEMBERSHIP = INFERENCE + "membership_inference."
NOT_ATTACKS = {"ShadowModels"}
MODELS = ("nn", "rf", "gb", "lr", "dt", "knn", "svm")
UNFITTED = {
    "MembershipInferenceBlackBoxRuleBased",
    "LabelOnlyGapAttack",
    "LabelOnlyDecisionBoundary",
}


class ARTInference(Attack):
    """An ART inference attack against the released scores; the scores are ART's own.

    ART sees a classifier whose ``predict`` is ``exp(scores)``, ``(N, C)``, without weights or
    gradients. An attack with a ``fit`` learns from what the shadows answer about their own members and
    non-members (challenge records with ``pool=audit``, auxiliary ones with ``pool=auxiliary``), never
    from the audited membership. ART draws from global generators: they are seeded from the attack's
    own and put back afterwards.

    Args:
        attack: dotted path of a class under ``art.attacks.inference``.
        options: its keyword arguments, less the estimator.
        infer: keyword arguments of its ``infer``.
        probabilities: whether to ask ``infer`` for probabilities instead of decisions.
        max_fit: most (shadow, record) pairs that it is fitted on; drawn with the attack's generator.

    Raises:
        ConfigError: a class outside ``art.attacks.inference``, or options that it does not take.
        MedleakError: ``pool=auxiliary`` without auxiliary records.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("shadows", "labels"))
    paper = "Nicolae et al. 2018, Adversarial Robustness Toolbox, arXiv:1807.01069"

    def __init__(
        self,
        *,
        attack: str = "art.attacks.inference.membership_inference.MembershipInferenceBlackBox",
        options: Mapping[str, Any] | None = None,
        infer: Mapping[str, Any] | None = None,
        probabilities: bool = True,
        max_fit: int = 20000,
    ):
        self.attack = attack
        self.options = options
        self.infer = infer
        self.probabilities = probabilities
        self.max_fit = max_fit

    def invalid_parameters(self) -> list[str]:
        positive = type(self.max_fit) is int and self.max_fit > 0
        found = [] if positive else [f"max_fit {self.max_fit!r} must be a whole number above 0"]
        model = (self.options or {}).get("attack_model_type", "nn")
        if model not in MODELS:
            found.append(unknown("attack_model_type", model, MODELS))
        return found

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        name = self._name()
        if not self.attack.startswith(MEMBERSHIP):
            kind = self.attack.removeprefix(INFERENCE).split(".")[0]
            return [f"ART's {name} is for '{kind}', and this adapter carries membership inference"]
        reasons = []
        if not task_of(problem.task).one_class:
            reasons.append(f"ART's {name} reads one class per record; the task is {problem.task}")
        if name not in UNFITTED:
            reasons += too_few(knowledge, 1, f"ART's {name}")
        return reasons

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        problem = self._knowledge.problem
        with seeded(int(self._knowledge.rng.integers(2**32))):
            self._name()  # refuses what is none of its attacks
            art = instance(self.attack, classifier(release, problem), self.options)
            if hasattr(art, "fit"):
                art.fit(None, **self._examples(challenge))
            kwargs = {"probabilities": self.probabilities, **(self.infer or {})}
            answer = art.infer(pixels(challenge.x), one_hot(challenge.y, problem), **kwargs)
        answer = np.asarray(answer, dtype=np.float64)
        return answer[:, -1] if answer.ndim == 2 else answer

    def _name(self) -> str:
        if not isinstance(self.attack, str) or not self.attack.startswith(INFERENCE):
            raise ConfigError(f"attack {self.attack!r} is not under {INFERENCE[:-1]}")
        name = self.attack.rpartition(".")[2]
        if self.attack.startswith(MEMBERSHIP) and name not in available():
            raise ConfigError(unknown("attack of ART", name, available()))
        return name

    def _examples(self, challenge: Challenge) -> dict[str, np.ndarray]:
        """What shadows answer about members and non-members, as ART's ``fit`` takes it."""
        knowledge = self._knowledge
        audit = knowledge.pool == "audit"
        records = challenge.records if audit else knowledge.auxiliary
        if records is None or not len(records):
            raise MedleakError("pool=auxiliary, but the target has no auxiliary records")
        share = min(1.0, self.max_fit / max(1, len(knowledge.shadows) * len(records)))
        y = one_hot(records.y, knowledge.problem)
        found: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {True: [], False: []}
        for shadow in each(knowledge):
            p = np.exp(shadow.release.scores(records.x)).astype(np.float32)
            member = shadow.member if audit else shadow.auxiliary_member
            drawn = knowledge.rng.random(len(records)) < share
            for side, parts in found.items():
                index = drawn & (member == side)
                parts.append((p[index], y[index]))
        pred, labels = map(np.concatenate, zip(*found[True], strict=True))
        test_pred, test_labels = map(np.concatenate, zip(*found[False], strict=True))
        return {"y": labels, "pred": pred, "test_y": test_labels, "test_pred": test_pred}


def instance(path: str, estimator: Any, options: Mapping[str, Any] | None) -> Any:
    """The ART attack that `path` names, on `estimator`, with its keyword arguments.

    Raises:
        ConfigError: an option that it does not take.
    """
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    first, *known = inspect.signature(cls).parameters
    for option in options or {}:
        if option not in known:
            raise ConfigError(unknown(f"option of ART's {name}", option, known))
    return cls(**{first: estimator}, **(options or {}))


@functools.cache
def available() -> list[str]:
    """ART's membership-inference attacks, read without importing ART (which takes seconds)."""
    spec = importlib.util.find_spec("art")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("ART is not installed: pip install adversarial-robustness-toolbox")
    folder = Path(spec.submodule_search_locations[0], *MEMBERSHIP.strip(".").split(".")[1:])
    tree = ast.parse((folder / "__init__.py").read_text())
    names = {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    return sorted(names - NOT_ATTACKS)


def classifier(release: Release, problem: ProblemSpec) -> Any:
    """The released scores as an ART classifier without weights or gradients."""
    from art.estimators.classification import BlackBoxClassifier

    class Served(BlackBoxClassifier):
        def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
            return np.exp(release.scores(x)).astype(np.float32)

        def compute_loss(self, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> np.ndarray:
            return self.compute_loss_from_predictions(self.predict(x), y)

        def compute_loss_from_predictions(
            self, pred: np.ndarray, y: np.ndarray, **kwargs: Any
        ) -> np.ndarray:
            return -np.log(np.maximum((pred * y).sum(axis=1), np.exp(FLOOR)))

    image = len(problem.in_shape) == 3
    return Served(
        predict_fn=lambda x: np.exp(release.scores(x)),
        input_shape=problem.in_shape,
        nb_classes=problem.n_outputs,
        clip_values=(0.0, 1.0) if image else None,
    )


def pixels(x: np.ndarray) -> np.ndarray:
    """Records as ART takes them: images as float32 in 0..1."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x


def one_hot(y: np.ndarray, problem: ProblemSpec) -> np.ndarray:
    """Class indices ``(N,)`` as ``(N, C)``."""
    return np.eye(problem.n_outputs, dtype=np.float32)[y]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch for the block; then put them back."""
    import random

    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
