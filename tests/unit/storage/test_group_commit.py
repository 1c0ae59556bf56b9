import asyncio
from collections.abc import Sequence

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.group_commit import GroupCommit


class Log:
    """A log whose commits end when `gate` is set. It has `rows` with the number of each."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.rows: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, batch: Sequence[str]) -> list[int]:
        self.batches.append(list(batch))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.rows += batch
        return [self.rows.index(item) + 1 for item in batch]


async def test_items_share_the_commit_after_the_running_one() -> None:
    log = Log()
    commits = GroupCommit(log.commit)
    log.gate.clear()
    first = commits.add("a")
    await asyncio.sleep(0)
    others = [commits.add("b"), commits.add("c")]
    log.gate.set()
    assert await asyncio.gather(first, *others) == [1, 2, 3]
    assert log.batches == [["a"], ["b", "c"]]


async def test_a_batch_has_a_limited_number_of_rows() -> None:
    log = Log()
    commits = GroupCommit(log.commit, rows_of=len, max_rows=3)
    assert await asyncio.gather(*map(commits.add, ("aa", "bbbb", "c", "d", "e", "f"))) == [1, 2, 3, 4, 5, 6]
    assert log.batches == [["aa", "bbbb"], ["c", "d", "e"], ["f"]]


@pytest.mark.parametrize("error", [StorageError("journal", "the disk is full"), ValueError("of the code")])
async def test_all_items_of_a_batch_get_its_error_and_later_ones_are_committed(error: Exception) -> None:
    log = Log()
    commits = GroupCommit(log.commit)
    log.error = error
    results = await asyncio.gather(commits.add("a"), commits.add("b"), return_exceptions=True)
    assert [*results] == [error, error]
    log.error = None
    assert await commits.add("c") == 1


async def test_an_item_whose_caller_has_gone_is_committed_with_the_others() -> None:
    log = Log()
    commits = GroupCommit(log.commit)
    gone, other = commits.add("a"), commits.add("b")
    gone.cancel()
    assert await other == 2
    assert log.rows == ["a", "b"]


async def test_what_is_pending_is_committed_before_the_end() -> None:
    log = Log()
    commits = GroupCommit(log.commit)
    await commits.close()
    results = [commits.add("a"), commits.add("b")]
    await commits.close()
    assert [result.result() for result in results] == [1, 2]
