"""Where upstreams hold responses: which one, and in which conversation. In RAM; what is not known here is asked for at
the first upstream.

An id is another tenant's or another user's: then it is one that does not exist.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from gateway.errors import NotFound
from gateway.turn import Principal

__all__ = ["State", "States"]

_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class State:
    """Whose a response is (`user` None: nobody's in particular), where it is held, and in which conversation."""

    tenant: str
    user: str | None
    upstream: str
    session: str | None


class States:
    def __init__(self) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()

    def put(self, response_id: str, state: State) -> None:
        self._states[response_id] = state
        if len(self._states) > _KEPT:
            self._states.popitem(last=False)

    def get(self, principal: Principal, response_id: Any, user: str | None = None) -> State | None:
        """What is known of a response. `user`: who asks, as a key that is trusted to name users says; where it names
        none, it sees those of all. Raises NotFound if it is somebody else's."""
        state = self._states.get(response_id) if isinstance(response_id, str) else None
        if state is None:
            return None
        asks = principal.user or user
        if state.tenant != principal.tenant or (asks is not None and state.user != asks):
            raise NotFound("there is no such response", param="previous_response_id")
        return state
