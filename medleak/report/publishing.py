"""Writing a report: a local folder, or a published one that is scanned before it gets its name."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medleak.api import ConfigError, Curve
from medleak.metrics.statistics.means import mean_curve
from medleak.report import galleries, pages, plots, tables, text_tables
from medleak.report.publish_check import GALLERY, redacted, scan
from medleak.results.aggregate import Aggregate, aggregate
from medleak.results.frame import save, tidy, to_frame
from medleak.results.row import Row

if TYPE_CHECKING:
    from medleak.core.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def write(
    rows: Iterable[Row],
    folder: str | Path,
    *,
    manifest: Mapping[str, Any] | None = None,
    store: Store | None = None,
) -> Path:
    """Write the local report and return the path of its ``report.html``.

    ``rows.csv`` has a line for each row, ``measures.csv`` (and ``.parquet``, where pyarrow is installed)
    one for each row and measure. Each file is replaced whole or not at all. With the `store` that holds what was rebuilt,
    ``gallery.html`` shows it next to the originals; without, one that is there stays.
    """
    folder, rows = Path(folder), list(rows)
    aggregates = aggregate(rows)
    shown = galleries.galleries(aggregates, store) if store else []
    there = bool(shown) or (folder / GALLERY).is_file()
    files = _report(aggregates, manifest, gallery=there) | _pictures(shown, manifest)
    files["rows.csv"] = to_frame(rows).to_csv(index=False).encode()
    files["measures.csv"] = tidy(rows).to_csv(index=False).encode()
    for name, content in files.items():
        _put(folder / name, content)
    if importlib.util.find_spec("pyarrow"):
        os.replace(save(tidy(rows), folder / ".measures.parquet"), folder / "measures.parquet")
    return folder / "report.html"


def publish(
    rows: Iterable[Row],
    name: str,
    *,
    manifest: Mapping[str, Any],
    root: str | Path = Path("results/published"),
    overwrite: bool = False,
    store: Store | None = None,
) -> Path:
    """Write ``root/name``: manifest, aggregate rows, tables, page and plots; return the folder.

    The same rows and manifest give the same bytes. Machine paths and names are taken out first; what
    is left is scanned, and the folder gets its name only when the scan finds nothing. What was
    rebuilt, in `store`, is shown only where all data are simulated.

    Raises:
        ConfigError: a name that is not a plain folder name or is taken, no rows, or a finding.
    """
    root, rows = Path(root), [_public(row) for row in rows]
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is no name to publish under (lower case, digits, . _ -)")
    if not rows:
        raise ConfigError(f"nothing to publish under '{name}': no rows")
    if (root / name).exists() and not overwrite:
        raise ConfigError(f"'{root / name}' exists: choose another name, or --overwrite it")
    manifest = redacted(manifest)
    aggregates = aggregate(rows)
    simulated = all(row.simulated for row in rows)
    shown = galleries.galleries(aggregates, store) if store and simulated else []
    files = _report(aggregates, manifest, ("svg", "pdf"), gallery=bool(shown))
    files |= _pictures(shown, manifest)
    files["manifest.json"] = _json(manifest)
    files["rows.json"] = _a_line_each([row.to_json() for row in rows])
    files["tables.csv"] = tables.flat(aggregates).to_csv(index=False).encode()
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
    try:
        for path, content in files.items():
            _put(draft / path, content)
        problems = scan(draft)
        if problems:
            more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise ConfigError(f"not published: {problems[0]}{more}")
        draft.chmod(0o755)
        _rename(draft, root / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root / name


def _report(
    aggregates: Sequence[Aggregate],
    manifest: Mapping[str, Any] | None,
    forms: Sequence[str] = ("svg",),
    *,
    gallery: bool = False,
) -> dict[str, bytes]:
    drawn = plots.figures(aggregates, forms)
    printed = tables.printed(aggregates)
    files = {
        "report.html": pages.page(aggregates, drawn, manifest, gallery=gallery).encode(),
        "tables.md": text_tables.markdown(printed).encode(),
        "tables.tex": text_tables.latex(printed).encode(),
    }
    for name, forms in drawn.items():
        files |= {f"plots/{name}.{form}": content for form, content in forms.items()}
    return files


def _pictures(
    shown: Sequence[galleries.Gallery], manifest: Mapping[str, Any] | None
) -> dict[str, bytes]:
    title = (manifest or {}).get("name") or "Privacy report"
    return {GALLERY: galleries.page(shown, title).encode()} if shown else {}


def _public(row: Row) -> Row:
    """The row without traces of a machine, and with curves of a few hundred points at most."""
    leakage = {
        name: mean_curve([value]) if isinstance(value, Curve) else value
        for name, value in row.leakage.items()
    }
    return replace(
        row,
        leakage=leakage,
        reason=redacted(row.reason),
        data_note=redacted(row.data_note),
        provenance=redacted(row.provenance),
    )


def _json(value: Any) -> bytes:
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str)
    return f"{text}\n".encode()


def _a_line_each(rows: Sequence[Any]) -> bytes:
    """A JSON list with a row on each line: a third smaller than indented, and still compared by line."""
    compact = {"ensure_ascii": False, "sort_keys": True, "default": str, "separators": (",", ":")}
    lines = ",\n".join(json.dumps(row, **compact) for row in rows)
    return f"[\n{lines}\n]\n".encode()


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _rename(draft: Path, final: Path) -> None:
    """Give the draft its name; a folder that it replaces goes only once the new one stands."""
    if not final.exists():
        os.rename(draft, final)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent))
    os.rename(final, old / "folder")
    try:
        os.rename(draft, final)
    except OSError:
        os.rename(old / "folder", final)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
