"""A count that several processes add to."""

import os
import tempfile
from pathlib import Path
from weakref import finalize

__all__ = ["Tally"]


class Tally:
    """A file whose size is the count: appending is atomic between processes, whatever way they were started.

    It is removed with the tally of the process that made it; copies that go to other processes leave it.
    """

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="dtcwsi-tally-")
        os.close(handle)
        self._path = Path(name)
        finalize(self, self._path.unlink, missing_ok=True)

    def __getstate__(self) -> dict[str, Path]:
        return {"_path": self._path}

    def add(self, count: int) -> None:
        """Count so many more."""
        if count:
            with self._path.open("ab") as file:
                file.write(b"." * count)

    @property
    def count(self) -> int:
        """How many were counted so far, by all processes."""
        return self._path.stat().st_size
