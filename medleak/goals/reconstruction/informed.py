"""The informed adversary: it knows all records of a message but one, and the candidates for that one.

Balle et al. 2022, Reconstructing Training Data with Informed Adversaries, IEEE S&P; with a set of
candidates: Hayes et al. 2023, Bounding Training Data Reconstruction in DP-SGD, NeurIPS.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medleak.api import InformedPrior, MedleakError
from medleak.data.experiment import ExperimentData
from medleak.goals.observed_messages import ReconstructionTask, ages_of
from medleak.training.observations import ObservationLog


def informed(
    task: ReconstructionTask,
    transcript: ObservationLog,
    experiment: ExperimentData,
    *,
    member: np.ndarray,
    n_candidates: int,
    clip: float | None,
    rng: np.random.Generator,
) -> ReconstructionTask:
    """`task` for an informed adversary: one record of each message is unknown, all others are given.

    The record is drawn from those behind the message. The other candidates are non-members of the same
    label: as membership is a fair coin for each patient, each of them might have been in its place with
    the same chance, so that nobody is right more often than once in `n_candidates` without the message.

    Args:
        member: who of the challenge was trained on, ``(N,)`` bool.
        n_candidates: fewer where a label has too few non-members.
        clip: see `InformedPrior`.

    Raises:
        MedleakError: a label without any non-member.
    """
    ages, y = ages_of(transcript.contents), experiment.challenge.y
    batches = [row[row >= 0] for row in task.positions]
    targets = np.array([rng.choice(batch) for batch in batches])
    decoys = [np.flatnonzero(~member & (y == y[target])) for target in targets]
    n = min(n_candidates - 1, *map(len, decoys))
    if n < 1:
        raise MedleakError("an informed adversary needs candidates: a label has no non-member")
    named = np.array(
        [
            rng.permutation([target, *rng.choice(others, size=n, replace=False)])
            for target, others in zip(targets, decoys, strict=True)
        ]
    )
    clients = [transcript.clients(i) for i in range(len(ages))]
    truth = [transcript.truth(i) for i in range(len(ages))]
    records, insight = experiment.challenge.records, []
    for target, candidates, i in zip(targets, named, task.challenge.indices, strict=True):
        like = [j for j in range(len(ages)) if (ages[j], clients[j]) == (ages[i], clients[i])]
        others = {j: records.take(truth[j][truth[j] != target]) for j in like}
        insight.append(InformedPrior(others, records.take(candidates), clip))
    challenge = replace(
        task.challenge,
        n_records=np.ones(len(targets), dtype=np.int64),
        labels=tuple(y[targets][:, None]),
        insight=tuple(insight),
    )
    return ReconstructionTask(challenge, task.age, targets[:, None], named)
