"""The turns of all workers in the log of one: the owner of the store lists them, and the others send it theirs."""

from gateway.formats.base import Answer
from gateway.pipeline.turn_end import TurnEnd
from gateway.pipeline.turn_log import TurnLog
from gateway.turn import Turn
from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["ForwardingTurnLog", "collect_turns"]


class ForwardingTurnLog(TurnLog):
    """The log of a worker that does not own the store: entries go to the owner at once, and none is kept here."""

    def __init__(self, log: TurnLog, peers: Peers) -> None:
        super().__init__(log.limit, log.feed, with_content=log.with_content)
        self._peers = peers

    def add(self, turn: Turn, answer: Answer, end: TurnEnd) -> None:
        """Send a turn that has ended. It is lost while the owner is away, whose own log is lost then."""
        if self.is_on:
            self._peers.send(0, message_kinds.TURN, self.entry_of(turn, answer, end))


def collect_turns(log: TurnLog, peers: Peers) -> TurnLog:
    """The log that a worker adds its turns to; that of the owner also gets those of the others. Call it before the
    peers start."""
    if not peers.is_owner:
        return ForwardingTurnLog(log, peers)
    if peers.is_shared:
        peers.on(message_kinds.TURN, log.append)
    return log
