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
    """Who made a response, where it is held, and the conversation it is part of."""

    principal: Principal
    upstream: str
    session: str | None


class States:
    def __init__(self) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()

    def put(self, response_id: str, state: State) -> None:
        self._states[response_id] = state
        if len(self._states) > _KEPT:
            self._states.popitem(last=False)

    def get(self, principal: Principal, response_id: Any) -> State | None:
        """What is known of a response. Raises NotFound if it is somebody else's."""
        state = self._states.get(response_id) if isinstance(response_id, str) else None
        if state is not None and (state.principal.tenant, state.principal.user) != (principal.tenant, principal.user):
            raise NotFound("there is no such response", param="previous_response_id")
        return state
