"""The wheel holds what git tracks, and only that; imports go through the package."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("attacks", "defenses", "targets", "conf")


def tracked():
    try:
        command = ["git", "-C", str(ROOT), "ls-files"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for path in listed.split("\n") if path and (ROOT / path).exists()]


def test_the_wheel_holds_what_git_tracks(tmp_path):
    files = tracked()
    source = tmp_path / "source"
    for path in files:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run = subprocess.run(
        [*command, "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    wanted = {p for p in files if p.startswith("medleak/")}
    wanted |= {f"medleak/{p}" for p in files if p.startswith(tuple(f"{f}/" for f in FOLDERS))}
    assert inside == wanted


def python_files():
    return [ROOT / path for path in tracked() if path.endswith(".py")]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_nothing_is_imported_from_the_repository_root():
    wrong = [(p.name, m) for p in python_files() for m in imports(p) if m.split(".")[0] in FOLDERS]
    assert not wrong


def test_the_bench_never_imports_attacks_defenses_or_targets():
    families = tuple(f"medleak.{f}" for f in ("attacks", "defenses", "targets"))
    bench = [p for p in python_files() if p.is_relative_to(ROOT / "medleak")]
    assert len(bench) > 20
    assert not [(p.name, m) for p in bench for m in imports(p) if m.startswith(families)]


HEAVY = {"torch", "sklearn", "pandas", "matplotlib", "opacus", "monai", "art", "hydra", "scipy"}
HEAVY |= {"tenseal", "mpyc", "cryptography", "flwr", "ray"}


def public_modules():
    for path in python_files():
        part = path.relative_to(ROOT).with_suffix("").parts
        if part[0] in ("attacks", "defenses") and not part[-1].startswith("_"):
            yield ".".join(("medleak", *part))


def test_nothing_heavy_is_imported_before_it_is_needed():
    modules = sorted(public_modules())
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\n"
    code += f"import medleak.engine.plan, medleak.targets.recipes\nprint(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(modules) > 50
    assert done.stdout.strip() == "[]"


def test_three_modules_know_hydra():
    names = {"hydra", "omegaconf"}
    package = (ROOT / "medleak").rglob("*.py")
    found = {p.name for p in package if names & {m.split(".")[0] for m in imports(p)}}
    assert found == {"compose.py", "hydra_search.py", "overrides.py"}
