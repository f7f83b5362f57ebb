"""The vocabulary of medleak: the only module that a plugin has to import.

Everything here is small, frozen where it can be, and free of torch: arrays are NumPy arrays, and a
model is whatever its architecture returns. The flow is

    Dataset -> split by patient -> Trainer (under the defense slots) -> Release -> Attack -> Metric -> row
"""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

Goal = Literal[
    "membership", "reconstruction", "inversion", "attribute", "property", "re-identification"
]
View = Literal[
    "labels", "scores", "weights", "updates", "aggregate", "ciphertext", "records", "synthetic"
]
Slot = Literal["records", "train", "update", "aggregate", "release", "serve"]
Task = Literal["multiclass", "multilabel"]
SLOTS: tuple[Slot, ...] = ("records", "train", "update", "aggregate", "release", "serve")
VIEWS: tuple[View, ...] = (
    "labels",
    "scores",
    "weights",
    "updates",
    "aggregate",
    "ciphertext",
    "records",
    "synthetic",
)

IMPLIED_VIEWS: Mapping[View, tuple[View, ...]] = {
    "scores": ("labels",),
    "weights": ("labels", "scores"),
}
"""View -> the views that can be computed from it."""


class MedleakError(Exception):
    """A fault that one line explains; the command line prints it without a traceback."""


class ConfigError(MedleakError):
    """The request cannot be met as it stands (exit status 2): nothing was run or written."""


class DataError(ConfigError):
    """The data are missing, malformed or too few for what was asked (exit status 2)."""


class NotApplicable(MedleakError):
    """A cell that makes no sense; `reasons` says why, all of them at once."""

    def __init__(self, *reasons: str):
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Hidden(NotApplicable):
    """An attack asked for a view that the release does not have."""


class Component:
    """Base of everything that a YAML names by `_target_`.

    `__init__` only stores its keyword arguments under their own names, so that `repr` rebuilds the
    object. Built-in components carry an explicit `version`, raised whenever their numbers change.
    """

    version: ClassVar[int] = 1

    def faults(self) -> list[str]:
        """What is wrong with the arguments, whatever they meet: the request is then refused.

        What only rules out some settings is for `refusals`: such a cell is not applicable.
        """
        return []

    def __repr__(self) -> str:
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = inspect.signature(type(self)).parameters.values()
        names = [p.name for p in parameters if p.kind not in variadic]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"


# --------------------------------------------------------------------------- records and targets


@dataclass(frozen=True)
class Records:
    """Records of patients, row by row.

    Attributes:
        x: images ``(N, C, H, W)``, uint8 in 0..255 or float32 in 0..1; or a float32 table ``(N, F)``.
        y: class index ``(N,)`` int64, or ``(N, L)`` 0/1 for a multi-label task.
        patients: patient of each record, ``(N,)`` int64.
        groups: subgroup columns (sex, age band, site ...), name -> ``(N,)`` strings; "" is unknown.
    """

    x: np.ndarray
    y: np.ndarray
    patients: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Records:
        """The records at `index` (positions or a boolean mask)."""
        groups = {name: column[index] for name, column in self.groups.items()}
        return Records(self.x[index], self.y[index], self.patients[index], groups)


@dataclass(frozen=True)
class Dataset:
    """A whole data set before any split.

    Attributes:
        records: all records.
        source: the official split of each record, ``(N,)`` strings ("train", "val", "test"; one
            constant value where there is none). Members and non-members share one source.
        name: as printed in the tables.
        classes: class names (or label names of a multi-label task).
        fingerprint: SHA-256 of the data as loaded; part of every key.
        task: "multiclass" or "multilabel".
        simulated: said wherever the data appear.
        patients_known: False where each image counts as its own patient.
        citation: paper and licence.
        note: anything that a reader of a row must know (an unofficial file, say).
    """

    records: Records
    source: np.ndarray
    name: str
    classes: tuple[str, ...]
    fingerprint: str
    task: Task = "multiclass"
    simulated: bool = False
    patients_known: bool = True
    citation: str = ""
    note: str = ""

    @property
    def unit(self) -> str:
        """What one membership decision is about, as printed."""
        return "patient" if self.patients_known else "image (patient unknown)"


class DatasetSource(Component, ABC):
    """What `target.dataset` names: a description that loads to a `Dataset`."""

    @abstractmethod
    def load(self) -> Dataset:
        """Read, check and return the data.

        Raises:
            DataError: data missing or malformed, in one line that names file, value and choices.
        """


@dataclass(frozen=True)
class Setting:
    """Public facts of an experiment, known before any training.

    Attributes:
        n_records: expected number of member records.
        n_patients: expected number of member patients.
        max_records: most records that one patient of the challenge has.
        in_shape: shape of one record, ``(C, H, W)`` or ``(F,)``.
        n_outputs: classes, or labels of a multi-label task.
        task: "multiclass" or "multilabel".
        unit: "patient" or "image (patient unknown)".
    """

    n_records: int
    n_patients: int
    max_records: int
    in_shape: tuple[int, ...]
    n_outputs: int
    task: Task = "multiclass"
    unit: str = "patient"


# --------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Trained:
    """What a trainer returns: the model and plain-number facts (steps, sigma, accuracies ...)."""

    model: Any
    facts: Mapping[str, Any]


class Trainer(Component, ABC):
    """How a model is fitted. The `train` slot maps one trainer to another."""

    @abstractmethod
    def fit(
        self,
        model: Any,
        records: Records,
        *,
        setting: Setting,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Trained:
        """Fit `model` (a fresh ``nn.Module``) on the member `records`."""

    def refusals(self, setting: Setting) -> list[str]:
        """Every reason why this trainer cannot serve `setting`."""
        return []


# --------------------------------------------------------------------------- defenses and releases


@dataclass(frozen=True)
class Guarantee:
    """One formal promise.

    Attributes:
        kind: "dp" for differential privacy, else a word of the field ("ind-cpa", "k-anonymity").
        epsilon, delta: of a DP promise (None where the kind has none).
        unit: "record" or "patient".
        adjacency: "add/remove" or "replace-one".
        protects_from: who learns no more than promised ("anyone who sees the model").
        assumptions: what must hold, in words.
        accountant: "PLD", "PRV", "RDP", "nominal (RDP)" ...
        mechanism: parameters that an accountant composes, such as
            ``{"name": "poisson_gaussian", "q": .02, "sigma": 1.1, "steps": 900}``.
    """

    kind: str
    unit: str
    protects_from: str
    epsilon: float | None = None
    delta: float | None = None
    adjacency: str = "add/remove"
    assumptions: tuple[str, ...] = ()
    accountant: str = ""
    mechanism: Mapping[str, Any] = field(default_factory=dict)


class Release:
    """Exactly what the adversary may observe.

    A view that the defense hides does not exist here: touching it raises `Hidden` with the reason.
    Views of a served or published classifier:

    - ``scores(x)``: natural-log probabilities, float64, ``(N, C)``; ``(N, L, 2)`` for multi-label
      tasks (log-probability of absent, present). May hold ``-inf`` where a defense rounds to zero.
    - ``labels(x)``: predicted classes ``(N,)``, or 0/1 ``(N, L)``.
    - ``weights``: name -> array of the released model.

    `queries` counts the records sent through any callable view.
    """

    def __init__(
        self,
        views: Mapping[str, Any],
        *,
        hidden: Mapping[str, str] | None = None,
        twin: bool = False,
    ):
        self.views = dict(views)
        self.hidden = dict(hidden or {})
        self.twin = twin
        self.queries = 0

    def view(self, name: str) -> Any:
        """The view `name`; raises `Hidden` with the reason where there is none."""
        if name not in self.views:
            reason = self.hidden.get(name, "the release does not have it")
            raise Hidden(f"view '{name}': {reason}")
        return self.views[name]

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities of `x`; see the class."""
        return self._query("scores", x)

    def labels(self, x: np.ndarray) -> np.ndarray:
        """Predicted labels of `x`; see the class."""
        return self._query("labels", x)

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The released parameters."""
        return self.view("weights")

    def _query(self, name: str, x: np.ndarray) -> np.ndarray:
        view = self.view(name)
        self.queries += len(x)
        return view(x)

    def replaced(self, **views: Any) -> Release:
        """The same release with some views swapped for others."""
        return Release({**self.views, **views}, hidden=self.hidden, twin=self.twin)

    def granting(self, access: View) -> Release:
        """What an attack that declared `access` is given: that view and those it contains."""
        given = (*IMPLIED_VIEWS.get(access, ()), access)
        reason = f"the attack declared access to '{access}' only"
        return self.without({v: self.hidden.get(v, reason) for v in VIEWS if v not in given})

    def without(self, hidden: Mapping[str, str]) -> Release:
        """The same release less the views in `hidden` (name -> reason)."""
        views = {name: view for name, view in self.views.items() if name not in hidden}
        return Release(views, hidden={**self.hidden, **hidden}, twin=self.twin)


class Defense(Component):
    """What fills one slot. A slot maps one type to the same type, so that fillings compose.

    ============  ==========================  =====================================
    slot          type                        example
    ============  ==========================  =====================================
    records       `Records`                   de-identification, synthetic data
    train         `Trainer`                   DP-SGD, federated rounds
    update        one client's update         pruning, noise
    aggregate     list of updates             secure aggregation
    release       `Release`                   quantised weights
    serve         `Release`                   labels only, rounded scores
    ============  ==========================  =====================================

    `hides` and `exposes` say, before anything is trained, how the release's views change.
    """

    slot: ClassVar[Slot]
    hides: ClassVar[Mapping[str, str]] = {}
    exposes: ClassVar[Sequence[str]] = ()

    def refusals(self, setting: Setting, trainer: Trainer) -> list[str]:
        """Every reason why this filling is impossible here; `trainer` is what it would receive."""
        return []

    def guarantees(self, setting: Setting, trainer: Trainer) -> list[Guarantee]:
        """What is formally promised; `trainer` is what this filling received."""
        return []

    def apply(self, subject: Any, *, setting: Setting) -> Any:
        """Map the slot's type to the same type."""
        return subject


# --------------------------------------------------------------------------- games and attacks


@dataclass(frozen=True)
class ThreatModel:
    """Who attacks, for what, with what.

    Attributes:
        goal: what the adversary wants to learn.
        access: the view of the release that it needs.
        observations: how often it sees that view (None: as often as it likes).
        knowledge: what it has beside the release: "auxiliary", "shadows", "architecture",
            "labels", "batch_statistics", "defense", "all_but_one".
        adversary: "outsider", "client" or "server".
        conduct: "honest-but-curious", "malicious", "colluding" or "poisoning".
    """

    goal: Goal
    access: View
    observations: int | None = None
    knowledge: tuple[str, ...] = ()
    adversary: Literal["outsider", "client", "server"] = "outsider"
    conduct: Literal["honest-but-curious", "malicious", "colluding", "poisoning"] = (
        "honest-but-curious"
    )


class AdversaryPolicy(Component):
    """What an active adversary changes during training; part of the training run's key."""


@dataclass(frozen=True)
class Challenge:
    """Who is asked about. For membership: records of which about half were trained on.

    Attributes:
        records: the challenge records, ``N`` of them, with the labels used in training.
        kind: "natural", or the sort of canary ("mislabelled"), ``(N,)`` strings. Rows are made
            for each kind apart; an attack has no need to read it.
    """

    records: Records
    kind: np.ndarray

    @property
    def x(self) -> np.ndarray:
        return self.records.x

    @property
    def y(self) -> np.ndarray:
        return self.records.y

    @property
    def patients(self) -> np.ndarray:
        return self.records.patients

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Secret:
    """The truth that only the bench keeps: `member`, ``(N,)`` bool."""

    member: np.ndarray


@dataclass(frozen=True)
class Shadow:
    """One shadow run as the attacker sees it.

    Attributes:
        member: which challenge records it was trained on, ``(N,)`` bool.
        auxiliary_member: which of `Knowledge.auxiliary` it was trained on, ``(M,)`` bool.
        release: the same view as the target's.
    """

    member: np.ndarray
    auxiliary_member: np.ndarray
    release: Release


class Shadows(Protocol):
    """A sized, re-iterable pool that yields one `Shadow` at a time, so that memory stays flat."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Shadow]: ...


@dataclass
class Knowledge:
    """What the adversary has beside the release; it is told, and counted, in the row.

    Attributes:
        setting: public facts.
        auxiliary: records of patients who are in neither half of the challenge.
        shadows: None unless the attack asked for them.
        pool: "audit" (shadows contain challenge patients: online attacks) or "auxiliary".
        rng: the attack's own generator, seeded by the cell.
        budget: most records that may be queried (None: unlimited).
        reference: a held-out replica of the target, the only model on which an attack may tune
            its own hyper-parameters: a `Shadow` that is not among `shadows`.
        progress: called with the fraction done.
        network: name -> array of a release's weights (None: untrained ones) to an ``nn.Module`` in
            evaluation mode; only for an attack whose threat model knows the "architecture".
    """

    setting: Setting
    auxiliary: Records | None = None
    shadows: Shadows | None = None
    pool: Literal["audit", "auxiliary"] = "audit"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    budget: int | None = None
    reference: Shadow | None = None
    progress: Callable[[float], None] = lambda fraction: None
    network: Callable[[Mapping[str, np.ndarray] | None], Any] | None = None


@dataclass(frozen=True)
class Output:
    """What an attack returned: `scores` ``(N,)`` float64 (higher: more likely a member) for
    membership, or `reconstructions` ``(N, ...)``; seconds and queries as the base class counted."""

    scores: np.ndarray | None = None
    reconstructions: np.ndarray | None = None
    seconds: float = 0.0
    queries: int = 0


class Attack(Component, ABC):
    """Base of every attack: the author writes `run`, and `fit` where there is something to learn.

    An attack never sees the `Secret` and computes no metric. Class attributes are literals, because
    `medleak list` reads them without importing the module:

    - `requires`: the `ThreatModel`;
    - `paper`: "Author et al. year, title, venue".

    Only the order of membership scores counts, so that infinite ones are allowed: the surest, on
    either side (averaged over a patient's records they count as 1e100). NaN has no order: a failure.
    """

    requires: ClassVar[ThreatModel]
    paper: ClassVar[str] = ""

    def refusals(self, setting: Setting, knowledge: Mapping[str, Any]) -> list[str]:
        """Every reason why the attack cannot be mounted. `knowledge` is its YAML block."""
        return []

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        """Learn from auxiliary data and shadows."""

    @abstractmethod
    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        """Scores ``(N,)``, higher for members, or reconstructions ``(N, ...)``."""

    def execute(self, release: Release, challenge: Challenge, knowledge: Knowledge) -> Output:
        """Fit and run, timed, counted and checked: what the bench calls.

        Raises:
            MedleakError: the query budget was overdrawn, or what came back is not ``(N,)`` numbers
                (reconstructions: not ``(N, ...)``), NaN among them.
        """
        before, start = release.queries, time.perf_counter()
        self.fit(release, knowledge)
        result = np.asarray(self.run(release, challenge))
        queries = release.queries - before
        if knowledge.budget is not None and queries > knowledge.budget:
            raise MedleakError(f"{queries} queries overdraw the budget of {knowledge.budget}")
        seconds = time.perf_counter() - start
        self._check(result, len(challenge))
        name = "scores" if self.requires.goal == "membership" else "reconstructions"
        return Output(**{name: result}, seconds=seconds, queries=queries)

    def _check(self, result: np.ndarray, n: int) -> None:
        who = type(self).__name__
        if not np.issubdtype(result.dtype, np.number):
            raise MedleakError(f"{who} returned {result.dtype} values: numbers are needed")
        wanted = f"({n},)" if self.requires.goal == "membership" else f"({n}, ...)"
        if result.shape[:1] != (n,) or (self.requires.goal == "membership" and result.ndim != 1):
            raise MedleakError(f"{who} returned shape {result.shape}: {wanted} is needed")
        if np.isnan(result).any():
            count = int(np.isnan(result).sum())
            raise MedleakError(f"{who} returned NaN for {count} value{'s' * (count > 1)}")


# --------------------------------------------------------------------------- metrics


@dataclass(frozen=True)
class Estimate:
    """A number with its interval: `n` independent units, two-sided `level`, `method` in words.

    `value` None is "not measured", and `flag` says why or warns ("N*FPR < 10").
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    level: float = 0.95
    method: str = ""
    flag: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve with a pointwise band: ``(P,)`` each of x, y, low, high."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True)
class Scored:
    """What a membership metric reads beside the secret: scores and their patients, ``(N,)`` each."""

    scores: np.ndarray
    patients: np.ndarray


class Metric(Component, ABC):
    """A pure function of (output, secret), as an object that holds its settings only.

    Class attributes: `goal`; `higher_is_leakier`.
    """

    goal: ClassVar[Goal] = "membership"
    higher_is_leakier: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, output: Scored, secret: Secret) -> Estimate | Curve:
        """Measure."""

    def ceiling(self, guarantees: Sequence[Guarantee]) -> float | None:
        """The largest value that `guarantees` allow; None is "vacuous" (nothing is promised)."""
        return None


__all__ = [
    "SLOTS",
    "VIEWS",
    "AdversaryPolicy",
    "Attack",
    "Challenge",
    "Component",
    "ConfigError",
    "Curve",
    "DataError",
    "Dataset",
    "DatasetSource",
    "Defense",
    "Estimate",
    "Guarantee",
    "Hidden",
    "Knowledge",
    "MedleakError",
    "Metric",
    "NotApplicable",
    "Output",
    "Records",
    "Release",
    "Scored",
    "Secret",
    "Setting",
    "Shadow",
    "Shadows",
    "ThreatModel",
    "Trained",
    "Trainer",
    "replace",
]
