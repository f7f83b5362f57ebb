"""Names of the first version are found for one release, and say what they are called now."""

import pytest

from medleak import api
from medleak.api.deprecated import METHODS, NAMES


@pytest.mark.parametrize(("old", "new"), NAMES.items())
def test_an_old_name_is_the_new_class(old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        assert getattr(api, old) is getattr(api, new)


def test_other_names_are_unknown():
    with pytest.raises(AttributeError, match="no attribute 'Sitting'"):
        api.Sitting  # noqa: B018


def test_a_plugin_that_refuses_under_the_old_name_still_refuses():
    with pytest.warns(DeprecationWarning, match="refusals is now incompatibilities"):

        class Old(api.Defense):
            slot = "serve"

            def refusals(self, problem, trainer):
                return ["never"]

    assert Old().incompatibilities(None, None) == ["never"]


def test_every_renamed_method_is_one_that_a_base_class_has():
    bases = (api.Attack, api.Defense, api.Metric, api.Trainer)
    assert {new for new in METHODS.values() if any(hasattr(base, new) for base in bases)} == set(
        METHODS.values()
    )
