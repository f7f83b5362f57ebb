import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from medleak.api import ConfigError
from medleak.attacks.membership.art import ARTInference, available, classifier, seeded
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

PATH = "art.attacks.inference.membership_inference."
RULE = PATH + "MembershipInferenceBlackBoxRuleBased"
SHADOWS = {"n_shadows": 4}


def execute(attack, **experiment):
    release, challenge, secret, knowledge = membership_world(
        **{"n": 200, "n_shadows": 4} | experiment
    )
    return attack.execute(release, challenge, knowledge).scores, secret.member


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
@pytest.mark.parametrize("options", [{"attack_model_type": "rf"},
                                     {"attack_model_type": "gb", "input_type": "loss"}])  # fmt: skip
def test_a_learned_attack_finds_a_planted_leak_and_nothing_else(pool, options):
    scores, member = execute(ARTInference(options=options), leak=2.0, pool=pool)
    assert auc(scores, member) > 0.75
    assert len(np.unique(scores)) > 10  # probabilities, not decisions
    scores, member = execute(ARTInference(options=options), leak=0.0, pool=pool)
    assert abs(auc(scores, member) - 0.5) < 3.3 * np.sqrt(201 / (12 * 100 * 100))


def test_the_neural_attack_runs_and_is_repeatable():
    options = {"attack_model_type": "nn", "nn_model_epochs": 2}
    one, _ = execute(ARTInference(options=options), leak=4.0)
    two, _ = execute(ARTInference(options=options), leak=4.0)
    assert np.array_equal(one, two)


def test_the_rule_is_whether_the_prediction_is_right():
    release, challenge, _, knowledge = membership_world(leak=6.0, n=100, n_shadows=0)
    scores = (
        ARTInference(attack=RULE, probabilities=False).execute(release, challenge, knowledge).scores
    )
    assert np.array_equal(scores, release.labels(challenge.x) == challenge.y)


def test_the_label_only_boundary_attack_runs():
    attack = ARTInference(
        attack=PATH + "LabelOnlyDecisionBoundary",
        options={"distance_threshold_tau": 1.0},
        infer={"max_iter": 1, "max_eval": 20, "init_eval": 5, "init_size": 20, "verbose": False},
    )
    scores, _ = execute(attack, leak=6.0, n=8, n_shadows=0)
    assert np.isfinite(scores).all()


def test_art_sees_probabilities_and_the_cross_entropy():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=30, n_shadows=0)
    served = classifier(release, knowledge.problem)
    log_p = release.scores(challenge.x)
    assert np.allclose(served.predict(challenge.x), np.exp(log_p), atol=1e-6)
    loss = served.compute_loss(challenge.x, np.eye(3)[challenge.y])
    assert np.allclose(loss, -log_p[np.arange(30), challenge.y], rtol=1e-4)


def test_global_generators_are_put_back_even_after_an_error():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()

    with pytest.raises(RuntimeError), seeded(1):  # noqa: PT012
        assert random.random() + np.random.rand() + torch.rand(1) > 0
        raise RuntimeError
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


def test_refusals_and_configuration_errors():
    problem = membership_world(leak=0, n=4, n_shadows=0)[3].problem
    labels = membership_world(leak=0, n=4, n_shadows=0, task="multilabel")[3].problem
    assert ARTInference().incompatibilities(problem, SHADOWS) == []
    assert ARTInference(attack=RULE).incompatibilities(problem, {}) == []
    assert len(ARTInference().incompatibilities(labels, {})) == 2
    inversion = ARTInference(attack="art.attacks.inference.model_inversion.MIFace")
    assert "'model_inversion'" in inversion.incompatibilities(problem, SHADOWS)[0]
    with pytest.raises(ConfigError, match="is not under art"):
        ARTInference(attack="os.system").incompatibilities(problem, SHADOWS)
    with pytest.raises(ConfigError, match="did you mean 'MembershipInferenceBlackBox'"):
        ARTInference(attack=PATH + "MembershipInferenceBlackBocks").incompatibilities(
            problem, SHADOWS
        )
    with pytest.raises(ConfigError, match="did you mean 'attack_model_type'"):
        execute(ARTInference(options={"attack_modeltype": "rf"}), leak=0.0)


def test_planning_does_not_import_art():
    code = (
        "import sys; from medleak.attacks.membership.art import ARTInference, available; "
        "assert available(); print('art' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert "ShadowModels" not in available()
