"""A target that trains in milliseconds, for tests of the bench itself."""

import os
import time
from types import SimpleNamespace

import numpy as np
import torch

from medleak.api import (
    Attack,
    Dataset,
    DatasetSource,
    Defense,
    MedleakError,
    Records,
    Release,
    ServerPolicy,
    ThreatModel,
    Trained,
    Trainer,
)
from medleak.core.keys import array_digest


class Blobs(DatasetSource):
    """Two Gaussian classes in many dimensions."""

    version = 1

    def __init__(self, *, n_patients=200, scans=1, dim=40, seed=0, sites=0):
        self.n_patients, self.scans, self.dim, self.seed = n_patients, scans, dim, seed
        self.sites = sites

    def load(self):
        rng = np.random.default_rng(self.seed)
        n = self.n_patients * self.scans
        y = np.repeat(rng.integers(0, 2, self.n_patients), self.scans)
        x = (rng.normal(size=(n, self.dim)) + 0.2 * y[:, None]).astype(np.float32)
        patients = np.repeat(np.arange(self.n_patients), self.scans)
        groups = {"sex": np.where(patients % 2, "F", "M")}
        if self.sites:
            groups["site"] = np.char.add("site ", (patients % self.sites).astype(str))
        records = Records(x, y.astype(np.int64), patients, groups)
        source = np.full(n, "all")
        return Dataset(records, source, "blobs", ("a", "b"), array_digest(x, y), simulated=True)


class Halves(Blobs):
    """Women's class is that of the first feature, men's that of the second: a model says whom it saw."""

    def load(self):
        data = super().load()
        x, groups = data.records.x, data.records.groups
        y = np.where(groups["sex"] == "F", x[:, 0] > 0, x[:, 1] > 0).astype(np.int64)
        records = Records(x, y, data.records.patients, groups)
        return Dataset(
            records, data.source, "halves", ("a", "b"), array_digest(x, y), simulated=True
        )


class Linear(torch.nn.Linear):
    """Logits of a linear model."""

    def __init__(self, *, in_shape, n_outputs):
        super().__init__(in_shape[0], n_outputs)


class Steps(Trainer):
    """Full-batch gradient steps; `wait` seconds long, and failing on demand."""

    version = 1

    def __init__(self, *, epochs=300, lr=0.5, wait=0.0, fail=False):
        self.epochs, self.lr, self.wait, self.fail = epochs, lr, wait, fail

    def fit(self, model, records, *, problem, seed, validation=None, device="cpu"):
        time.sleep(self.wait)
        if self.fail == "exit":
            os._exit(9)
        if self.fail == "diverge":
            torch.nn.init.constant_(model.weight, float("nan"))
            return Trained(model, {})
        if self.fail:
            raise RuntimeError("the toy was told to fail")
        x, y = torch.from_numpy(records.x), torch.from_numpy(records.y)
        optimiser = torch.optim.SGD(model.parameters(), lr=self.lr)
        for _ in range(self.epochs):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
        accuracy = float((model(x).argmax(1) == y).float().mean())
        return Trained(model, {"criterion": "cross-entropy", "train_accuracy": accuracy})


class Confidence(Attack):
    """Confidence in the label."""

    version = 1
    requires = ThreatModel(goal="membership", access="scores")
    paper = "none"

    def run(self, release, challenge):
        return release.scores(challenge.x)[np.arange(len(challenge)), challenge.y]


class AboveShadows(Attack):
    """Confidence in the label above the mean of the shadows that were not trained on it."""

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("shadows",))
    paper = "none"

    def fit(self, release, knowledge):
        self.shadows = knowledge.shadows

    def run(self, release, challenge):
        rows = np.arange(len(challenge))
        total, count = np.zeros(len(rows)), np.zeros(len(rows))
        for shadow in self.shadows:
            own = shadow.release.scores(challenge.x)[rows, challenge.y]
            total += np.where(shadow.member, 0, own)
            count += ~shadow.member
        return release.scores(challenge.x)[rows, challenge.y] - total / np.maximum(count, 1)


class Broken(Confidence):
    """Returns what it should not."""

    def __init__(self, *, how="shape"):
        self.how = how

    def run(self, release, challenge):
        if self.how == "raise":
            raise ValueError("no such luck\non two lines")
        return np.zeros(3) if self.how == "shape" else np.full(len(challenge), np.nan)


class NeedsUpdates(Confidence):
    """Asks for what a central training does not release."""

    requires = ThreatModel(goal="membership", access="updates")


class Peek(Confidence):
    """Declares labels and looks at the weights."""

    requires = ThreatModel(goal="membership", access="labels")

    def run(self, release, challenge):
        return np.full(len(challenge), float(len(release.weights)))


class Guess(Confidence):
    """Draws its scores."""

    def fit(self, release, knowledge):
        self.rng = knowledge.rng

    def run(self, release, challenge):
        return self.rng.random(len(challenge))


class Natural(Confidence):
    """Has something to say about natural records only."""

    kinds = ("natural",)


class Twin(Defense):
    """Answers for an encrypted service whose logits are off by `error`; `missing`: cannot be asked."""

    slot = "serve"

    def __init__(self, *, error=0.0, missing=False):
        self.error, self.missing = error, missing

    def apply(self, release, *, problem):
        return Release(release.views, hidden=release.hidden, plaintext_surrogate=True)

    def verify_surrogate(self, release, x, *, problem, n):
        if self.missing:
            raise MedleakError("the library is not installed")
        return SimpleNamespace(n=n, error=self.error, seconds=2.0, bytes_in=10, overhead=1e4)


class Nosy(ServerPolicy):
    """A dishonest server with nothing to change."""
