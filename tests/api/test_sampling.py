"""Rules of training are typed: wrappers pass on epochs, and say what is inside of them."""

import numpy as np
import torch

from medleak.api import Backward, Step
from medleak.attacks.membership.dirac import Canaries, Planted, clips
from medleak.defenses.train._private import Later, PoissonSampler, PrivateGradient
from medleak.defenses.train.dropout import Dropped
from medleak.defenses.train.label_smoothing import Smoothed
from medleak.targets._rules import MeanGradient, Shuffled
from medleak.targets.recipes import SGD

PRIVATE = PrivateGradient(1.0, 0.0, 4)


class Ear(Backward):
    def __init__(self):
        self.heard = []

    def __call__(self, x, y):
        return torch.zeros(())

    def begins(self, epoch):
        self.heard.append(epoch)


def test_a_step_hears_of_epochs_and_passes_them_on():
    ear = Ear()
    Step(ear, inner=ear).begins(3)
    Step(ear).begins(4)
    assert ear.heard == [3]


def test_wrappers_say_what_is_inside_of_them():
    later = Later(lambda: PRIVATE)
    for inner in (PRIVATE, later, MeanGradient()):
        wrapped = Smoothed(0.1, Dropped(0.2, inner))
        assert wrapped.innermost() is inner
        assert wrapped.innermost().clips == (inner is not wrapped and inner in (PRIVATE, later))
    assert (later.clip, later.expected_batch) == (1.0, 4)


def test_canaries_in_the_gradient_need_poisson_batches_and_a_clip():
    poisson, shuffled = PoissonSampler(0.5, 2), Shuffled(1, 4)
    found = [
        clips(SGD(sampler=sampler, gradient=gradient))
        for sampler in (poisson, shuffled, None)
        for gradient in (PRIVATE, Dropped(0.1, PRIVATE), MeanGradient(), None)
    ]
    assert found == [True, True, *[False] * 10]


def test_planted_canaries_pass_epochs_on():
    model = torch.nn.Linear(3, 2)
    late = Smoothed(0.5, PRIVATE, start=0.5, full=0.5, epochs=2)
    canaries = Canaries(np.array([7]), np.array([True]), 0.5, 0)
    with Planted(late, canaries).attached(model, torch.nn.functional.cross_entropy, 0) as step:
        before = step.inner.epsilon
        step.begins(2)
        assert (before, step.inner.epsilon) == (0.0, 0.5)
