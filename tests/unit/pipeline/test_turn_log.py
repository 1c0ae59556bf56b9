from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.errors import StreamCut, UpstreamUnreachable
from gateway.memory.recalled import MemoryStatus, Recalled
from gateway.pipeline.turn_end import TurnEnd
from gateway.pipeline.turn_feed import TurnFeed
from gateway.pipeline.turn_log import TurnFilter, TurnLog, serialize_page, serialize_turn
from gateway.turn import Answer, Outcome, Principal, Turn
from tests.fakes.made import turn

END = TurnEnd(status=200, ended=0.1234, upstream="up", model="m-2", overhead=0.002, first_byte=0.05)
ANSWER = Answer("Hello.", prompt_tokens=7, completion_tokens=5, cost=0.25)


def new_log(limit: int = 100, *, with_content: bool = True) -> TurnLog:
    return TurnLog(limit, TurnFeed(serialize_turn, 1), with_content=with_content)


def of(user: str, query: str = "hello", **fields: Any) -> Turn:
    made = turn(query, **fields)
    assert made.identity is not None
    return replace(made, user=user, identity=replace(made.identity, user_id=user))


def page(log: TurnLog, limit: int = 100, before: int | None = None, after: int = 0, **conditions: Any) -> Any:
    return orjson.loads(
        serialize_page(log.entries(), TurnFilter(**conditions), limit=limit, before=before, after=after)
    )


def users(log: TurnLog, **options: Any) -> list[str]:
    return [entry["user"] for entry in page(log, **options)["data"]]


def test_a_turn_is_listed_with_what_is_known_of_it() -> None:
    log = new_log()
    log.add(turn(principal=Principal("acme", frozenset(), name="app"), started=0.0), ANSWER, END)
    (entry,) = page(log)["data"]
    assert entry.pop("seq") == log.latest
    assert entry == {
        "id": "t" * 32,
        "at": "2027-01-15T08:00:00.000000+00:00",
        "tenant": "acme",
        "user": "ada",
        "session": "s",
        "key": "app",
        "path": "/v1/chat/completions",
        "model": "m",
        "upstream": "up",
        "upstream_model": "m-2",
        "status": 200,
        "outcome": "complete",
        "memory": "off",
        "reason": "",
        "memories": 0,
        "block_tokens": 0,
        "standing_tokens": 0,
        "prompt_tokens": 7,
        "cached_tokens": None,
        "completion_tokens": 5,
        "is_estimated": False,
        "ms": 123.4,
        "overhead_ms": 2.0,
        "first_byte_ms": 50.0,
        "cost": 0.25,
        "error": None,
        "is_stream": False,
        "query": "hello",
    }


def test_without_content_there_are_no_words() -> None:
    log = new_log(with_content=False)
    log.add(turn("my secret"), ANSWER, END)
    assert b"secret" not in serialize_page(log.entries(), TurnFilter(), limit=1, before=None, after=0)
    assert "query" not in page(log)["data"][0]
    assert page(log, text="secret")["data"] == []


def test_only_the_latest_turns_and_the_beginnings_of_long_texts_are_kept() -> None:
    log = new_log(limit=2)
    for user in ("ada", "bob", "eve"):
        made = of(user, "x" * 5000, client_path="/p" * 500)
        log.add(replace(made, ask=replace(made.ask, model="m" * 5000)), ANSWER, replace(END, model="n" * 5000))
    assert users(log) == ["eve", "bob"]
    (entry, _) = page(log)["data"]
    assert [len(entry[name]) for name in ("query", "path", "model", "upstream_model")] == [300, 200, 200, 200]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (UpstreamUnreachable("no word of this"), "upstream_error"),
        (StreamCut("no word of this"), "upstream_error/stream_interrupted"),
        (RuntimeError("no word of this"), "internal_error"),
    ],
)
def test_an_error_is_named_without_its_message(error: Exception, name: str) -> None:
    log = new_log()
    log.add(turn(), Answer(None, outcome=Outcome.CUT), replace(END, error=error))
    assert (page(log)["data"][0]["error"], page(log)["data"][0]["outcome"]) == (name, "cut")


def test_pages_follow_each_other_without_gap_or_repetition() -> None:
    log = new_log()
    for number in range(7):
        log.add(of(f"u{number}"), ANSWER, END)
    first = page(log, limit=3)
    second = page(log, limit=3, before=first["data"][-1]["seq"])
    third = page(log, limit=3, before=second["data"][-1]["seq"])
    assert [entry["user"] for each in (first, second, third) for entry in each["data"]] == [
        f"u{number}" for number in reversed(range(7))
    ]
    assert [each["has_more"] for each in (first, second, third)] == [True, True, False]
    assert users(log, after=first["data"][1]["seq"]) == ["u6"]
    assert users(log, before=0) == []
    assert first["latest"] == log.latest


def test_counts_tell_what_each_filter_would_leave() -> None:
    log = new_log()
    for user, model in (("ada", "a"), ("ada", "b"), ("bob", "b")):
        made = of(user)
        log.add(replace(made, ask=replace(made.ask, model=model)), ANSWER, END)
    assert page(log)["counts"] == {
        "user": {"ada": 2, "bob": 1},
        "model": {"b": 2, "a": 1},
        "memory": {"off": 3},
        "upstream": {"up": 3},
    }
    counts = page(log, model="b")["counts"]
    assert (counts["user"], counts["model"]) == ({"ada": 1, "bob": 1}, {"b": 2, "a": 1})
    assert page(log, model="b", user="bob")["counts"]["model"] == {"b": 1}
    assert users(log, model="b", user="ada") == ["ada"]


def test_at_most_fifty_values_are_counted() -> None:
    log = new_log()
    for number in range(60):
        log.add(of(f"u{number}"), ANSWER, END)
    assert len(page(log)["counts"]["user"]) == 50


def test_a_filter_finds_by_status_and_by_text_in_any_case() -> None:
    log = new_log()
    hit = Recalled(MemoryStatus.MISS, reason="not_needed")
    log.add(of("ada", "Where is my BOAT?", recalled=hit), ANSWER, END)
    log.add(of("bob"), ANSWER, END)
    assert users(log, memory="miss") == ["ada"]
    assert users(log, text="boat") == ["ada"]
    assert users(log, text="tttt") == ["bob", "ada"]


def test_what_a_caller_may_not_see_is_neither_listed_nor_counted() -> None:
    log = new_log()
    for tenant, user in (("a", "ada"), ("a", "bob"), ("b", "ada")):
        log.add(of(user, principal=Principal(tenant, frozenset())), ANSWER, END)
    assert users(log, tenant="a") == ["bob", "ada"]
    assert page(log, tenant="a", owner="ada")["counts"]["user"] == {"ada": 1}
    assert page(log, tenant="b", owner="bob") == page(log, tenant="c") | {"data": []}


@pytest.mark.parametrize(
    ("forgotten", "left"),
    [
        (("a", "ada", None), ["eve", "ada", "bob"]),
        ((None, "ada", None), ["eve", "bob"]),
        (("a", None, None), ["ada"]),
        ((None, None, None), []),
        (("a", "ada", "elsewhere"), ["eve", "ada", "bob", "ada"]),
        (("a", "ada", "s"), ["eve", "ada", "bob"]),
    ],
)
def test_what_is_forgotten_is_gone(forgotten: tuple[str | None, str | None, str | None], left: list[str]) -> None:
    log = new_log()
    for tenant, user in (("a", "ada"), ("a", "bob"), ("b", "ada"), ("a", "eve")):
        log.add(of(user, principal=Principal(tenant, frozenset())), ANSWER, END)
    log.forget(*forgotten)
    assert users(log) == left


def test_a_limit_of_none_records_nothing() -> None:
    log = new_log(limit=0)
    log.add(turn(), ANSWER, END)
    assert (log.is_on, log.entries()) == (False, [])


def test_numbers_increase_over_restarts() -> None:
    assert 1_700_000_000_000 < new_log().latest < 2**53
