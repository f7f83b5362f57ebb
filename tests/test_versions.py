"""No component changes its code under an unchanged version."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("record", ROOT / "tools" / "record_versions.py")
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)


def test_every_component_is_recorded_as_its_code_stands():
    known = json.loads(record.RECORD.read_text())
    if known["python"] != list(sys.version_info[:2]):
        pytest.skip(f"recorded with Python {known['python']}, whose ast prints otherwise")
    now = record.current()
    behind = record.stale(known["components"], now)
    assert not behind, f"raise `version`, then run tools/record_versions.py: {behind}"
    assert now == known["components"], "run tools/record_versions.py"


def test_a_change_under_the_same_version_is_seen():
    known = {"a": {"version": 1, "digest": "x"}, "b": {"version": 1, "digest": "x"}}
    now = {"a": {"version": 1, "digest": "y"}, "b": {"version": 2, "digest": "y"}}
    assert record.stale(known, now) == ["a"]
