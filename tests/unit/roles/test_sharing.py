"""Tests of what the memories of several workers tell each other, over real sockets and one journal."""

from pathlib import Path
from typing import Any

import pytest

from gateway.roles.sharing import OwnerLink
from gateway.storage.errors import StorageError
from gateway.storage.sqlite.database import Sharing
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.registry import SqliteRegistry
from gateway.workers.peers import FollowerPeers, OwnerPeers
from tests.fakes.made import record
from tests.fakes.running import eventually


class Parts:
    """The files of a memory."""

    def __init__(self, folder: Path, sharing: Sharing) -> None:
        self.journal = Journal(folder / "journal.sqlite", 10**9, lambda: None, sharing=sharing)
        self.registry = SqliteRegistry(folder / "registry.sqlite")


async def test_entries_that_could_not_be_read_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.roles.sharing._CATCH_UP_PAUSE", 0.01)
    parts, path = Parts(tmp_path, Sharing.OWNER), str(tmp_path / "bus")
    other = Journal(tmp_path / "journal.sqlite", 10**9, lambda: None, sharing=Sharing.FOLLOWER)
    await parts.journal.open()
    await other.open()
    owner, follower = OwnerPeers(2, path, serving=lambda: (), end=lambda _: None), FollowerPeers(1, 2, path)
    link = OwnerLink(owner, parts, searchable=_never)
    failures = 2
    catch_up = parts.journal.catch_up

    async def fail_at_first() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StorageError("journal", "database is locked")
        await catch_up()

    monkeypatch.setattr(parts.journal, "catch_up", fail_at_first)
    await other.append([record("My cat is called Miso.")])
    await owner.start()
    await follower.start()  # that it connects is the only occasion
    await eventually(lambda: parts.journal.last_seq == 1)
    await link.stop()
    await follower.stop()
    await owner.stop()
    await other.close()
    await parts.journal.close()


async def _never(*_: Any) -> bool:
    return False
