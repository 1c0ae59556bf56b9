"""The states of an answer on its way to the client. Pure."""

from enum import Enum, StrEnum
from typing import Final

from gateway.formats.base import Outcome

__all__ = ["ResponseEvent", "ResponseState", "next_state"]


class ResponseState(StrEnum):
    """The state of an answer. It begins in STREAMING; all other states are final.

    COMPLETE: its end was seen, although its last bytes may still be on their way. CUT: it broke off. REFUSED: it is the
    upstream's error. CLIENT_GONE: the client disconnected before the end.
    """

    STREAMING = "streaming"
    COMPLETE = "complete"
    CUT = "cut"
    REFUSED = "refused"
    CLIENT_GONE = "client_gone"

    @property
    def outcome(self) -> Outcome:
        """The outcome of the turn, in a final state."""
        return _OUTCOMES[self]


_OUTCOMES: Final = {ResponseState(outcome.value): outcome for outcome in Outcome}


class ResponseEvent(Enum):
    """An event that may change the state of an answer."""

    END = "end"
    FAILURE = "failure"
    REFUSAL = "refusal"
    CLOSE = "close"


_FINAL_STATES: Final = {
    ResponseEvent.END: ResponseState.COMPLETE,
    ResponseEvent.FAILURE: ResponseState.CUT,
    ResponseEvent.REFUSAL: ResponseState.REFUSED,
    ResponseEvent.CLOSE: ResponseState.CLIENT_GONE,
}


def next_state(state: ResponseState, event: ResponseEvent) -> ResponseState:
    """The state after an event. Only the first event counts: a failure after the end does not undo the end."""
    return _FINAL_STATES[event] if state is ResponseState.STREAMING else state
