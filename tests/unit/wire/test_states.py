import pytest

from gateway.errors import NotFound
from gateway.turn import Principal, Right
from gateway.wire.states import State, States

RIGHTS = frozenset(Right)


def test_a_response_is_its_users() -> None:
    states = States()
    app, ada, bob = Principal("acme", RIGHTS), Principal("acme", RIGHTS, "ada"), Principal("acme", RIGHTS, "bob")
    state = State("acme", "ada", "up", "s")
    states.put("r", state)
    states.put("nobody's", State("acme", None, "up", None))
    assert states.get(ada, "r") is states.get(app, "r") is states.get(app, "r", "ada") is state
    for principal, user in ((bob, None), (bob, "ada"), (app, "bob"), (Principal("other", RIGHTS), "ada")):
        with pytest.raises(NotFound):
            states.get(principal, "r", user)
    with pytest.raises(NotFound):
        states.get(ada, "nobody's")
    assert states.get(app, "nobody's") is not None
    assert states.get(app, "unknown") is states.get(app, ["r"]) is None
