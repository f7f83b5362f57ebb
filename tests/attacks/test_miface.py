import numpy as np
import torch
from inversion_world import experiment, faces, over_worlds, recognised

from medleak.attacks.model_inversion._descent import Descent, StoppedDescent
from medleak.attacks.model_inversion._priors import Components, Pixels
from medleak.attacks.model_inversion.miface import MIFace

PROBLEM = experiment()[2].problem


def miface(*, loss="confidence", prior_weight=0.0, **descent):
    return MIFace(
        prior=Pixels(),
        descent=StoppedDescent(**{"lr": 1.0, "iterations": 150} | descent),
        loss=loss,
        prior_weight=prior_weight,
    )


def test_it_draws_whom_the_model_knows_by_heart():
    assert over_worlds(miface(), seeds=range(6)) > 0.8
    assert over_worlds(miface(loss="cross_entropy"), seeds=range(6)) > 0.9


def test_a_model_of_other_people_tells_nothing():
    # 24 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 24)
    assert abs(over_worlds(miface(), seeds=range(6), knows=False) - 0.25) < bound
    assert abs(over_worlds(miface(), seeds=range(6), prior_samples=True) - 0.25) < bound


def test_the_first_image_starts_from_black_and_no_query_is_asked():
    release, sittings, knowledge, _ = experiment()
    output = miface(lr=1e-9, iterations=1).execute(release, sittings, knowledge)
    assert output.queries == 0
    assert np.abs(output.reconstructions[:, 0]).max() < 1e-6
    assert (output.reconstructions[:, 1:].max(axis=(2, 3, 4)) > 0.1).all()
    assert (output.prior_samples[:, 0] == 0).all()


def test_the_first_step_by_hand():
    release, sittings, knowledge, _ = experiment(n_images=1)
    output = miface(lr=0.05, iterations=1).execute(release, sittings, knowledge)
    x = torch.zeros(4, 1, 12, 12, requires_grad=True)
    p = knowledge.network(release.weights)(x).softmax(1)[range(4), range(4)]
    (gradient,) = torch.autograd.grad(p.sum(), x)
    wanted = (0.05 * gradient).clamp(0, 1)
    assert np.allclose(output.reconstructions[:, 0], wanted, atol=1e-7)


def test_total_variation_smooths():
    release, sittings, knowledge, _ = experiment()

    def rough(attack):
        x = attack.execute(release, sittings, knowledge).reconstructions[:, 1:]
        return np.abs(np.diff(x, axis=-1)).mean()

    assert rough(miface(prior_weight=1.0)) < 0.8 * rough(miface())


def test_the_same_generator_gives_the_same_images():
    one, two = (miface(iterations=5).execute(*experiment()[:3]).reconstructions for _ in range(2))
    assert np.array_equal(one, two)


def test_faults_and_refusals():
    from medleak.api import replace

    assert miface().invalid_parameters() == []
    assert miface().incompatibilities(PROBLEM, {}) == []
    assert (
        "start=mean"
        in MIFace(prior=Pixels(start="mean"), descent=StoppedDescent()).invalid_parameters()[0]
    )
    found = MIFace(
        prior=Components(), descent=Descent(), loss="confidance", prior_weight=-1
    ).invalid_parameters()
    assert [f.split()[0] for f in found] == ["prior", "descent", "prior_weight", "unknown"]
    assert "did you mean 'confidence'" in found[-1]
    table = replace(PROBLEM, in_shape=(5,), task="multilabel")
    assert len(miface().incompatibilities(table, {})) == 2


def test_the_toy_recognises_by_correlation():
    people = faces(4, 0)
    assert recognised(0.3 * people[:, None] + 0.2, people) == 1
    assert recognised(people[[1, 0, 2, 3], None], people) == 0.5
