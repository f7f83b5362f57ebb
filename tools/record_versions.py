"""Record the code of every shipped component beside its version.

    python tools/record_versions.py

A component whose code changed has to carry a new `version` first: its stored results are no longer
what the code gives. Where the numbers provably did not change (a renamed variable), `--same` says so.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from pathlib import Path

import yaml

from medleak.config.instantiate import _source, static
from medleak.core.keys import BENCH_VERSION, MEASURE_VERSION

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "tests" / "versions.json"
BENCH = {
    "medleak.api.answers": MEASURE_VERSION,
    "medleak.api.scores": BENCH_VERSION,
    "medleak.api.task": BENCH_VERSION,
    "medleak.api.tasks": BENCH_VERSION,
    "medleak.engine.validity": MEASURE_VERSION,
    "medleak.data.experiment": BENCH_VERSION,
    "medleak.goals.attribute.goal": MEASURE_VERSION,
    "medleak.goals.reconstruction.informed": MEASURE_VERSION,
    "medleak.goals.inversion.goal": MEASURE_VERSION,
    "medleak.goals.attribute.column": MEASURE_VERSION,
    "medleak.goals.attribute.messages": MEASURE_VERSION,
    "medleak.goals.attribute.sample": MEASURE_VERSION,
    "medleak.goals.property.goal": MEASURE_VERSION,
    "medleak.goals.observed_messages": MEASURE_VERSION,
    "medleak.goals.membership.target_scores": MEASURE_VERSION,
    "medleak.engine.figures": MEASURE_VERSION,
    "medleak.engine.answers": MEASURE_VERSION,
    "medleak.goals.membership.goal": MEASURE_VERSION,
    "medleak.goals.reconstruction.goal": MEASURE_VERSION,
    "medleak.engine.measure": MEASURE_VERSION,
    "medleak.metrics.blind": MEASURE_VERSION,
    "medleak.metrics.statistics.means": MEASURE_VERSION,
    "medleak.metrics.utility": MEASURE_VERSION,
    "medleak.release.build": BENCH_VERSION,
    "medleak.release.replicas": MEASURE_VERSION,
    "medleak.training.stored_model": BENCH_VERSION,
    "medleak.training.run_spec": BENCH_VERSION,
    "medleak.release.pool": MEASURE_VERSION,
    "medleak.release.kinds.classifier": MEASURE_VERSION,
    "medleak.release.kinds.messages": MEASURE_VERSION,
    "medleak.release.kinds.records": MEASURE_VERSION,
    "medleak.release.kinds.generator": MEASURE_VERSION,
    "medleak.engine.usefulness": MEASURE_VERSION,
    "medleak.training.artefacts": BENCH_VERSION,
    "medleak.data.proportions": BENCH_VERSION,
    "medleak.training.pipeline": BENCH_VERSION,
    "medleak.training.train": BENCH_VERSION,
}
FAMILIES = ("medleak.attacks.", "medleak.defenses.", "medleak.targets.", "medleak.metrics.")


def targets() -> set[str]:
    """Every `_target_` that a shipped YAML names, executors aside."""
    found: set[str] = set()
    for path in (ROOT / "conf").rglob("*.yaml"):
        stack = [yaml.safe_load(path.read_text())]
        while stack:
            value = stack.pop()
            if isinstance(value, dict):
                found |= {value["_target_"]} if "_target_" in value else set()
                stack += value.values()
            elif isinstance(value, list):
                stack += value
    return {target for target in found if target.startswith(FAMILIES)}


def code_digest(module: str) -> str:
    """Digest of a module's code, less comments and docstrings, and of what it imports alike."""
    seen: dict[str, str] = {}
    stack = [module]
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        tree = ast.parse(_source(name).read_text())
        seen[name] = canonical(_without_docstrings(tree))
        for node in ast.walk(tree):
            imported = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                imported += [f"{node.module}.{a.name}" for a in node.names]
            stack += [m for m in imported if m.startswith(FAMILIES) and _is_module(m)]
    text = "\n".join(f"# {name}\n{seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical(node: object) -> str:
    """A syntax tree as text that is the same under every Python version.

    `ast.dump` and `ast.unparse` print otherwise from version to version, and new versions give nodes
    new fields: what is empty is left out. How an f-string is cut into constants differs as well.
    """
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({' '.join(map(canonical, _joined(node.values)))})"
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name != "kind")
        kept = (f"{name}={canonical(value)}" for name, value in fields if value not in (None, []))
        constant = [repr(node.value)] if isinstance(node, ast.Constant) else kept
        return f"{type(node).__name__}({' '.join(constant)})"
    if isinstance(node, list):
        return f"[{' '.join(map(canonical, node))}]"
    return repr(node)


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string: constants side by side are one, and empty ones none."""
    parts: list[ast.expr] = []
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else None
        if text is not None and parts and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(parts[-1].value + text)
        elif text != "":
            parts.append(value)
    return parts


def _is_module(name: str) -> bool:
    parts = name.split(".")
    folder = ROOT / "medleak" if parts[1] == "metrics" else ROOT
    return folder.joinpath(*parts[1:]).with_suffix(".py").is_file()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:] or [ast.Pass()]
    return tree


def bench() -> dict[str, dict[str, object]]:
    """The parts of the bench that decide numbers, under the version that they share."""
    return {
        module: {"version": version, "digest": code_digest(module)}
        for module, version in BENCH.items()
    }


def current() -> dict[str, dict[str, object]]:
    """Component or bench module -> version and digest, as the code stands."""
    return bench() | {
        target: {
            "version": static(target).literals.get("version", 1),
            "digest": code_digest(target.rpartition(".")[0]),
        }
        for target in sorted(targets())
    }


def stale(record: dict, now: dict) -> list[str]:
    """Components whose code changed under an unchanged version."""
    return [
        name
        for name, found in now.items()
        if name in record
        and record[name]["digest"] != found["digest"]
        and record[name]["version"] == found["version"]
    ]


def main() -> int:
    """Write the record, or say which versions have to be raised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--same", action="store_true", help="the numbers did not change")
    same = parser.parse_args().same
    record = json.loads(RECORD.read_text())["components"] if RECORD.exists() else {}
    now = current()
    behind = [] if same else stale(record, now)
    for name in behind:
        print(f"{name}: the code changed; raise its version (now {now[name]['version']})")
    if not behind:
        RECORD.write_text(json.dumps({"components": now}, indent=1) + "\n")
    return bool(behind)


if __name__ == "__main__":
    sys.exit(main())
