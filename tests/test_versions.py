"""No component changes its code under an unchanged version."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("record", ROOT / "tools" / "record_versions.py")
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)


def test_every_component_is_recorded_as_its_code_stands():
    known = json.loads(record.RECORD.read_text())
    now = record.current()
    behind = record.stale(known["components"], now)
    assert not behind, f"raise `version`, then run tools/record_versions.py: {behind}"
    assert now == known["components"], "run tools/record_versions.py"


def test_a_change_under_the_same_version_is_seen():
    known = {"a": {"version": 1, "digest": "x"}, "b": {"version": 1, "digest": "x"}}
    now = {"a": {"version": 1, "digest": "y"}, "b": {"version": 2, "digest": "y"}}
    assert record.stale(known, now) == ["a"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f'a{x}' 'b' f'c'", "f'a{x}bc'"),
        ("f'' f'{x:>3}'", "f'{x:>3}'"),
        ("u'a'", "'a'"),
        ("def f(a): return (a)", "def f(a):\n    return a  # itself"),
    ],
)
def test_the_spelling_of_code_is_not_in_its_digest(one, other):
    assert record.canonical(ast.parse(one)) == record.canonical(ast.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = 1", "x = 1.0"), ("f(a)", "f(a=a)"), ("f'{x}'", "f'{x!r}'"), ("x = None", "x = 0")],
)
def test_what_code_does_is_in_its_digest(one, other):
    assert record.canonical(ast.parse(one)) != record.canonical(ast.parse(other))


def test_what_later_versions_add_to_a_node_is_left_out_where_it_is_empty():
    plain, newer = (ast.parse("def f(): pass\nclass A: pass") for _ in range(2))
    for node in newer.body:
        node._fields = (*type(node)._fields, "added_later")
        node.added_later = []
    assert record.canonical(newer) == record.canonical(plain)
