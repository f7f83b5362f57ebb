"""From a `_target_` in a YAML to a class: safely, and where possible without importing it.

Only medleak itself and registered plugins may be named. What `list` and the planner need (version,
threat model, slot, paper, first line) are literals, read from the source with `ast`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medleak.api import ConfigError, MedleakError, ThreatModel
from medleak.api.component import parameters_of

_roots: set[str] = {"medleak"}
_folders: dict[str, set[Path]] = {}
RESERVED = {"name", "summary", "knowledge", "policy", "_target_"}


def allow(package: str) -> None:
    """Let `_target_` name classes under the top-level `package` (a registered plugin)."""
    _roots.add(package)


def allowed() -> list[str]:
    """The top-level packages that `_target_` may name."""
    return sorted(_roots)


@dataclass(frozen=True)
class Static:
    """Literals of a class, read without importing it."""

    target: str
    line: str = ""
    doc: str = ""
    literals: Mapping[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    file: Path | None = None
    line_number: int = 0

    @property
    def requires(self) -> ThreatModel | None:
        return self.literals.get("requires")

    @property
    def paper(self) -> str:
        return self.literals.get("paper", "")

    @property
    def builtin(self) -> bool:
        return self.target.startswith("medleak.")

    @property
    def identity(self) -> str:
        """What a key says of this component: its explicit version; of a plugin, a digest of its
        file and of what that imports from its own folder or package."""
        if self.builtin:
            return f"{self.target}@{self.literals.get('version', 1)}"
        digest = hashlib.sha256()
        for path in own_sources(self.target.rpartition(".")[0], self.file) if self.file else ():
            digest.update(path.read_bytes())
        return f"{self.target}#{digest.hexdigest()[:16]}"


def own_sources(module: str, file: Path) -> list[Path]:
    """`file` of a plugin's `module`, and every file that it imports, directly or through another,
    from the same plugin folder or package; by module name. Nothing is imported here."""
    root = _root(module, file)
    found: dict[str, Path] = {}
    stack = [module]
    while stack:
        name = stack.pop()
        path = _file_under(root, name)
        if path is None or name in found:
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        stack += [name.rpartition(".")[0], *_imported(path.read_text(), package)]
    return [found[name] for name in sorted(found)]


def _file_under(root: Path, module: str) -> Path | None:
    """The file of a plugin's module below `root`; other packages may lie there too."""
    top, *rest = module.split(".")
    if top not in _roots - {"medleak"}:
        return None
    place = root.joinpath(top, *rest)
    choices = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in choices if path.is_file()), None)


@functools.lru_cache(maxsize=256)
def _imported(text: str, package: str) -> tuple[str, ...]:
    """Modules that a source in `package` imports, and what may be modules among the names."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ()  # whoever imports it is told
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _from(node, package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _split(target: str) -> tuple[str, str]:
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(f"_target_ {target!r} is not a dotted path to a class")
    module, _, name = target.rpartition(".")
    root = module.split(".")[0]
    if root not in _roots:
        raise ConfigError(
            f"_target_ '{target}' is outside medleak and its plugins (allowed: {', '.join(allowed())})"
        )
    return module, name


@functools.cache
def _source(module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"_target_ module '{module}' cannot be found ({error})") from None
    if spec is None or not spec.origin:
        raise ConfigError(f"_target_ module '{module}' cannot be found")
    return Path(spec.origin)


def _checked_source(module: str) -> Path:
    """As `_source`; what a plugin folder lets be named must lie in that folder."""
    path, root = _source(module), module.split(".")[0]
    folders = _folders.get(root, set())
    if folders and not any(path.resolve().is_relative_to(folder) for folder in folders):
        mine = ", ".join(str(folder / root) for folder in sorted(folders))
        raise ConfigError(f"plugin '{mine}' has the name of an installed module, {path}: rename it")
    return path


def static(target: str) -> Static:
    """Literals of the class that `target` names, its own and those it inherits (see `lineage`).

    Raises:
        ConfigError: not allowed, not found, or not a class.
    """
    module, name = _split(target)
    return _static(target, _checked_source(module), name)


@functools.cache
def _static(target: str, path: Path, name: str) -> Static:
    module, tree = target.rpartition(".")[0], _tree(path)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    node = next((node for node in classes if node.name == name), None)
    if node is None:
        choices = ", ".join(sorted(c.name for c in classes if c.name[0] != "_")) or "none"
        raise ConfigError(
            f"_target_ '{target}': {path.name} has no class '{name}' (has: {choices})"
        )
    bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
    doc = ast.get_docstring(node) or ""
    line = doc.strip().split("\n\n")[0].replace("\n", " ")
    return Static(target, line, doc, _inherited(module, path, node), bases, path, node.lineno)


@functools.cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text())
    except SyntaxError as error:
        raise ConfigError(f"{path.name} does not parse: {error.msg}, line {error.lineno}") from None


def lineage(module: str, path: Path, node: ast.ClassDef) -> list[tuple[str, Path, ast.ClassDef]]:
    """A class and its bases, nearest first, as far as their source can be found by reading imports:
    in medleak, and in the plugin folder or package that the class is from. Nothing is imported."""
    found, stack = [], [(module, path, node)]
    while stack:
        item = stack.pop(0)
        if item not in found:
            found.append(item)
            bases = (_find(item[0], item[1], ast.unparse(base)) for base in item[2].bases)
            stack[:0] = [base for base in bases if base]
    return found


def _inherited(module: str, path: Path, node: ast.ClassDef) -> dict[str, Any]:
    literals: dict[str, Any] = {}
    for _, _, one in reversed(lineage(module, path, node)):
        literals |= _literals(one)
    return literals


def _find(
    module: str, path: Path, name: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> tuple[str, Path, ast.ClassDef] | None:
    """The class that `name`, perhaps dotted, means in a module; None where it cannot be found."""
    try:
        tree = _tree(path)
    except (ConfigError, OSError):
        return None  # importing it says what is wrong
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, path, node
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for place, inner in _meanings(tree, package, name):
        file = None if (place, inner) in seen else _file_beside(module, path, place)
        found = file and _find(place, file, inner, seen | {(place, inner)})
        if found:
            return found
    return None


def _meanings(tree: ast.Module, package: str, name: str) -> Iterator[tuple[str, str]]:
    """Module and class that `name` may mean by the imports at the top of a module."""
    first, _, rest = name.partition(".")
    for node in _at_top(tree.body):
        for alias in node.names:
            if isinstance(node, ast.ImportFrom) and alias.name == "*":
                yield _from(node, package), name
            elif (alias.asname or alias.name) == first and isinstance(node, ast.ImportFrom):
                full = ".".join(part for part in (_from(node, package), alias.name, rest) if part)
                yield full.rpartition(".")[0], full.rpartition(".")[2]
            elif isinstance(node, ast.Import) and rest:
                full = f"{alias.name}.{rest}" if alias.asname == first else name
                yield full.rpartition(".")[0], full.rpartition(".")[2]


def _at_top(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If | ast.Try):
            yield from _at_top([*node.body, *node.orelse])


def _file_beside(module: str, path: Path, place: str) -> Path | None:
    """The file of the module `place`, as seen from `module`: of medleak, or of the same plugin."""
    if place.split(".")[0] != "medleak":
        return (
            None if module.split(".")[0] == "medleak" else _file_under(_root(module, path), place)
        )
    try:
        return _source(place)
    except ConfigError:
        return None


def _root(module: str, file: Path) -> Path:
    """The folder that a module's dotted path starts from."""
    return file.parents[module.count(".") + (file.name == "__init__.py")]


def _from(node: ast.ImportFrom, package: str) -> str:
    above = package.split(".")[: -(node.level - 1) or None] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    found = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name, value = statement.targets[0].id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, value = statement.target.id, statement.value
        else:
            continue
        try:
            found[name] = _literal(value)
        except (ValueError, TypeError):
            continue
    return found


def _literal(value: ast.expr | None) -> Any:
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("ThreatModel"):
        return ThreatModel(**{k.arg: ast.literal_eval(k.value) for k in value.keywords})
    if value is None:
        raise ValueError("no value")
    return ast.literal_eval(value)


def load(target: str) -> type:
    """Import the class that `target` names."""
    module, name = _split(target)
    static(target)
    try:
        return getattr(importlib.import_module(module), name)
    except (KeyboardInterrupt, MedleakError):
        raise
    except BaseException as error:  # a plugin's: even one that calls sys.exit() must say so
        if module.startswith("medleak."):
            raise
        raise ConfigError(f"importing {module} {raised(error)}") from error


def raised(error: BaseException) -> str:
    """``raised ValueError: its first line``."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return f"raised {type(error).__name__}: {text}"


def build(config: Mapping[str, Any], *, of: type = object, **extra: Any) -> Any:
    """The object that a YAML block describes; `extra` are further keyword arguments.

    Nested blocks with a `_target_` are built first; `name`, `summary`, `knowledge` and `policy` belong to the
    bench and are not passed on.

    Raises:
        ConfigError: a keyword that the class does not take, named with the choices; or a class that
            is no subclass of `of`.
    """
    if "_target_" not in config:
        raise ConfigError(f"a block without _target_ cannot be built: {sorted(config)}")
    keywords = {k: _build(v) for k, v in config.items() if k not in RESERVED} | extra
    cls = load(config["_target_"])
    if not issubclass(cls, of):
        raise ConfigError(f"_target_ '{config['_target_']}' is no {of.__name__}")
    check_keywords(cls, keywords)
    return cls(**keywords)


def _build(value: Any) -> Any:
    if isinstance(value, Mapping):
        return build(value) if "_target_" in value else {k: _build(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_build(v) for v in value]
    return value


def check_keywords(cls: type, keywords: Mapping[str, Any]) -> None:
    """Refuse keywords that `cls` does not take."""
    from medleak.core.suggestions import unknown

    parameters = parameters_of(cls)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in keywords:
        if name not in parameters:
            raise ConfigError(unknown(f"key of {cls.__name__}", name, parameters))
    missing = [
        n
        for n, p in parameters.items()
        if p.default is p.empty and n not in keywords and p.kind is not p.VAR_POSITIONAL
    ]
    if missing:
        raise ConfigError(f"{cls.__name__} needs {', '.join(missing)}")


def identities(config: Any) -> list[str]:
    """The identity of every component named anywhere inside `config`, sorted."""
    found: set[str] = set()
    stack = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            if "_target_" in value:
                found.add(static(value["_target_"]).identity)
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            stack.extend(value)
    return sorted(found)


def add_plugin_folder(folder: Path) -> None:
    """Make the modules of `folder` importable and nameable by `_target_`."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    packages = (path.parent.name for path in folder.glob("*/__init__.py"))
    for name in [*(path.stem for path in folder.glob("*.py")), *packages]:
        allow(name)
        _folders.setdefault(name, set()).add(folder.resolve())
