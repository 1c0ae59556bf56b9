import pytest

from gateway.errors import Forbidden
from gateway.server import sign_in
from gateway.server.sign_in import CONSOLE_HEADER, SignIns, check_console_request
from gateway.turn import Principal, Right

ADA = Principal("acme", frozenset((Right.MEMORY,)), "ada", "ada's key")


class Clock:
    """A clock to be set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sign_in, "time", clock)
    return clock


def test_a_token_stands_for_its_principal_until_it_ends() -> None:
    sessions = SignIns(hours=1)
    token = sessions.start(ADA)
    assert sessions.principal(token) is ADA
    sessions.end(token)
    assert sessions.principal(token) is None
    sessions.end(token)


def test_tokens_differ_and_are_long() -> None:
    sessions = SignIns(hours=1)
    tokens = {sessions.start(ADA) for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43


@pytest.mark.parametrize("token", ["", "x", "\udcff", "a" * 10_000])
def test_other_tokens_are_unknown(token: str) -> None:
    sessions = SignIns(hours=1)
    sessions.start(ADA)
    assert sessions.principal(token) is None


def test_a_session_ends_after_its_hours(clock: Clock) -> None:
    sessions = SignIns(hours=2)
    token = sessions.start(ADA)
    clock.now += 2 * 3600 - 1
    assert sessions.principal(token) is ADA
    clock.now += 1
    assert sessions.principal(token) is None


def test_the_oldest_session_ends_when_there_are_too_many() -> None:
    sessions = SignIns(hours=1)
    first, second = sessions.start(ADA), sessions.start(ADA)
    for number in range(999):
        sessions.start(Principal("acme", frozenset((Right.MEMORY,)), "ada", f"key-{number}"))
    assert sessions.principal(first) is None
    assert sessions.principal(second) is ADA


def test_a_key_that_signs_in_often_ends_only_its_own_sessions() -> None:
    sessions = SignIns(hours=1)
    bob = Principal("acme", frozenset((Right.MEMORY,)), "bob", "bob's key")
    of_bob = sessions.start(bob)
    of_ada = [sessions.start(ADA) for _ in range(1100)]
    assert sessions.principal(of_bob) is bob
    assert [sessions.principal(token) is ADA for token in of_ada] == [False] * 1050 + [True] * 50


HOST = "gateway.example:8080"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"origin": f"http://{HOST}"},
        {"origin": f"https://{HOST}"},
        # behind a proxy that changes the header `Host`
        {"origin": "https://console.example", "sec-fetch-site": "same-origin"},
    ],
)
def test_requests_of_the_consoles_own_pages_pass(headers: dict[str, str]) -> None:
    check_console_request({CONSOLE_HEADER: "1", **headers}, HOST)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": f"http://{HOST}"},
        {"origin": "http://elsewhere.example"},
        {"origin": "http://gateway.example"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
def test_requests_of_other_pages_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="its own pages only"):
        check_console_request({CONSOLE_HEADER: "1", **headers}, HOST)


def test_requests_without_the_consoles_header_are_refused() -> None:
    with pytest.raises(Forbidden):
        check_console_request({"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}, HOST)
