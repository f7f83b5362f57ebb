"""Views are a registry: what is granted with a view, and what a plugin adds."""

import pytest

from medleak.api import VIEWS, ConfigError, Deferred, Hidden, Release, ViewSpec
from medleak.api.views import Views


def small():
    return Views(ViewSpec("labels", "classes"), ViewSpec("scores", "numbers", ("labels",)))


def test_a_view_is_granted_with_those_that_it_implies():
    assert VIEWS.granted("weights") == ("labels", "scores", "weights")
    assert VIEWS.granted("generator") == ("records", "generator")
    assert VIEWS.granted("no such view") == ("no such view",)
    for spec in VIEWS.values():
        assert set(spec.implies) <= set(VIEWS)
        assert spec.summary


def test_a_plugin_registers_its_own_and_no_two_have_one_name():
    views = small()
    made = views.register("masks", "segmented lesions", implies=("labels",))
    assert views.granted("masks") == ("labels", "masks")
    assert views.register("masks", "segmented lesions", implies=("labels",)) == made
    with pytest.raises(ConfigError, match="registered already"):
        views.register("masks", "of the face")
    with pytest.raises(ConfigError, match="implies unknown view 'label'"):
        views.register("more", "more", implies=("label",))


def test_a_view_that_nobody_registered_is_not_granted_unasked():
    release = Release({"labels": len, "odd": "secret"})
    with pytest.raises(Hidden):
        release.granting("labels").view("odd")
    assert release.granting("odd").view("odd") == "secret"


def test_a_deferred_view_is_read_once_and_only_when_it_is_looked_at():
    read = []
    release = Release({"records": Deferred(lambda: read.append(1) or "set")})
    granted = release.granting("records")
    assert not read
    assert (granted.records, release.records, read) == ("set", "set", [1])
