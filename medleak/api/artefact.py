"""What is made from the members under a defense, and may be released: its kinds, and what a stage makes.

Making an artefact is a run: a function of target, defense, member set, adversary and seed. A run gives one
artefact or several: a classifier; a classifier and the messages of its federated training; a set of records
and the classifier trained on it; a generator and nothing trained.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medleak.api.component import Component
from medleak.api.data import Records

if TYPE_CHECKING:
    from medleak.api.metric import Estimate
    from medleak.api.release import Release


@dataclass(frozen=True)
class Made:
    """What a stage of slot `records` makes of the member records.

    Attributes:
        records: what the next stage receives, and training.
        artefacts: kind -> its content, for each kind that the stage `makes`: a `Records` for "records",
            name -> array for "generator".
        facts: plain numbers and words (steps, sigma ...), kept with the run and compared with the shadows'.
    """

    records: Records
    artefacts: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What of an artefact is compared with its shadows'.

    Attributes:
        size: how many records it holds; None where that means nothing.
        scores: one number for each of some records, whose distribution is compared, ``(n,)``.
        facts: more facts of the run, over those that are stored: "accuracy", "collapsed" ...
    """

    scores: np.ndarray
    size: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class ArtefactKind(Component):
    """One kind of artefact; a YAML in ``conf/artefact/`` names it. It has no state and takes no arguments.

    A stored run, as a kind meets it, has ``run.experiment`` (the patients and their split), ``run.facts``
    (what is stored of it in addition to arrays), ``run.arrays(kind)`` (name -> array, as stored by `arrays`),
    ``run.model()`` (its network, where a model was trained), ``run.messages()`` (what an observer recorded)
    and ``run.draw(arrays)`` (the sampler of a generator).

    Class attributes:
        name: of the YAML, and in `makes` of a stage or a recipe.
        views: the views that it offers; a defense may hide each.
        fitted: whether it comes from `Trainer.fit`; a run without such a kind trains nothing.
    """

    name: ClassVar[str]
    views: ClassVar[Sequence[str]]
    fitted: ClassVar[bool] = False

    @abstractmethod
    def arrays(self, content: Any) -> dict[str, np.ndarray]:
        """What is stored of `content`, name -> array."""

    @abstractmethod
    def open(self, run: Any) -> dict[str, Any]:
        """View -> its value; see `Release`. What has to be read from the store is `Deferred`."""

    def comparison(self, run: Any, x: np.ndarray, y: np.ndarray) -> Comparison | None:
        """What the replica check compares; None: nothing.

        Args:
            run: a target or a shadow.
            x, y: evaluation records, which are in no training set; never empty.
        """
        return None


class UtilityMetric(Component):
    """What a released artefact is still good for; a YAML in ``conf/utility/`` names it.

    Class attributes:
        name: of the YAML.
        artefact: the kind of artefact that it measures.
        tasks: the tasks that it serves; () for all.
    """

    name: ClassVar[str]
    artefact: ClassVar[str]
    tasks: ClassVar[Sequence[str]] = ()

    @abstractmethod
    def measure(self, release: Release, records: Records, *, task: str) -> dict[str, Estimate]:
        """Name -> estimate, on evaluation `records`; {} where the release lacks the view."""

    def by_group(
        self, release: Release, records: Records, *, task: str
    ) -> dict[str, dict[str, Estimate]]:
        """The same for each subgroup, ``{"sex=F": ...}``; {} where that means nothing."""
        return {}
