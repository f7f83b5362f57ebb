"""Transfer learning: the first layers learn from public patients, only the rest from members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from medleak.api import ConfigError, Defense, ProblemSpec, Records, Trained, Trainer
from medleak.core.keys import seed_for
from medleak.defenses.train._layers import keeping
from medleak.defenses.train._recipes import changed, number, refuse, whole

FEWEST = 2
"""Public records that a network is pre-trained on."""


class TransferFreeze(Defense):
    """Trains on public records first, then freezes the first layers and trains the rest on members.

    Of the n modules that keep parameters or buffers, in order of registration, the first
    ``round(frozen n)`` (and never the last) learn from public records alone: the members reach only
    the layers behind them, which say less about what an image looks like. The network goes on from
    the pre-trained weights, its last layer too, because the task is the same.

    The public records are the *validation* patients, who are nobody's members and not the attacker's
    auxiliary ones; the recipe must therefore not stop early. Pre-training follows the recipe
    without whatever a defense before this one has changed in batches and gradients: after DP-SGD, it
    is only the training on members that is private, which is all that its promise is about. To be
    listed last. Each run, shadows included, pre-trains its own network. No guarantee comes with it.

    Args:
        frozen: share of the modules that members do not reach, from 0 to below 1.
        pretrain_epochs: passes over the public records; None is the recipe's epochs, 0 skips them,
            so that with `frozen` at 0 it is plain training.
    """

    slot = "train"
    version = 1
    paper = "Ho et al. 2024, Model Inversion Robustness: Can Transfer Learning Help?, CVPR"
    reads_validation = True
    needs: ClassVar[tuple[str, ...]] = ("sampler", "gradient", "early_stopping", "epochs")

    def __init__(self, *, frozen: float = 0.8, pretrain_epochs: int | None = None):
        self.frozen = frozen
        self.pretrain_epochs = pretrain_epochs

    def invalid_parameters(self) -> list[str]:
        found = []
        if not (number(self.frozen) and 0 <= self.frozen < 1):
            found.append(f"frozen {self.frozen!r} must be a number from 0 to below 1")
        if self.pretrain_epochs is not None and not whole(self.pretrain_epochs, 0):
            found.append(
                f"pretrain_epochs {self.pretrain_epochs!r} must be null or a whole number from 0"
            )
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        if missing := [name for name in self.needs if name not in trainer.arguments()]:
            who = type(trainer).__name__
            return [f"TransferFreeze runs a recipe twice: {who} is none, it has no {missing[0]}"]
        if trainer.early_stopping is None:
            return []
        return [
            "early_stopping with TransferFreeze: the validation records are what it pre-trains on"
        ]

    def apply(self, subject: Trainer, *, problem: ProblemSpec) -> Trainer:
        """A trainer that runs `subject` on public records and on members.

        Raises:
            ConfigError: any of the faults or refusals.
        """
        refuse(self, self.invalid_parameters())
        refuse(self, self.incompatibilities(problem, subject))
        return Transferred(recipe=subject, defense=self)


class Transferred(Trainer):
    """Fits by `recipe` on public records and then, in part, on members; see `TransferFreeze`.

    Args:
        recipe: of both.
        defense: the filling, with its settings.
    """

    version = 1

    def __init__(self, *, recipe: Trainer, defense: TransferFreeze):
        self.recipe = recipe
        self.defense = defense

    def incompatibilities(self, problem: ProblemSpec) -> list[str]:
        return self.recipe.incompatibilities(problem)

    def fewest_validation(self) -> int:
        return 0 if self.defense.pretrain_epochs == 0 else FEWEST

    def fit(
        self,
        model: Any,
        records: Records,
        *,
        problem: ProblemSpec,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Trained:
        """Fit `model` in place; it comes back in evaluation mode.

        Raises:
            ConfigError: fewer than two validation records.
        """
        facts: dict[str, Any] = {}
        epochs = self.defense.pretrain_epochs
        if epochs != 0:
            public = self._public(validation)
            plain = {"sampler": None, "gradient": None, "epochs": epochs or self.recipe.epochs}
            first = changed(self.recipe, **plain).fit(
                model, public, problem=problem, seed=seed_for("pretrain", seed), device=device
            )
            facts |= {"public_records": len(public), "public_loss": first.facts["train_loss"]}
            model.train()
        with frozen(model, self.defense.frozen) as still:
            trained = self.recipe.fit(model, records, problem=problem, seed=seed, device=device)
        return Trained(trained.model, {**trained.facts, **facts, **still})

    def _public(self, validation: Records | None) -> Records:
        if validation is None or len(validation) < FEWEST:
            there = 0 if validation is None else len(validation)
            raise ConfigError(
                f"TransferFreeze pre-trains on validation records, there are {there}: raise "
                "target.split.n_validation"
            )
        return validation


@contextmanager
def frozen(model: Any, share: float) -> Iterator[Mapping[str, int]]:
    """`model` with the first `share` of its modules still, running statistics included.

    Yields how many modules and parameters that is.
    """
    modules = keeping(model)
    still = modules[: min(round(share * len(modules)), len(modules) - 1)]
    held = [p for m in still for p in m.parameters(recurse=False) if p.requires_grad]

    def rest(module: Any, inputs: tuple[Any, ...]) -> None:
        module.eval()  # `model.train()` would set its batch statistics running again

    hooks = [m.register_forward_pre_hook(rest) for m in still]
    for p in held:
        p.requires_grad_(False)
    try:
        yield {"frozen_modules": len(still), "frozen_parameters": sum(p.numel() for p in held)}
    finally:
        for p in held:
            p.requires_grad_(True)
        for hook in hooks:
            hook.remove()
