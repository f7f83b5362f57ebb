"""Plugin title: say here how it trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import ProblemSpec, Records, Trained, Trainer, task_of


class PluginName(Trainer):
    """Steps of Adam on the mean loss of all member records at once.

    Args:
        steps: how many.
        lr: learning rate.
    """

    def __init__(self, *, steps: int = 50, lr: float = 0.01):
        self.steps = steps
        self.lr = lr

    def invalid_parameters(self) -> list[str]:
        return [] if self.steps >= 1 else [f"steps {self.steps}: at least 1 is needed"]

    def incompatibilities(self, problem: ProblemSpec) -> list[str]:
        single = task_of(problem.task).one_class
        return [] if single else [f"PluginName trains on one class a record: task {problem.task}"]

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
        """Draw from generators of your own, seeded by `seed`: a run is a function of its arguments."""
        import torch

        scale = 255 if records.x.dtype == np.uint8 else 1
        x = (torch.from_numpy(records.x).float() / scale).to(device)
        y = torch.from_numpy(records.y).to(device)
        model = model.to(device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr)
        for _ in range(self.steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return Trained(model.eval(), {"criterion": "cross-entropy", "steps": self.steps})
