"""Candidate search with LanceDB's indexes, for scopes that are too large for RAM."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gateway.storage.lance.conditions import gathered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WordIndexes", "index_keys", "index_words", "near"]

_MAX_NEAREST = 300  # rows by vector, and as many by words
_BACKGROUND_ROWS = 1_000  # rows against which scores are standardised
_INDEX_WAIT = 0.1  # seconds
_TIMEOUT = timedelta(seconds=10)


async def near(table: Any, condition: str, words: Sequence[str], vector: "NDArray[np.float32] | None") -> list[Any]:
    """Rows of a table that are nearest by vector and by words, and a background sample, as Arrow tables of its columns.
    A search by words needs the table's index."""
    names = (await table.schema()).names
    queries = [table.query().where(condition).limit(_BACKGROUND_ROWS)]
    if vector is not None:
        queries.append(table.query().nearest_to(vector).distance_type("cosine").where(condition).limit(_MAX_NEAREST))
    if words:
        queries.append(_query_words(table, words).where(condition).limit(_MAX_NEAREST))
    results = await gathered(query.to_arrow(timeout=_TIMEOUT) for query in queries)
    return [rows.select(names) for rows in results]


def _query_words(table: Any, words: Sequence[str]) -> Any:
    from lancedb.query import MatchQuery  # noqa: PLC0415 — heavy: loaded behind the open port

    query = MatchQuery(" ".join(dict.fromkeys(words)), "fts")  # type: ignore[call-arg]  # the others have defaults
    return table.query().nearest_to_text(query)


class WordIndexes:
    """Builds the full-text index of a table in the background, once, on its first use by the owner of the table."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def is_there(self, name: str, table: Any, *, may_build: bool) -> bool:
        """True if the table's index is ready; waits a moment, which suffices for a small table. Without `may_build`
        it is not built: only the owner of the table writes."""
        if not may_build:
            return await _has_words(table)
        task = self._tasks.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._tasks[name] = asyncio.create_task(index_words(table), name="index-words")
        await asyncio.wait([task], timeout=_INDEX_WAIT)
        return task.done() and not task.cancelled() and task.exception() is None

    async def stop(self) -> None:
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


async def _has_words(table: Any) -> bool:
    return any("fts" in index.columns for index in await table.list_indices())


async def index_words(table: Any) -> None:
    """Build the full-text index. The column holds search terms, normalised and joined by spaces; rows added after the
    index was built are searched too."""
    from lancedb.index import FTS  # noqa: PLC0415

    if await _has_words(table):
        return
    config = FTS(
        base_tokenizer="whitespace",
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
        max_token_length=64,
        with_position=False,
    )
    await table.create_index("fts", config=config)


async def index_keys(table: Any) -> None:
    """Index the scopes and ids of a table that is no longer written to."""
    from lancedb.index import BTree  # noqa: PLC0415

    for column in ("scope", "id"):
        await table.create_index(column, config=BTree())
