"""Logs of records for tests that run on both engines. The fixture `logs` chooses the engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.storage.protocols import RecordLog
from gateway.storage.sqlite.database import Sharing
from gateway.storage.sqlite.journal import Journal

__all__ = ["Logs", "SqliteLogs"]


class Logs(Protocol):
    """Opens the same log again and again; the caller closes it."""

    async def open(self, max_bytes: int = 10**9, on_append: Callable[[], None] = lambda: None) -> RecordLog: ...


class SqliteLogs:
    """A file in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self, max_bytes: int = 10**9, on_append: Callable[[], None] = lambda: None) -> RecordLog:
        journal = Journal(self._folder / "journal.sqlite", max_bytes, on_append, sharing=Sharing.OWNER)
        await journal.open()
        return journal
