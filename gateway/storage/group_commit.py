"""Group commit: what is added while a commit runs is committed together by the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

__all__ = ["GroupCommit"]

_Item = TypeVar("_Item")
_CLOSE_TIMEOUT: Final = 10.0  # seconds


class GroupCommit(Generic[_Item]):
    """Commits items in batches, one batch at a time, in the order in which they were added.

    `commit` writes a batch durably, and returns the result of each item; its error is that of all items. A batch ends
    with the item that brings it to `max_rows` rows, as `rows_of` counts them (None: it has all that is pending).
    """

    def __init__(
        self,
        commit: Callable[[Sequence[_Item]], Awaitable[Sequence[int]]],
        *,
        rows_of: Callable[[_Item], int] = lambda _: 1,
        max_rows: int | None = None,
    ) -> None:
        self._commit = commit
        self._rows_of = rows_of
        self._max_rows = max_rows
        self._pending: deque[tuple[_Item, asyncio.Future[int]]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    def add(self, item: _Item) -> "asyncio.Future[int]":
        """Add an item to the next commit. Returns its result; the item is committed even if that is cancelled."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append((item, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="journal-flush")
        return done

    async def close(self) -> None:
        """Commit what is pending."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=_CLOSE_TIMEOUT)

    async def _flush(self) -> None:
        while self._pending:
            batch = self._take_batch()
            try:
                results = await self._commit([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001 — those who added the items get it
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            for (_, done), result in zip(batch, results, strict=True):
                if not done.done():
                    done.set_result(result)

    def _take_batch(self) -> list[tuple[_Item, "asyncio.Future[int]"]]:
        batch, rows = [], 0
        while self._pending and (self._max_rows is None or rows < self._max_rows):
            item, done = self._pending.popleft()
            batch.append((item, done))
            rows += self._rows_of(item)
        return batch
