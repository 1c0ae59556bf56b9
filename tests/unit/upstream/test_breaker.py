from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.breaker import Breaker


def failed(times: int, at: float = 0.0) -> Breaker:
    made = Breaker()
    for _ in range(times):
        made.failed(at)
    return made


def test_five_failures_in_a_row_open_it() -> None:
    assert failed(4).allows(0)
    assert not failed(5).allows(0)


def test_a_success_between_begins_the_count_anew() -> None:
    made = failed(4)
    made.succeeded()
    for _ in range(4):
        made.failed(0)
    assert made.allows(0)


def test_half_of_the_last_twenty_open_it() -> None:
    made = Breaker()
    for number in range(20):
        made.failed(0) if number % 2 else made.succeeded()
    assert made.is_open


def test_after_a_rest_one_probe_is_let_through_and_decides() -> None:
    made = failed(5)
    assert not made.allows(9.9)
    assert made.allows(10)
    assert made.allows(10), "looking is not asking"
    made.asked(10)
    assert not made.allows(10), "one probe at a time"
    made.failed(11)
    assert not made.allows(20.9)
    assert made.allows(21)
    made.succeeded()
    assert not made.is_open
    assert all(made.allows(22) for _ in range(3))


def test_a_probe_that_is_never_heard_of_again_does_not_close_the_door_for_good() -> None:
    made = failed(5)
    made.asked(10)
    assert not made.allows(39)
    assert made.allows(40)


@given(st.lists(st.tuples(st.sampled_from(["ok", "bad", "ask"]), st.floats(0, 30))))
def test_it_is_never_shut_for_longer_than_a_rest_and_a_probe(steps: list[tuple[str, float]]) -> None:
    made, now = Breaker(), 0.0
    for kind, passed in steps:
        now += passed
        if kind == "ok":
            made.succeeded()
        elif kind == "bad":
            made.failed(now)
        else:
            made.asked(now)
    assert made.allows(now + 41)


def test_a_probe_that_was_never_sent_leaves_the_door_ajar() -> None:
    made = failed(5)
    made.asked(10)
    made.not_asked()
    assert made.allows(10)
