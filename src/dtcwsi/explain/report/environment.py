"""The templates' environment: filters, and a policy that lets the page run its own script and nothing else."""

import base64
import hashlib
from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["page_environment", "viewer_script"]


@cache
def page_environment() -> Environment:
    """Make the templates of this package ready; names from outside are escaped wherever they appear."""
    environment = Environment(
        loader=PackageLoader("dtcwsi.explain.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "duration": _duration,
        "jpeg": _jpeg,
        "percent": _percent,
        "bytes": _bytes,
    }
    return environment


@cache
def viewer_script() -> tuple[str, str]:
    """Give the script of the slides and its source expression for a Content-Security-Policy."""
    loader = page_environment().loader
    assert loader is not None
    script = loader.get_source(page_environment(), "viewer.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return script, f"'sha256-{digest}'"


def _number(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None or not np.isfinite(value) else f"{value:,.{digits}f}"


def _percent(share: float | None, digits: int = 0) -> str:
    return "n/a" if share is None else f"{share:.{digits}%}".replace("%", " %")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _jpeg(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
