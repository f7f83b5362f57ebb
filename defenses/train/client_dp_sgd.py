"""DP-SGD inside the clients of a federation."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from medleak.api import Defense, Guarantee, ProblemSpec, Trainer
from medleak.defenses.train import accounting
from medleak.defenses.train._private import Later, PrivateGradient
from medleak.defenses.train._recipes import changed, number, refuse
from medleak.defenses.train.federated import FederatedTrainer, need_federation


class Budget(NamedTuple):
    """What a client's records spend over all rounds."""

    epsilon: float
    delta: float
    q: float
    sigma: float
    steps: int
    accountant: str


class ClientDPSGD(Defense):
    """Each client clips its records' gradients to C and adds Gaussian noise of sigma C before it sends.

    Record-level and local to the client: not even the server learns more of a record than epsilon. A
    client's records join each batch by coins of rate ``q = B / n``, n being the expected number of
    members of one client (a public number), for ``T = rounds * local_steps`` steps; epsilon is composed
    over all of them, as if every client took part in every round.

    Args:
        epsilon: target budget; sigma is calibrated to it.
        delta: None is ``1 / (10 n)`` with n the expected number of member records of all clients.
        clip: C.
        trials: how many runs it took to choose these settings, for the row to print.

    Paper: Abadi et al. 2016, Deep Learning with Differential Privacy, CCS; for federations see
    Kairouz et al. 2021, Advances and Open Problems in Federated Learning, section 4.
    """

    slot = "train"
    version = 1
    paper = "Abadi et al. 2016, Deep Learning with Differential Privacy, CCS"

    def __init__(
        self,
        *,
        epsilon: float = 8.0,
        delta: float | None = None,
        clip: float = 1.0,
        trials: int = 0,
    ):
        self.epsilon = epsilon
        self.delta = delta
        self.clip = clip
        self.trials = trials

    def invalid_parameters(self) -> list[str]:
        found = [
            f"{name} must be a positive finite number, not {value!r}"
            for name in ("epsilon", "clip", "delta")
            if not (number(value := getattr(self, name)) and value > 0)
            and not (value is None and name == "delta")
        ]
        if number(self.delta) and self.delta >= 1:
            found.append(f"delta must be below 1, not {self.delta!r}")
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        if reasons := need_federation(self, trainer):
            return reasons
        if trainer.gradient is not None:
            return ["the clients' gradient was already replaced by a defense"]
        n = problem.n_records // trainer.n_clients
        if trainer.local.batch_size > n:
            return [f"batch_size {trainer.local.batch_size} exceeds the {n} records of a client"]
        return []

    def guarantees(self, problem: ProblemSpec, trainer: FederatedTrainer) -> list[Guarantee]:
        budget = self._budget(problem, trainer)
        scans = problem.max_records > 1
        return [
            Guarantee(
                kind="dp",
                epsilon=budget.epsilon,
                delta=budget.delta,
                unit="record",
                protects_from="the server, other clients and anyone who sees the model",
                assumptions=(
                    "each client draws Poisson batches of its own records, and they stay hidden",
                    "the expected number of members is public",
                    "the noise is reproducible pseudo-random noise whose seed stays secret",
                    *(
                        [f"a patient has up to {problem.max_records} records: not per patient"]
                        * scans
                    ),
                ),
                accountant=budget.accountant,
                mechanism={
                    "name": "poisson_gaussian",
                    "q": budget.q,
                    "sigma": budget.sigma,
                    "steps": budget.steps,
                },
            )
        ]

    def apply(self, subject: FederatedTrainer, *, problem: ProblemSpec) -> FederatedTrainer:
        refuse(self, self.invalid_parameters())
        refuse(self, self.incompatibilities(problem, subject))
        rate = subject.local.batch_size / (problem.n_records // subject.n_clients)
        rule = Later(partial(self._rule, problem, subject))
        return changed(subject, gradient=rule, rate=rate)

    def _rule(self, problem: ProblemSpec, trainer: FederatedTrainer) -> PrivateGradient:
        budget = self._budget(problem, trainer)
        ledger: dict[str, Any] = {
            "epsilon": budget.epsilon,
            "delta": budget.delta,
            "accountant": budget.accountant,
            "trials": self.trials,
            "q": budget.q,
        }
        batch = trainer.local.batch_size
        return PrivateGradient(float(self.clip), budget.sigma, batch, ledger)

    def _budget(self, problem: ProblemSpec, trainer: FederatedTrainer) -> Budget:
        q = trainer.local.batch_size / (problem.n_records // trainer.n_clients)
        steps = trainer.rounds * trainer.local.steps
        delta = 1 / (10 * problem.n_records) if self.delta is None else float(self.delta)
        sigma, accountant = accounting.calibrate(float(self.epsilon), delta, q, steps)
        return Budget(float(self.epsilon), delta, q, sigma, steps, accountant)
