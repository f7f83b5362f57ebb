"""A defense preset: which filling stands in each slot, and what they come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medleak.api import (
    SLOTS,
    VIEWS,
    ConfigError,
    Defense,
    Guarantee,
    Made,
    MedleakError,
    NotApplicable,
    ProblemSpec,
    Records,
    Release,
    Trainer,
)
from medleak.config.instantiate import build
from medleak.core.keys import seed_for
from medleak.core.suggestions import unknown

TRAINING_SLOTS = ("records", "train", "update", "aggregate")
MESSAGE_SLOTS = ("update", "aggregate")
CLASSIFIER_VIEWS = ("labels", "scores", "weights")


class DefensePipeline:
    """The fillings of a preset, in slot order; several in one slot apply one after the other.

    Args:
        blocks: slot -> its `stage_blocks`.

    Raises:
        ConfigError: an unknown slot, or a filling that belongs in another.
    """

    def __init__(self, blocks: Mapping[str, Any] | None):
        self.stages: dict[str, list[Defense]] = {}
        for slot, block in (blocks or {}).items():
            if slot not in SLOTS:
                raise ConfigError(unknown("slot", slot, SLOTS))
            self.stages[slot] = [build(entry, of=Defense) for entry in stage_blocks(block)]
            for stage in self.stages[slot]:
                if stage.slot != slot:
                    name = type(stage).__name__
                    raise ConfigError(f"{name} fills slot '{stage.slot}', not '{slot}'")

    def __iter__(self):
        return (stage for slot in SLOTS for stage in self.stages.get(slot, ()))

    def views(
        self, offered: Iterable[str] = CLASSIFIER_VIEWS, *, slots: Sequence[str] = SLOTS
    ) -> dict[str, str]:
        """View -> why it is hidden, "" where it is exposed; known before anything is made.

        Args:
            offered: the views of the kinds of artefact that the run makes.
            slots: the stages that are heard.
        """
        views = dict.fromkeys(VIEWS, "this release does not have it")
        views |= dict.fromkeys(offered, "")
        for stage in self:
            if stage.slot in slots:
                views |= dict.fromkeys(stage.exposes, "") | dict(stage.hides)
        return views

    def trainer(self, base: Trainer, problem: ProblemSpec) -> Trainer:
        """`base` under the fillings of the train slot.

        Raises:
            NotApplicable: every reason why it cannot be.
        """
        reasons = base.incompatibilities(problem)
        for stage in self.stages.get("train", ()):
            found = stage.incompatibilities(problem, base)
            reasons += found
            if not found:
                base = stage.apply(base, problem=problem)
        for slot in SLOTS:
            if slot != "train":
                for stage in self.stages.get(slot, ()):
                    reasons += stage.incompatibilities(problem, base)
        for slot in MESSAGE_SLOTS:
            if self.stages.get(slot):
                try:
                    base = base.with_stages(slot, self.stages[slot])
                except NotApplicable as refusal:
                    reasons += refusal.reasons
        if reasons:
            raise NotApplicable(*reasons)
        return base

    def guarantees(self, base: Trainer, problem: ProblemSpec) -> list[Guarantee]:
        """Everything that is formally promised."""
        promised = []
        for stage in self:
            promised += stage.guarantees(problem, base)
            if stage.slot == "train":
                base = stage.apply(base, problem=problem)
        return promised

    def make(
        self,
        records: Records,
        problem: ProblemSpec,
        *,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Made:
        """What the stages of slot `records` make of the member `records`, one after the other.

        A later stage that makes an artefact of the same kind replaces it.

        Raises:
            MedleakError: a stage did not make what it says in `makes`.
        """
        made = Made(records)
        for i, stage in enumerate(self.stages.get("records", ())):
            own = seed_for("records stage", seed, i)
            found = stage.make(
                made.records, problem=problem, seed=own, validation=validation, device=device
            )
            if set(found.artefacts) != set(stage.makes):
                raise MedleakError(
                    f"{type(stage).__name__} made {sorted(found.artefacts)}, and says that it makes "
                    f"{sorted(stage.makes)}"
                )
            artefacts = {**made.artefacts, **found.artefacts}
            made = Made(found.records, artefacts, {**made.facts, **found.facts})
        return made

    def release(self, release: Release, problem: ProblemSpec) -> Release:
        """The release under the fillings of the release and serve slots."""
        return self._apply("serve", self._apply("release", release, problem), problem)

    def _apply(self, slot: str, subject: Any, problem: ProblemSpec) -> Any:
        for stage in self.stages.get(slot, ()):
            subject = stage.apply(subject, problem=problem)
        return subject


def stage_blocks(block: Any) -> list[Mapping[str, Any]]:
    """The fillings of one slot, in order: one block, a list of them, or blocks by name.

    Only named ones can be reached from the command line:
    ``defense.slots.train.federated.batch_size=1,8``.
    """
    if isinstance(block, Mapping):
        entries = [block] if "_target_" in block else list(block.values())
    else:
        entries = list(block or ())
    return [entry for entry in entries if entry]


def training_blocks(blocks: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of a preset that changes training, and so the key of a run."""
    return {slot: blocks[slot] for slot in TRAINING_SLOTS if (blocks or {}).get(slot)}
