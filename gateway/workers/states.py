"""The states of all workers, for `/ready`."""

from collections.abc import Callable
from typing import Any, Final

from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["WorkerStates"]

_TIMEOUT: Final = 1.0  # seconds


class WorkerStates:
    """Adds the states of all workers to the report of one. `report`: of this process; None while it starts. Construct
    it before the peers start."""

    def __init__(self, report: Callable[[], dict[str, Any] | None], peers: Peers) -> None:
        self._report = report
        self._peers = peers
        peers.on(message_kinds.STATE, lambda _: self._state())

    async def report(self) -> dict[str, Any]:
        """The report of this process; in the owner of the store with `workers`, one that does not reply as `silent`."""
        own = self._report() or {"ready": False}
        if not self._peers.is_shared:
            return own
        states = {self._peers.number: self._state()}
        if self._peers.is_owner:
            states |= await self._peers.ask_all(message_kinds.STATE, None, _TIMEOUT)
            silent = {"state": "silent", "memory": None}
            states = {number: states.get(number, silent) for number in range(self._peers.count)}
        return {**own, "workers": [{"worker": number, **state} for number, state in states.items()]}

    def _state(self) -> dict[str, Any]:
        report = self._report()
        if report is None:
            return {"state": "starting", "memory": None}
        return {"state": "ready" if report["ready"] else "stopping", "memory": report["memory"]}
