"""Parts of a gateway that fail as a test says."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row

__all__ = ["refuse_texts_with"]


def refuse_texts_with(word: str, patch: pytest.MonkeyPatch) -> None:
    """Let the store refuse batches in which a text has this word."""
    for name in ("add", "put"):
        patch.setattr(MemoryStore, name, _refusing(word, getattr(MemoryStore, name)))


def _refusing(word: str, write: Any) -> Any:
    async def refuse(self: MemoryStore, rows: Sequence[Row]) -> Any:
        if any(word in row.record.text for row in rows):
            raise StorageError("store", "cannot digest this")
        return await write(self, rows)

    return refuse
