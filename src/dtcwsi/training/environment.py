"""What a training was started with, so that it can be started again."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from dtcwsi.model_folder import package_versions

__all__ = ["device_name", "note_jobs", "source_commit", "this_start"]


_jobs = 1


def note_jobs(jobs: int) -> None:
    """Remember that this process is one of several that train at a time, so that its seconds are of a busy machine."""
    global _jobs  # noqa: PLW0603  # it is the process that shares the machine, whatever trains in it
    _jobs = jobs


def device_name(device: torch.device) -> str:
    """Say what computes, so that seconds of one machine are not set against those of another."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def this_start() -> dict[str, Any]:
    """Tell the command of this process, where and when it runs, and the versions of all that computes.

    ``commit`` is that of the source code, None where it is no checkout; ``jobs`` how many trained at a time.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "folder": str(Path.cwd()),
        "jobs": _jobs,
        "commit": source_commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": package_versions(),
    }


def source_commit() -> str | None:
    """Name the commit of this source code, ``-dirty`` where it was changed; None where it is no checkout."""
    source = Path(__file__).resolve().parents[3]
    if not (source / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
