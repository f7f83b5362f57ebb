"""Privacy profiles are found by the name of a mechanism; a plugin can bring one."""

import numpy as np
import pytest

from medleak.api import Guarantee
from medleak.config import plugins
from medleak.metrics.privacy.profiles import MECHANISMS
from medleak.metrics.privacy.upper_bounds import privacy_profile, roof

PLUGIN = '''
import numpy as np
from medleak.api import Mechanism


class RandomizedResponse(Mechanism):
    """Tells the truth with probability e^eps / (1 + e^eps)."""

    name = "randomized_response"

    def profile(self, parameters):
        return np.array([parameters["epsilon"]]), np.array([0.0])
'''
RESPONSE = {"name": "randomized_response", "epsilon": 1.0}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    folder = tmp_path / "conf" / "mechanism"
    folder.mkdir(parents=True)
    (tmp_path / "response_plugin.py").write_text(PLUGIN)
    block = "name: randomized_response\n_target_: response_plugin.RandomizedResponse\n"
    (folder / "randomized_response.yaml").write_text(block)
    return tmp_path


def test_every_shipped_mechanism_has_a_profile():
    parameters = {"q": 0.1, "sigma": 2.0, "steps": 5}
    for name in MECHANISMS.names():
        epsilon, delta = privacy_profile({"name": name, **parameters})
        assert epsilon.shape == delta.shape
        assert (np.diff(delta[np.argsort(epsilon)]) <= 1e-12).all()


def test_a_plugin_brings_its_own_profile(plugin):
    assert privacy_profile(RESPONSE) is None
    bare = Guarantee("dp", "record", "anyone", mechanism=RESPONSE)
    assert roof([bare]) is None
    plugins.add_folders([plugin])
    bound = roof([bare])
    assert bound.tpr(0.0) == 0.0
    assert bound.balanced_accuracy() == pytest.approx(np.e / (1 + np.e), abs=1e-3)


def test_of_an_unknown_or_nameless_mechanism_nothing_is_known():
    assert privacy_profile({"name": "no such", "q": 1.0}) is None
    assert privacy_profile({}) is None
