"""Values against annotations and against what the YAML holds."""

import pytest

from medleak.api import ConfigError
from medleak.config.override_types import annotations, fitted, put
from medleak.core.validation import whole


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [3, 3.0], [2.5, "3", True, None, [3]]),
        ("float", [3, 0.5, float("inf")], ["x", True, None]),
        ("bool", [True], [1, "true"]),
        ("str", ["x"], [1, None]),
        ("float | None", [0.5, None], ["x"]),
        ("'int | str'", [3, "auto"], [2.5, True]),
        ("Literal['a', 'b'] | None", ["a", None], ["c", 1]),
        ("Sequence[int]", [[1, 2]], [1, "x"]),
        ("float | Sequence[float]", [1.5, [1.0]], ["x"]),
        ("Mapping[str, float]", [{"a": 1}], [3]),
        ("Any", [1, "x", None, [1], True], []),
        ("int | Callable", [1, "x"], []),
    ],
)
def test_annotations_decide(annotation, good, bad):
    for value in good:
        assert fitted("k", value, "now", annotation) == value
    for value in bad:
        with pytest.raises(ConfigError, match="is needed"):
            fitted("k", value, "now", annotation)


@pytest.mark.parametrize(
    ("current", "good", "bad"),
    [
        (8, [3, 0.5], ["x", True, [1]]),
        (0.5, [3, 0.25], ["x", False]),
        (True, [False], [1, "yes"]),
        ([1, 2], [[3]], [3, "x"]),
        (None, [1, "x", [1], True], []),
        ("auto", [1, "x", None], []),
    ],
)
def test_without_annotation_the_yaml_decides(current, good, bad):
    for value in good:
        assert fitted("k", value, current) == value
    for value in bad:
        with pytest.raises(ConfigError, match="is needed"):
            fitted("k", value, current)


def test_equal_numbers_take_the_type_of_the_place():
    assert type(fitted("k", 8.0, 8)) is int
    assert type(fitted("k", 8, 0.5)) is float
    assert type(fitted("k", 8.0, "auto", "int | str")) is int
    assert type(fitted("k", 8.5, 8)) is float


def test_an_interpolation_is_left_until_it_is_resolved():
    assert fitted("k", "${seed}", 3, "int") == "${seed}"


def test_put_changes_one_place_only():
    block = {"a": {"b": 1, "c": [{"d": 2}, 5]}}
    put(block, "g.a.b", 4, "g=x")
    put(block, "g.a.c.0.d", 6, "g=x")
    assert block == {"a": {"b": 4, "c": [{"d": 6}, 5]}}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("g.a.bb", "unknown key of g.a in g=x 'bb': did you mean 'b'? (choices: b, c)"),
        ("g.z", "unknown key of g=x 'z' (choices: a)"),
        ("g.a.c.9", "unknown key of g.a.c in g=x '9' (choices: 0)"),
        ("g.a.b.z", "unknown key of g.a.b in g=x 'z' (choices: none)"),
        ("g.a", "g.a is a block, not a value: set one of g.a.b, g.a.c"),
    ],
)
def test_put_refuses_places_that_do_not_exist(key, message):
    with pytest.raises(ConfigError) as caught:
        put({"a": {"b": 1, "c": [1]}}, key, 4, "g=x")
    assert str(caught.value) == message


def test_annotations_are_read_through_parents_of_the_same_file(tmp_path, monkeypatch):
    from medleak.config import instantiate as components

    (tmp_path / "annotated_toy.py").write_text(
        "class A:\n    def __init__(self, *, n: int = 1, free=2): ...\nclass B(A): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    components.allow("annotated_toy")
    assert annotations("annotated_toy.B") == {"n": "int", "free": ""}
    assert annotations("elsewhere.B") == {}


def test_whole_numbers():
    assert whole("seed", 3.0) == 3
    assert whole("seed", None, null=True) is None
    for value in (-1, True, "3", 0.5, float("inf"), float("nan"), None):
        with pytest.raises(ConfigError, match="seed="):
            whole("seed", value)
