"""Tests of the states of all workers, for `/ready`."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from gateway.workers.states import WorkerStates
from tests.fakes.running import eventually

READY = {"ready": True, "memory": "ready", "journal_backlog": 0}


async def test_a_single_process_reports_what_it_did_before() -> None:
    assert await WorkerStates(lambda: READY, Peers()).report() == READY


async def test_the_owner_reports_all_workers_and_others_themselves() -> None:
    reports: list[dict[str, Any] | None] = [READY, {"ready": False, "memory": "degraded: store"}, None]
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        path = str(Path(folder) / "bus")
        owner = OwnerPeers(4, path, serving=lambda: (), end=lambda _: None)
        peers: list[Peers] = [owner, FollowerPeers(1, 4, path), FollowerPeers(2, 4, path)]
        states = [WorkerStates(partial(reports.__getitem__, number), entry) for number, entry in enumerate(peers)]
        for entry in peers:
            await entry.start()
        await eventually(lambda: len(owner.others) == 2)
        try:
            assert await states[0].report() == {
                **READY,
                "workers": [
                    {"worker": 0, "state": "ready", "memory": "ready"},
                    {"worker": 1, "state": "stopping", "memory": "degraded: store"},
                    {"worker": 2, "state": "starting", "memory": None},
                    {"worker": 3, "state": "silent", "memory": None},
                ],
            }
            own = await states[1].report()
            assert own["workers"] == [{"worker": 1, "state": "stopping", "memory": "degraded: store"}]
            assert (await states[2].report())["ready"] is False
        finally:
            for entry in peers[::-1]:
                await entry.stop()
