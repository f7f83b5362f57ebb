"""The recipe of a run that trains nothing: what is released comes from a stage of slot `records`."""

from __future__ import annotations

from medleak.api import MedleakError, ProblemSpec, Records, Trained, Trainer


class NoTraining(Trainer):
    """Trains nothing: a set of records or a generator is all that is made.

    The network of the target is then left alone, and no part of the run.
    """

    version = 1
    makes = ()

    def fit(
        self,
        model: object,
        records: Records,
        *,
        problem: ProblemSpec,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Trained:
        """Never called.

        Raises:
            MedleakError: always.
        """
        raise MedleakError("recipe NoTraining trains nothing")
