"""``medleak doctor``: is everything here that medleak needs? Each part answers for itself, so that a
fault in one hides nothing of the others; the exit status is 1 where any has a problem."""

from __future__ import annotations

import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from medleak.cli.shared import in_words

SHOWN = 12
PROBLEM = "PROBLEM: "


def main(arguments: Namespace) -> int:
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "environment": environment,
        "versions": versions,
        "torch": torch_devices,
        "data": data,
        "store": lambda: store(arguments.store),
        "plugins": plugins,
    }
    problems = 0
    for title, part in parts.items():
        for i, line in enumerate(_attempt(part)):
            print(f"{title if i == 0 else '':13}{line}")
            problems += line.startswith(PROBLEM)
    return int(problems > 0)


def _attempt(part: Callable[[], Iterator[str]]) -> Iterator[str]:
    try:
        yield from part()
    except Exception as error:
        yield f"{PROBLEM}{error or type(error).__name__}"


def environment() -> Iterator[str]:
    """Platform, cores and memory."""
    import platform

    from medleak.core.provenance import hardware

    found = hardware()
    yield f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB"


def versions() -> Iterator[str]:
    """What is installed of what medleak needs."""
    from medleak.core.provenance import PACKAGES
    from medleak.core.provenance import versions as installed

    found = installed()
    yield ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)
    missing = [name for name in PACKAGES if name not in found]
    if missing:
        yield f"{PROBLEM}not installed: {', '.join(missing)}"


def torch_devices() -> Iterator[str]:
    """Threads and accelerators."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield f"{torch.get_num_threads()} threads; GPU: {', '.join(gpus) or 'none'}"


def data() -> Iterator[str]:
    """What lies in the folder of data sets."""
    folder = os.environ.get("MEDLEAK_DATA")
    if not folder:
        yield "MEDLEAK_DATA is not set: phantom targets need no data, others download or refuse"
        return
    if not Path(folder).is_dir():
        yield f"{PROBLEM}MEDLEAK_DATA names {folder}, which is no folder"
        return
    yield folder
    found = sorted(p for p in Path(folder).iterdir() if p.is_dir() or p.suffix in (".npz", ".csv"))
    for path in found[:SHOWN]:
        yield f"  {path.name}/" if path.is_dir() else f"  {path.name} ({_size(path)})"
    if len(found) > SHOWN:
        yield f"  ... {len(found) - SHOWN} more"


def _size(path: Path) -> str:
    return in_words(path.stat().st_size)


def store(given: str | None) -> Iterator[str]:
    """Place, size and room."""
    from medleak.config.compose import default_store
    from medleak.core.store import Store

    root = Path(given or default_store()).resolve()
    kinds = Store(root).size()
    yield f"{root}: {in_words(sum(size for _, size in kinds.values()))}"
    there = next(path for path in (root, *root.parents) if path.exists())
    yield f"{in_words(shutil.disk_usage(there).free)} free"
    if not os.access(there, os.W_OK):
        yield f"{PROBLEM}{there} cannot be written"


def plugins() -> Iterator[str]:
    """The plugins found."""
    from medleak.config.plugins import enable, sources

    enable()
    others = sources()[1:]
    for source in others:
        groups = sorted(p.name for p in source.conf.iterdir() if p.is_dir())
        yield f"{source.name} ({', '.join(groups)}) in {source.conf}"
    if not others:
        yield "none"
