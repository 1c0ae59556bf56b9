"""The folder of the Unix sockets between workers: only their user can enter it, and its path is short enough for them.

The folder is locked as long as a process of the gateway lives; those that killed gateways left are removed.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["SocketFolder"]

_PREFIX: Final = "gateway-workers-"
_MAX_LENGTH: Final = 80  # characters; the path of a socket has at most 103
_MIN_AGE: Final = 60.0  # seconds; a younger folder may not be locked yet


class SocketFolder:
    """A new folder. `lock` is a descriptor: the folder is in use while it, or a copy that a process inherited, is open.
    Raises OSError if there is no place for it."""

    def __init__(self, places: tuple[Path, ...] | None = None) -> None:
        error: OSError = OSError("the paths of all folders for it are too long")
        for place in _places() if places is None else places:
            if len(str(place)) > _MAX_LENGTH:
                continue
            try:
                _remove_stale(place)
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))  # with mode 0700
                self.lock = os.open(self.path, os.O_RDONLY)
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as failure:
                error = failure
                continue
            return
        raise error

    def remove(self) -> None:
        """Remove the folder, when all processes that use it have ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _places() -> Iterator[Path]:
    """Where such folders may be, in order of preference."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime)
    yield Path(tempfile.gettempdir())
    yield Path("/tmp")  # noqa: S108 — `mkdtemp` makes a folder of an unknown name there


def _remove_stale(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        try:
            state = folder.lstat()
            if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
                continue
            if time.time() - state.st_mtime < _MIN_AGE or _is_locked(folder):
                continue
        except OSError:
            continue
        for name in ("bus", "owner"):
            (folder / name).unlink(missing_ok=True)
        try:
            folder.rmdir()  # a folder with other files is none of ours
        except OSError:
            continue


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
