"""Arguments of the attacks in closed form, and what stands in for what is not recovered."""

import numpy as np
import pytest
from planted_records import AUXILIARY, SHAPE, known, network

from medleak.api import NotApplicable, ProblemSpec
from medleak.attacks.gradient_inversion._transcript import completed, pixels, prior_guess
from medleak.attacks.gradient_inversion.fishing import Fishing, FishingServer
from medleak.attacks.gradient_inversion.imprint import ImprintServer, RobbingTheFed
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer
from medleak.attacks.gradient_inversion.model_inconsistency import InconsistentServer
from medleak.attacks.gradient_inversion.spear import SPEAR
from medleak.attacks.gradient_inversion.trap_weights import TrapServer, TrapWeights
from medleak.targets.architectures.mlp import MLP


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (ImprintServer(bins=1), "bins 1"),
        (ImprintServer(sparse="no"), "sparse 'no'"),
        (ImprintServer(gain=0), "gain 0"),
        (ImprintServer(reach=-1.0), "reach -1.0"),
        (InconsistentServer(victims=0), "victims 0"),
        (InconsistentServer(bins=2.5), "bins 2.5"),
        (TrapServer(rows=0), "rows 0"),
        (TrapServer(active=1.5), "active 1.5"),
        (TrapServer(scale=-0.9), "scale -0.9"),
        (TrapServer(front=1), "front 1"),
        (FishingServer(target=-1), "target -1"),
        (FishingServer(share=0), "share 0"),
        (FishingServer(offset="much"), "offset 'much'"),
        (RobbingTheFed(denoised=2), "denoised 2"),
        (SPEAR(samples=0), "samples 0"),
        (Fishing(inner=RobbingTheFed(denoised=2)), "denoised 2"),
    ],
)
def test_wrong_arguments_are_faults(component, said):
    invalid_parameters = component.invalid_parameters()
    assert len(invalid_parameters) == 1
    assert invalid_parameters[0].startswith(said)


@pytest.mark.parametrize(
    "component",
    [
        ImprintServer(),
        InconsistentServer(),
        TrapServer(),
        TrapServer(scale=0.95),
        FishingServer(),
        FishingServer(share=None, target=1),
        RobbingTheFed(),
        Fishing(inner=LinearLayer()),
    ],
)
def test_right_ones_are_not(component):
    assert component.invalid_parameters() == []


def test_tables_are_refused():
    table = ProblemSpec(100, 100, 1, (30,), 2)
    for attack in (LinearLayer(), SPEAR(), RobbingTheFed(), Fishing(inner=TrapWeights())):
        assert "images (C, H, W): in_shape (30,)" in attack.incompatibilities(table, {})[0]
        assert attack.incompatibilities(ProblemSpec(100, 100, 1, SHAPE, 2), {}) == []
    several = ProblemSpec(100, 100, 1, SHAPE, 2, "multilabel")
    assert Fishing(inner=LinearLayer()).incompatibilities(several, {})


@pytest.mark.parametrize("server", [ImprintServer(), TrapServer(), FishingServer()])
def test_servers_say_that_they_need_auxiliary_records(server):
    model = network(MLP)
    with pytest.raises(NotApplicable, match="needs auxiliary records"):
        server.module(model, client=0, knowledge=known(model, auxiliary=None))


def test_what_is_not_recovered_or_not_finite_is_the_prior_guess():
    prior = np.full(SHAPE, 0.25, dtype=np.float32)
    found = np.stack(
        [np.full(256, 2.0), np.full(256, np.nan), np.full(256, 0.5), np.full(256, 0.75)]
    )
    whole = completed(found, 4, prior)
    assert [float(image.max()) for image in whole] == [1.0, 0.5, 0.75, 0.25]
    assert np.array_equal(completed(np.zeros((0, 256)), 2, prior), np.stack([prior, prior]))
    assert len(completed(found, 1, prior)) == 1
    assert np.allclose(prior_guess(None, SHAPE), 0.5)
    assert np.allclose(prior_guess(AUXILIARY, SHAPE), pixels(AUXILIARY.x).mean(axis=0), atol=1e-6)
