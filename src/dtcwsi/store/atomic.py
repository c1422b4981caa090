"""Files that are either whole or absent, and locks that die with their process."""

import errno
import json
import math
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dtcwsi.errors import StoreError, UsageError

__all__ = [
    "beside",
    "check_new_file",
    "check_writable",
    "folder_lock",
    "plain",
    "sweep",
    "try_lock",
    "write_bytes",
    "write_json",
    "write_text",
]

_PART = ".part-"
_MADE_BY = re.compile(r"[0-9a-f]{8}-(?P<pid>\d{1,9})-(?P<host>.+)")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; on leaving, the file is fsynced and renamed to ``path``.

    If the block raises, the partial file is removed and ``path`` keeps what it held.
    Raises: StoreError if the disk is full or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}{_PART}{secrets.token_hex(4)}-{os.getpid()}-{_machine()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(_reason(path, error)) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all.  Raises: StoreError as `beside`."""
    with beside(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a small UTF-8 text whole or not at all.  Raises: StoreError as `beside`."""
    write_bytes(path, content.encode(errors="surrogateescape"))  # file names need not be UTF-8


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with sorted keys whole or not at all.  Raises: StoreError as `beside`."""
    write_text(path, json.dumps(plain(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Make a value fit for JSON: keys become text, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def check_writable(folder: Path, *, make: bool = True) -> None:
    """Make sure that files can be written in a folder, which is made unless only asked about.

    Raises: UsageError if not.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {folder} ({error.strerror}); name another folder") from error


def check_new_file(path: Path) -> None:
    """Make sure that a file can be written, in a folder that may be yet to make.  Raises: UsageError if not."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; expected a file to write, by a name of its own")
    check_writable(path.parent, make=False)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock for the block, or say at once that another process holds it.

    The operating system drops the lock when its process dies, so that a killed run blocks nobody.
    Raises: StoreError if the lock's file cannot be made, or the file system has no locks.
    """
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise StoreError(_reason(path, error)) from error
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Wait for the folder's lock: for short read-change-write steps on shared tables.

    Raises: StoreError if the lock's file cannot be made, or the file system has no locks.
    """
    path = folder / ".lock"
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise StoreError(_reason(path, error)) from error
    try:
        yield
    finally:
        lock.release()


def sweep(folder: Path) -> int:
    """Remove what killed processes of this machine left half-written under a folder.

    Partial files of living processes, and those of other machines on a shared disk, stay.
    Returns: how many files were removed.
    """
    removed = 0
    for part in folder.rglob(f".*{_PART}*"):
        made_by = _MADE_BY.fullmatch(part.name.rpartition(_PART)[2])
        if made_by and made_by["host"] == _machine() and not _alive(int(made_by["pid"])):
            with suppress(OSError):
                part.unlink()
                removed += 1
    return removed


def _machine() -> str:
    """Where a process number means something: the host, and on Linux the container's process namespace."""
    try:
        return f"{socket.gethostname()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot flush a folder
            raise
    finally:
        os.close(handle)


def _reason(path: Path, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"the disk is full: {path} was not written; free space and run the same command again"
    what = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return f"cannot write {path}: {what}; check the folder and its permissions"
