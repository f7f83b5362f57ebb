"""Where numbers come from: versions, hardware and git state, without names of people or machines."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "medleak",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "opacus",
    "dp-accounting",
    "hydra-core",
    "monai",
    "adversarial-robustness-toolbox",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Package -> installed version, for those installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Kind of processor, cores, memory in GiB and accelerator."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
    }
    if device.startswith("cuda"):
        import torch

        found["accelerator"] = torch.cuda.get_device_name()
    return found


def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether it was modified; empty for an installed package."""
    root = Path(__file__).resolve().parents[2]

    def git(*args: str) -> str:
        command = ["git", "-C", str(root), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", "medleak/api/__init__.py"):
            return {}
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def environment(device: str = "cpu") -> dict[str, Any]:
    """Everything above, for a manifest."""
    return {"versions": versions(), "hardware": hardware(device), "git": git_state()}
