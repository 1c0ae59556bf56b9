"""A small document in a file of the data folder: the local implementation of `SmallFile`."""

from pathlib import Path

from gateway.storage.folder import write_whole

__all__ = ["LocalFile"]


class LocalFile:
    """A file that is replaced as a whole: after a crash it has the old content or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        return str(self._path)

    def read(self) -> bytes:
        """Blocks: call it in a thread. Raises OSError, and FileNotFoundError if it was never written."""
        return self._path.read_bytes()

    def write(self, content: bytes) -> None:
        """Replace the file, durably. Blocks: call it in a thread. Raises OSError."""
        write_whole(self._path, content)
