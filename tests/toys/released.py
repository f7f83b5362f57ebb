"""Stages that release a set of records or a generator, with or without a leak, and attacks on them."""

import numpy as np

from medleak.api import Attack, Defense, Estimate, Made, Records, ThreatModel, UtilityMetric
from medleak.core.keys import rng_for


def distances(x, released):
    """Of each of `x` to the nearest of `released`."""
    one, other = (np.asarray(a, dtype=float).reshape(len(a), -1) for a in (x, released))
    return np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1)).min(1)


class Noisy(Defense):
    """Releases the members' records with noise: none is a copy, much of it tells nothing."""

    slot = "records"
    makes = ("records",)

    def __init__(self, *, noise=0.0):
        self.noise = noise

    def make(self, records, *, problem, seed, validation=None, device="cpu"):
        rng = np.random.default_rng(seed)
        x = records.x + self.noise * rng.normal(size=records.x.shape)
        nobody = np.full(len(records), -1)
        released = Records(x.astype(np.float32), records.y, nobody, records.groups)
        return Made(released, {"records": released}, {"sigma": self.noise, "device": device})


class FirstHalf(Defense):
    """A de-identification that needs no seed: the first half of each record is blanked."""

    slot = "records"
    makes = ("records",)

    def apply(self, subject, *, problem):
        x = subject.x.copy()
        x[:, : x.shape[1] // 2] = 0
        return Records(x, subject.y, subject.patients, subject.groups)


class Gaussians(Defense):
    """A Gaussian of each class about the members' means; `memory`: about the members themselves."""

    slot = "records"
    makes = ("generator",)

    def __init__(self, *, spread=1.0, memory=False, blind=False):
        self.spread, self.memory, self.blind = spread, memory, blind

    def make(self, records, *, problem, seed, validation=None, device="cpu"):
        x, y = records.x, records.y
        if self.blind:
            x = np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)
        if not self.memory:
            x = np.stack([x[y == k].mean(0) for k in range(problem.n_outputs)])
            y = np.arange(problem.n_outputs)
        parameters = {"centres": x, "classes": y}
        return Made(records, {"generator": parameters}, {"steps": 1})

    def draw(self, parameters, n, seed, *, problem):
        rng = rng_for("draw", seed)
        which = rng.integers(len(parameters["classes"]), size=n)
        x = parameters["centres"][which]
        x = x + self.spread * rng.normal(size=x.shape)
        return Records(x.astype(np.float32), parameters["classes"][which], np.full(n, -1))


class Liar(Noisy):
    """Says that it makes a set of records, and makes none."""

    makes = ("records",)

    def make(self, records, *, problem, seed, validation=None, device="cpu"):
        return Made(records)


class NearestRecord(Attack):
    """Closeness to the nearest released record."""

    version = 1
    requires = ThreatModel(goal="membership", access="records")
    paper = "none"

    def run(self, release, challenge):
        return -distances(challenge.x, release.records.x)


class NearestDraw(NearestRecord):
    """Closeness to the nearest of many draws."""

    requires = ThreatModel(goal="membership", access="generator")

    def run(self, release, challenge):
        return -distances(challenge.x, release.generator.draw(1000, 0).x)


class WantsImages(NearestRecord):
    """After another goal than who was a member."""

    requires = ThreatModel(goal="reconstruction", access="records")


class NearerThanShadows(NearestRecord):
    """Closeness, less its mean over shadows that did not have the record."""

    requires = ThreatModel(goal="membership", access="records", knowledge=("shadows",))

    def fit(self, release, knowledge):
        self.shadows = knowledge.shadows

    def run(self, release, challenge):
        out = np.zeros(len(challenge))
        for shadow in self.shadows:
            out += distances(challenge.x, shadow.release.records.x) / len(self.shadows)
        return out - distances(challenge.x, release.records.x)


class NearestClass(UtilityMetric):
    """Accuracy of the class of the nearest released record."""

    name = "nearest_class"
    artefact = "records"

    def measure(self, release, records, *, task):
        if "records" not in release.views:
            return {}
        released = release.records
        each = [distances(released.x, x[None]).argmin() for x in records.x]
        right = float((released.y[each] == records.y).mean())
        return {"nearest_class": Estimate(right, None, None, len(records))}


class DrawnMean(NearestClass):
    """How far the mean of many draws is from that of evaluation records."""

    name = "drawn_mean"
    artefact = "generator"

    def measure(self, release, records, *, task):
        drawn = release.generator.draw(2000, 1)
        gap = float(np.abs(drawn.x.mean(0) - records.x.mean(0)).mean())
        return {"drawn_mean": Estimate(gap, None, None, len(records))}
