import subprocess
import sys

import numpy as np
import pytest
import torch
from inversion_world import experiment, over_worlds

from medleak.api import ConfigError
from medleak.attacks.model_inversion._priors import Pixels
from medleak.attacks.model_inversion.art import ARTInversion, classifier


def art(**options):
    return ARTInversion(prior=Pixels(), options={"max_iter": 60, "learning_rate": 2.0} | options)


def test_it_draws_whom_the_model_knows_by_heart_and_nobody_else():
    assert over_worlds(art(), seeds=range(3)) > 0.7
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 12)
    assert abs(over_worlds(art(), seeds=range(3), knows=False) - 0.25) < bound


def test_it_takes_as_many_steps_as_it_is_told_and_no_query():
    release, sittings, knowledge, _ = experiment(n_images=1)
    output = art(max_iter=1, learning_rate=0.05).execute(release, sittings, knowledge)
    x = torch.zeros(4, 1, 12, 12, requires_grad=True)
    p = knowledge.network(release.weights)(x).softmax(1)[range(4), range(4)]
    (gradient,) = torch.autograd.grad(p.sum(), x)
    assert np.allclose(output.reconstructions[:, 0], (0.05 * gradient).clamp(0, 1), atol=1e-6)
    assert output.queries == 0


def test_art_sees_probabilities():
    release, _, knowledge, people = experiment()
    network = knowledge.network(release.weights)
    seen = classifier(network, knowledge.problem).predict(people)
    assert np.allclose(seen, np.exp(release.scores(people)), atol=1e-5)


def test_faults_and_configuration_errors():
    assert art().invalid_parameters() == []
    found = ARTInversion(prior=Pixels(start="public"), attack="os.system").invalid_parameters()
    assert found[0].startswith("prior: start=public")
    assert found[1].startswith("unknown attack of ART 'os.system'")
    with pytest.raises(ConfigError, match="did you mean 'max_iter'"):
        ARTInversion(prior=Pixels(), options={"maxiter": 3}).execute(*experiment()[:3])


def test_planning_imports_neither_art_nor_torch():
    names = ("art", "brep_mi", "miface", "ppa")
    code = "import sys; " + "; ".join(
        f"import medleak.attacks.model_inversion.{name}" for name in names
    )
    code += "; print('art' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
