"""What every committed result says of its making: seed, commit, hardware, versions."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from dtcwsi.model_folder import package_versions

__all__ = ["provenance", "save"]


def provenance(**settings: Any) -> dict[str, Any]:
    """Describe this run of a benchmark."""
    root = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(root)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return {
        "settings": settings,
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "hardware": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {_gpu()}",
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
    print(f"wrote {path}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU used"


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
