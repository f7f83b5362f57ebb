"""What the tests of the contract share."""

import numpy as np

from medleak.api import Attack, ThreatModel


class Good(Attack):
    """Log-probability of the true class."""

    requires = ThreatModel(goal="membership", access="scores")
    paper = "Nobody 2024, Nothing, Nowhere"

    def __init__(self, *, power=1.0):
        self.power = power

    def fit(self, release, knowledge):
        self._knowledge = knowledge

    def run(self, release, challenge):
        return self.power * np.array(self.confidence(release, challenge))

    def confidence(self, release, challenge):
        log_p = release.scores(challenge.x)
        own = np.take_along_axis(log_p, challenge.y[..., None], axis=-1)
        return own.reshape(len(challenge), -1).sum(axis=1)


def only(problems, *words):
    """One problem, that holds each of `words`."""
    assert len(problems) == 1, problems
    for word in words:
        assert word in problems[0]
