"""The catalog of a data folder: a small JSON file that is replaced atomically."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from gateway.storage.errors import StorageError
from gateway.storage.folder import fsync, write_whole
from gateway.storage.lance.catalog import Entries, TableEntry, decode, encode, number_of
from gateway.storage.rows import RowFormat

__all__ = ["FileCatalog"]

_log = logging.getLogger("gateway.store")


class FileCatalog:
    """The catalog file; see `Catalog`. Call `read` before use: it blocks on the file, as `put` and `put_all` do.
    `is_owner` false: another process has the lock of the folder, and writes the file."""

    def __init__(self, path: Path, *, is_owner: bool = True) -> None:
        self._path = path
        self._is_owner = is_owner
        self._signature = (0, 0, 0)
        self._buckets: dict[int, Entries] = {}

    def read(self, names: Sequence[str], first: RowFormat) -> bool:
        """Read the file. Without one: adopt the unnumbered tables among `names`, one per bucket, in the format `first`.
        Returns False if numbered tables exist without a readable file: a crash came before it was written, or it was
        lost, and the caller rebuilds it from the tables. Raises OSError."""
        if self._path.exists():
            try:
                self._buckets = _parse(self._path.read_bytes())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                _log.error("catalog_damaged", extra={"cause": type(error).__name__})
                self._path.replace(self._path.with_suffix(".broken"))
            else:
                return True
        for name in names:
            head, _, number = name.rpartition("_")
            if head == "memories" and number.isdigit():
                self._buckets[int(number)] = (TableEntry(name, first),)
        return not any(number_of(name) for name in names)

    def tables(self, bucket: int) -> Entries:
        return self._buckets.get(bucket, ())

    @property
    def names(self) -> set[str]:
        return {entry.name for entries in self._buckets.values() for entry in entries}

    def owns(self, bucket: int) -> bool:
        """True for the process with the lock of the folder."""
        return self._is_owner

    def epoch(self, bucket: int) -> int:
        """Always the same: the lock is held until the process ends."""
        return int(self._is_owner)

    async def refresh(self, bucket: int | None = None) -> None:
        """Read the file again if another process has replaced it."""
        if not self._is_owner:
            await asyncio.to_thread(self._read_again)

    def _read_again(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:  # nothing was written yet
            return
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if signature != self._signature:
            self._buckets, self._signature = _parse(self._path.read_bytes()), signature

    async def switch(self, buckets: Mapping[int, Entries]) -> None:
        if not self._is_owner:
            raise StorageError("store", "another process owns the folder")
        await asyncio.to_thread(self.put_all, buckets)

    def put(self, bucket: int, entries: Sequence[TableEntry]) -> None:
        """Replace the list of tables of a bucket; durable. Raises OSError."""
        self.put_all({bucket: entries})

    def put_all(self, buckets: Mapping[int, Sequence[TableEntry]]) -> None:
        """Replace the lists of tables of several buckets, all or none; durable. Raises OSError."""
        changed = self._buckets | {bucket: tuple(entries) for bucket, entries in buckets.items()}
        body = {str(number): [encode(entry) for entry in entries] for number, entries in sorted(changed.items())}
        write_whole(self._path, orjson.dumps({"buckets": body}, option=orjson.OPT_INDENT_2))
        fsync(self._path.parent)
        self._buckets = changed


def _parse(content: bytes) -> dict[int, Entries]:
    """Parse the file. Raises ValueError, KeyError, TypeError or AttributeError."""
    buckets = orjson.loads(content)["buckets"]
    return {int(bucket): tuple(decode(entry) for entry in entries) for bucket, entries in buckets.items()}
