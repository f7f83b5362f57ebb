"""The plan of the house: rooms in the order of the data flow, and no circle of imports, inside a room or between rooms."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "medleak"
ROOMS = (
    "api",
    "core",
    "config",
    "data",
    "training",
    "release",
    "metrics",
    "results",
    "goals",
    "engine",
    "report",
    "audit",
    "testing",
    "cli",
)
"""Each room knows only those before it."""


def modules():
    return {
        ".".join(("medleak", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in ROOT.rglob("*.py")
        if "templates" not in path.parts
    }


def imports(path, known):
    """Modules of medleak that a source imports, wherever in it the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return {name for name in found if name in known}


def graph():
    files = modules()
    return {name: imports(path, files.keys()) for name, path in files.items()}


def room(name):
    return name.split(".")[1] if "." in name else ""


def test_every_module_stands_in_a_room():
    assert {room(name) for name in modules()} - {""} == set(ROOMS)


def test_no_room_imports_from_a_later_one():
    place = {name: i for i, name in enumerate(ROOMS)}
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if room(name) and room(other) and place[room(other)] > place[room(name)]
    ]
    assert wrong == []


def circles(edges):
    """Strongly connected parts of more than one module (Tarjan), each sorted."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = []
            while not part or part[-1] != name:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def test_no_import_circle():
    # The package itself hands out entry points by name, on first use.
    edges = {name: others - {"medleak"} for name, others in graph().items()}
    assert circles(edges) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
