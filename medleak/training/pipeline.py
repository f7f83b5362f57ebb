"""A defense preset: which filling stands in each slot, and what they come to together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medleak.api import (
    SLOTS,
    VIEWS,
    ConfigError,
    Defense,
    Guarantee,
    NotApplicable,
    Records,
    Release,
    Setting,
    Trainer,
)
from medleak.config.instantiate import build
from medleak.core.suggestions import unknown

TRAINING_SLOTS = ("records", "train", "update", "aggregate")
MESSAGE_SLOTS = ("update", "aggregate")
CLASSIFIER_VIEWS = ("labels", "scores", "weights")


class Slots:
    """The fillings of a preset, in slot order; several in one slot apply one after the other.

    Args:
        blocks: slot -> its `filling_blocks`.

    Raises:
        ConfigError: an unknown slot, or a filling that belongs in another.
    """

    def __init__(self, blocks: Mapping[str, Any] | None):
        self.fillings: dict[str, list[Defense]] = {}
        for slot, block in (blocks or {}).items():
            if slot not in SLOTS:
                raise ConfigError(unknown("slot", slot, SLOTS))
            self.fillings[slot] = [build(entry, of=Defense) for entry in filling_blocks(block)]
            for filling in self.fillings[slot]:
                if filling.slot != slot:
                    name = type(filling).__name__
                    raise ConfigError(f"{name} fills slot '{filling.slot}', not '{slot}'")

    def __iter__(self):
        return (filling for slot in SLOTS for filling in self.fillings.get(slot, ()))

    def views(self) -> dict[str, str]:
        """View -> why it is hidden, "" where it is exposed; known before anything is trained."""
        views = dict.fromkeys(VIEWS, "this release does not have it")
        views |= dict.fromkeys(CLASSIFIER_VIEWS, "")
        for filling in self:
            views |= dict.fromkeys(filling.exposes, "") | dict(filling.hides)
        return views

    def trainer(self, base: Trainer, setting: Setting) -> Trainer:
        """`base` under the fillings of the train slot.

        Raises:
            NotApplicable: every reason why it cannot be.
        """
        reasons = base.refusals(setting)
        for filling in self.fillings.get("train", ()):
            found = filling.refusals(setting, base)
            reasons += found
            if not found:
                base = filling.apply(base, setting=setting)
        for slot in SLOTS:
            if slot != "train":
                for filling in self.fillings.get(slot, ()):
                    reasons += filling.refusals(setting, base)
        for slot in MESSAGE_SLOTS:
            if self.fillings.get(slot):
                try:
                    base = base.carrying(slot, self.fillings[slot])
                except NotApplicable as refusal:
                    reasons += refusal.reasons
        if reasons:
            raise NotApplicable(*reasons)
        return base

    def guarantees(self, base: Trainer, setting: Setting) -> list[Guarantee]:
        """Everything that is formally promised."""
        promised = []
        for filling in self:
            promised += filling.guarantees(setting, base)
            if filling.slot == "train":
                base = filling.apply(base, setting=setting)
        return promised

    def records(self, records: Records, setting: Setting) -> Records:
        """The member records under the fillings of the records slot."""
        return self._apply("records", records, setting)

    def release(self, release: Release, setting: Setting) -> Release:
        """The release under the fillings of the release and serve slots."""
        return self._apply("serve", self._apply("release", release, setting), setting)

    def _apply(self, slot: str, subject: Any, setting: Setting) -> Any:
        for filling in self.fillings.get(slot, ()):
            subject = filling.apply(subject, setting=setting)
        return subject


def filling_blocks(block: Any) -> list[Mapping[str, Any]]:
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
