from itertools import product

import pytest

from gateway.pipeline.response_state import ResponseEvent, ResponseState, next_state
from gateway.turn import Outcome

FIRST = {
    ResponseEvent.END: ResponseState.COMPLETE,
    ResponseEvent.FAILURE: ResponseState.CUT,
    ResponseEvent.REFUSAL: ResponseState.REFUSED,
    ResponseEvent.CLOSE: ResponseState.CLIENT_GONE,
}
TABLE = [
    (state, event, FIRST[event] if state is ResponseState.STREAMING else state)
    for state, event in product(ResponseState, ResponseEvent)
]


@pytest.mark.parametrize(("state", "event", "expected"), TABLE)
def test_only_the_first_event_changes_the_state(
    state: ResponseState, event: ResponseEvent, expected: ResponseState
) -> None:
    assert next_state(state, event) is expected


def test_each_final_state_is_an_outcome_of_the_turn() -> None:
    outcomes = {state.outcome for state in ResponseState if state is not ResponseState.STREAMING}
    assert outcomes == set(Outcome)
    assert f"{ResponseState.CLIENT_GONE}" == "client_gone"
