"""Connections to the LanceDB database in a folder, with small caches."""

from pathlib import Path
from typing import Any

__all__ = ["connecting"]

_INDEX_CACHE_BYTES = 64 * 2**20
_METADATA_CACHE_BYTES = 32 * 2**20


def connecting(path: Path) -> Any:
    """Build a function that connects to the database in a folder; call that function in the event loop. Importing
    LanceDB takes two seconds: call this one in a thread."""
    import lancedb  # noqa: PLC0415 — loaded behind the open port

    path.mkdir(parents=True, exist_ok=True)
    session = lancedb.Session(
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )
    return lambda: lancedb.connect_async(str(path), session=session)
