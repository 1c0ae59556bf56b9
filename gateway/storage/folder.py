"""The data folder: its lock and its fixed settings.

One process owns a folder; the lock is the operating system's and is released when its process dies, so it never goes
stale. `meta.json` holds the settings fixed at creation: the format, the number of buckets, the first embedder.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, TypeGuard

import orjson

from gateway.storage.move_mark import MoveMark, decode_mark, describe_mark

__all__ = [
    "ARRIVING_FILE",
    "LOCK_FILE",
    "META_FILE",
    "MOVED_FILE",
    "DataFolder",
    "FolderRefused",
    "fsync",
    "is_in_use",
    "list_damaged_files",
    "lock_folder",
    "read_move_mark",
    "remove_damaged_files",
    "require_not_moved",
    "write_meta",
    "write_whole",
]

_FORMAT = 1
LOCK_FILE, META_FILE = "lock", "meta.json"
MOVED_FILE, ARRIVING_FILE = "moved.json", "arriving.json"
"""Names of the mark of a move, in the folder that it was from, and in the one that it is to."""


class FolderRefused(Exception):
    """The data folder cannot be used by this process; the message says why and what to do."""


class DataFolder:
    """The folder of one memory: its lock, and the settings fixed at creation (`meta.json`). `has_plain_ids`: see
    `MemoryMeta`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.buckets = 0
        self.has_plain_ids = True
        self.embedder, self.dimensions = "", 0
        self._lock: int | None = None

    def open(self, buckets: int, embedder: str, dimensions: int, *, is_locked: bool = False) -> None:
        """Create or reopen the folder, and take its lock, unless the supervisor of this process has it. Raises
        FolderRefused."""
        if not is_locked:
            self._lock = lock_folder(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            require_not_moved(self.path)
            self._load_meta(buckets, embedder, dimensions)
        except OSError as error:
            self.close()
            raise _write_error(self.path, error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _load_meta(self, buckets: int, embedder: str, dimensions: int) -> None:
        meta_path = self.path / META_FILE
        if not meta_path.exists():  # earlier versions gave ids that do not begin with digits of the scope
            write_meta(self.path, buckets, embedder, dimensions, has_plain_ids=False)
        try:
            stored: Any = orjson.loads(meta_path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise self._format_error(meta_path) from error
        if not isinstance(stored, dict):
            raise self._format_error(meta_path)
        if stored.get("format") != _FORMAT:
            raise FolderRefused(f"{self.path} has format {stored.get('format')}; this version reads {_FORMAT}")
        name, length, tables = stored.get("embedder"), stored.get("dimensions"), stored.get("buckets")
        if not isinstance(name, str) or not (_is_count(length) and _is_count(tables)):
            raise self._format_error(meta_path)
        self.embedder, self.dimensions, self.buckets = name, length, tables
        self.has_plain_ids = stored.get("has_plain_ids") is not False

    async def note_plain_ids(self) -> None:
        """Does nothing: in a folder, what is not in the bucket of its id is looked for in the others."""

    @staticmethod
    def _format_error(path: Path) -> FolderRefused:
        return FolderRefused(f"{path} is not the description of a data folder: restore it from a back-up of the folder")


def write_meta(path: Path, buckets: int, embedder: str, dimensions: int, *, has_plain_ids: bool) -> None:
    """Write the settings of a new memory, durably. Blocks. Raises OSError."""
    meta = {"format": _FORMAT, "buckets": buckets, "embedder": embedder, "dimensions": dimensions}
    meta["has_plain_ids"] = has_plain_ids
    write_whole(path / META_FILE, orjson.dumps(meta, option=orjson.OPT_INDENT_2))
    fsync(path)


def lock_folder(path: Path) -> int:
    """Create a data folder if it does not exist, and take its lock. Returns the lock's descriptor: the folder is locked
    while it, or a copy that a process inherited, is open. Raises FolderRefused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _write_error(path, error) from error
    try:
        _lock_exclusively(lock)
    except OSError as error:
        os.close(lock)
        raise FolderRefused(
            f"another process uses the data folder {path}: stop it, or set memory.uri to another folder"
        ) from error
    return lock


def read_move_mark(path: Path) -> MoveMark | None:
    """The mark of a move from or to a folder; None without one. Blocks. Raises FolderRefused."""
    for name in (ARRIVING_FILE, MOVED_FILE):
        try:
            return decode_mark((path / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise FolderRefused(f"{path / name}: the mark of a move cannot be read") from error
    return None


def require_not_moved(path: Path) -> None:
    """Raise FolderRefused if the memory of a folder was moved away, or has not arrived completely. Blocks."""
    mark = read_move_mark(path)
    if mark is not None:
        raise FolderRefused(f"{path}: {describe_mark(mark, str(path / MOVED_FILE))}")


def _write_error(path: Path, error: OSError) -> FolderRefused:
    return FolderRefused(
        f"cannot write to the data folder {path}: {error.strerror}; --data, GATEWAY_DATA or memory.uri names another"
    )


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value > 0


def remove_damaged_files(folder: Path) -> None:
    """Delete the files that were moved aside as damaged: they may contain deleted texts."""
    shutil.rmtree(folder / "broken", ignore_errors=True)
    for path in folder.glob("*.broken-*"):
        path.unlink(missing_ok=True)


def list_damaged_files(folder: Path) -> list[str]:
    """The names of the files and folders that were moved aside as damaged. Blocks. Raises OSError."""
    return sorted(
        [path.name for path in folder.glob("*.broken*")] + [f"broken/{p.name}" for p in folder.glob("broken/*")]
    )


def is_in_use(path: Path) -> bool:
    """True if another process holds the lock of a data folder."""
    try:
        handle = os.open(path / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock_exclusively(handle)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


if sys.platform == "win32":
    import msvcrt

    def _lock_exclusively(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_exclusively(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file atomically: after a crash it has the old content or the new one. Raises OSError."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(content)
    fsync(unfinished)
    unfinished.replace(path)


def fsync(path: Path) -> None:
    """fsync a file or folder; a missing path is ignored."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot sync folders
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
