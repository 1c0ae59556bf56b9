"""The response to a turn, without a socket: a trace of chunks goes in, bytes and a state come out."""

import asyncio
import gzip
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.errors import GatewayError, StreamCut, UpstreamFailed
from gateway.hooks import DROP, Event, Plugin, Reply
from gateway.pipeline.background import BackgroundTasks
from gateway.pipeline.recorder import AnswerOrigin, AnswerSource, TurnRecorder
from gateway.pipeline.response import ReplyBody, TurnResponse
from gateway.pipeline.response_state import ResponseState
from gateway.pipeline.turn_feed import TurnFeed
from gateway.pipeline.turn_log import TurnLog, serialize_turn
from gateway.plugin_host import LoadedPlugin, PluginHost
from gateway.remember.remember import Remember
from gateway.telemetry import Telemetry
from gateway.turn import Answer, Outcome, Turn
from gateway.usage.meter import Meter
from gateway.usage.prices import Prices
from tests.fakes.made import turn
from tests.fakes.upstream import DONE, chunk

STREAM = chunk({"content": "Hel"}) + chunk({"content": "lo"}) + chunk({}, "stop") + DONE
PLAIN = b'{"id":"c-1","choices":[{"index":0,"message":{"content":"Hello"},"finish_reason":"stop"}]}'
MODEL = AnswerSource(AnswerOrigin.MODEL, "up", "m", 1)
CUT = b'"code":"stream_interrupted"'


class Body:
    """An upstream's answer: chunks, and exceptions to raise in between."""

    def __init__(
        self, *script: bytes | Exception, status: int = 200, kind: str = "text/event-stream", encoding: str = ""
    ) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {
            "content-type": kind,
            **({"content-encoding": encoding} if encoding else {}),
        }
        self.is_closed = False
        self._script = script

    async def chunks(self) -> AsyncGenerator[bytes]:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            yield step

    def close(self) -> None:
        self.is_closed = True


class FakeRemember(Remember):
    """Notes the texts to remember in a log."""

    def __init__(self, log: list[Any], is_stored: bool) -> None:
        self._log = log
        self._is_stored = is_stored

    async def remember(self, turn: Turn, answer: Answer) -> bool:
        await asyncio.sleep(0)
        self._log.append(("remember", answer.outcome, answer.text))
        return self._is_stored


class Observer(Plugin):
    """Sees whole streams, and the end of turns."""

    reads_stream = rewrites_stream = True
    body_bytes = 10_000

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        self.config.append(("response", answer))

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        self.config.append(("error", error))


class Dropper(Observer):
    """Drops every event with `lo`."""

    def on_stream_event(self, turn: Turn, event: Event) -> object:
        return DROP if b"lo" in event.data else None


class Failing(Observer):
    """Fails at the end of the stream."""

    def on_stream_event(self, turn: Turn, event: Event) -> object:
        if event.data == b"[DONE]":
            raise RuntimeError("no")
        return None


@dataclass
class Trace:
    """What the client gets, and what happens beside it, in order."""

    sent: list[bytes] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)
    error: GatewayError | None = None
    state: ResponseState = ResponseState.STREAMING
    answer: Answer | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.sent)

    @property
    def remembered(self) -> list[Any]:
        return [entry[1:] for entry in self.log if entry[0] == "remember"]

    @property
    def responses(self) -> list[Answer]:
        return [entry[1] for entry in self.log if entry[0] == "response"]


async def play(
    incoming: Any,
    *,
    source: AnswerSource = MODEL,
    plugin: type[Plugin] | None = None,
    secrets: Sequence[bytes] = (),
    leave_after: int = -1,
    is_stored: bool = True,
) -> Trace:
    """Run a response to its end, or until the client leaves after some chunks."""
    trace, telemetry, tasks = Trace(), Telemetry(), BackgroundTasks()
    hooks = frozenset(("on_response", "on_error", "on_stream_event"))
    loaded = [] if plugin is None else [LoadedPlugin("p", plugin(trace.log), True, 5, hooks)]
    recorder = TurnRecorder(
        remember=FakeRemember(trace.log, is_stored),
        meter=Meter(None, telemetry, len, Prices({}, [])),
        plugins=PluginHost(loaded, telemetry),
        telemetry=telemetry,
        tasks=tasks,
        turns=TurnLog(10, TurnFeed(serialize_turn, 1), with_content=True),
    )
    response = TurnResponse(turn(), incoming, source, recorder, secrets=secrets)
    response.on_id = trace.ids.append
    response.on_answer = lambda text: trace.log.append(("answer", text))
    try:
        if response.is_stream:
            async for piece in response.chunks():
                trace.log.append(("chunk", piece))
                trace.sent.append(piece)
                if len(trace.sent) == leave_after:
                    break
        elif leave_after != 0:
            trace.sent.append(await response.read())
    except GatewayError as error:
        trace.error = error
    response.close()
    response.close()
    trace.state, trace.answer, trace.headers = response.state, response.answer, response.headers
    await tasks.stop(5)
    return trace


def run(*script: bytes | Exception, **options: Any) -> Trace:
    return asyncio.run(play(Body(*script), **options))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_a_stream_passes_unchanged_however_it_is_split(size: int) -> None:
    trace = run(*(STREAM[begin : begin + size] for begin in range(0, len(STREAM), size)))
    assert (trace.body, trace.state, trace.error) == (STREAM, ResponseState.COMPLETE, None)
    assert trace.remembered == [(Outcome.COMPLETE, "Hello")]
    assert len(trace.ids) == 1


def test_a_turn_is_remembered_before_the_end_is_handed_out() -> None:
    trace = run(STREAM[:-20], STREAM[-20:])
    kinds = [entry[0] for entry in trace.log]
    assert kinds == ["chunk", "answer", "remember", "chunk"]


@pytest.mark.parametrize("cut", [1, 30, len(STREAM) - len(DONE) - 60])
@pytest.mark.parametrize("failure", [None, StreamCut("broken"), ValueError("damaged")])
def test_a_stream_that_breaks_off_ends_with_an_error_event(cut: int, failure: Exception | None) -> None:
    trace = run(STREAM[:cut], *([] if failure is None else [failure]))
    assert (trace.state, type(trace.error)) == (ResponseState.CUT, StreamCut)
    assert trace.body.startswith(STREAM[:cut])
    assert CUT in trace.sent[-1]
    assert trace.sent[-1].startswith(b"\n\n") is not STREAM[:cut].endswith(b"\n\n")
    assert trace.remembered[0][0] is Outcome.CUT


def test_a_stream_with_a_finish_reason_is_complete_without_an_end_marker() -> None:
    body = STREAM.removesuffix(DONE)
    trace = run(body)
    assert (trace.body, trace.state) == (body, ResponseState.COMPLETE)


def test_a_failure_after_the_end_does_not_undo_it() -> None:
    trace = run(STREAM, StreamCut("late"))
    assert (trace.body, trace.state, trace.error) == (STREAM, ResponseState.COMPLETE, None)
    assert trace.remembered == [(Outcome.COMPLETE, "Hello")]


def test_an_empty_stream_is_cut() -> None:
    trace = run()
    assert (trace.state, CUT in trace.body) == (ResponseState.CUT, True)
    assert "empty" in str(trace.error)


def test_an_error_event_of_the_upstream_gets_no_second_one() -> None:
    body = b'data: {"error":{"message":"no"}}\n\n'
    trace = run(body)
    assert (trace.body, trace.state) == (body, ResponseState.CUT)


def test_a_client_that_leaves_is_remembered_without_the_partial_answer() -> None:
    incoming = Body(STREAM[:200], STREAM[200:])
    trace = asyncio.run(play(incoming, leave_after=1, plugin=Observer))
    assert incoming.is_closed
    assert trace.state is ResponseState.CLIENT_GONE
    assert trace.remembered == [(Outcome.CLIENT_GONE, None)]
    (answer,) = trace.responses
    assert (answer.outcome, answer.text) == (Outcome.CLIENT_GONE, "Hel")


def test_a_client_that_leaves_after_the_end_has_the_whole_answer() -> None:
    trace = run(STREAM, b": later\n\n", leave_after=1, plugin=Observer)
    assert trace.state is ResponseState.COMPLETE
    assert trace.remembered == [(Outcome.COMPLETE, "Hello")]
    assert [answer.body for answer in trace.responses] == [STREAM]


def test_a_plugin_changes_what_is_sent_but_not_what_is_remembered() -> None:
    trace = run(STREAM, plugin=Dropper)
    assert trace.body == chunk({"content": "Hel"}) + chunk({}, "stop") + DONE
    assert trace.remembered == [(Outcome.COMPLETE, "Hello")]
    assert [answer.body for answer in trace.responses] == [trace.body]


def test_a_plugin_that_nothing_passes_without_cuts_the_stream() -> None:
    trace = run(STREAM[:-20], STREAM[-20:], plugin=Failing)
    assert trace.state is ResponseState.CUT
    assert trace.remembered == [(Outcome.CUT, "Hello")]
    assert [entry[1] for entry in trace.log if entry[0] == "error"] == [trace.error]


def test_keys_are_removed_however_the_stream_is_split() -> None:
    body = chunk({"content": "the key is sk-1"}) + DONE
    for size in (1, 4, 10_000):
        trace = run(*(body[begin : begin + size] for begin in range(0, len(body), size)), secrets=[b"sk-1"])
        assert trace.body == body.replace(b"sk-1", b"[key]")
        assert trace.remembered == [(Outcome.COMPLETE, "the key is [key]")]


def test_a_compressed_stream_is_forwarded_as_it_is() -> None:
    body = gzip.compress(STREAM)
    trace = asyncio.run(play(Body(body[:9], body[9:], encoding="gzip")))
    assert (trace.body, trace.state) == (body, ResponseState.COMPLETE)
    assert trace.remembered == [(Outcome.COMPLETE, "Hello")]
    damaged = asyncio.run(play(Body(b"no gzip", encoding="gzip")))
    assert (damaged.body, damaged.state) == (b"", ResponseState.CUT)
    unknown = asyncio.run(play(Body(b"\x01", encoding="br")))
    assert (unknown.body, unknown.state) == (b"\x01", ResponseState.COMPLETE)


def test_the_text_of_the_stand_in_is_not_remembered() -> None:
    trace = run(STREAM, source=AnswerSource(AnswerOrigin.STAND_IN, "offline", "m", 1))
    assert trace.remembered == [(Outcome.COMPLETE, None)]
    assert trace.headers["x-gateway-upstream"] == "offline"


def test_the_reply_of_a_plugin_is_marked_as_one() -> None:
    reply = ReplyBody(Reply({"choices": [{"message": {"content": "cached"}}]}, headers={"x-a": "1"}))
    trace = asyncio.run(play(reply, source=AnswerSource(AnswerOrigin.PLUGIN, "plugin"), plugin=Observer))
    assert trace.state is ResponseState.COMPLETE
    assert "x-gateway-attempts" not in trace.headers
    assert [answer.is_reply for answer in trace.responses] == [True]
    assert trace.answer is not None
    assert trace.answer.text == "cached"


def plain(*script: bytes | Exception, status: int = 200, **options: Any) -> Trace:
    return asyncio.run(play(Body(*script, status=status, kind="application/json"), **options))


def test_a_plain_answer_is_read_whole() -> None:
    trace = plain(PLAIN[:30], PLAIN[30:])
    assert (trace.body, trace.state, trace.ids) == (PLAIN, ResponseState.COMPLETE, ["c-1"])
    assert trace.remembered == [(Outcome.COMPLETE, "Hello")]


def test_a_plain_answer_that_cannot_be_read_is_cut() -> None:
    for script in ((PLAIN[:30], UpstreamFailed("gone")), (b"<html>",)):
        trace = plain(*script)
        assert (trace.state, trace.sent, type(trace.error)) == (ResponseState.CUT, [], UpstreamFailed)
        assert trace.remembered == [(Outcome.CUT, None)]


def test_an_error_of_the_upstream_is_no_turn_to_remember() -> None:
    body = b'{"error":{"message":"sk-1 is wrong"}}'
    trace = plain(body, status=401, secrets=[b"sk-1"])
    assert (trace.body, trace.state) == (body.replace(b"sk-1", b"[key]"), ResponseState.REFUSED)
    assert trace.remembered == []
    page = asyncio.run(play(Body(b"<html>busy", status=503, kind="text/html")))
    assert b'"type":"upstream_error"' in page.body
    assert page.headers["content-type"] == "application/json"


def test_a_client_that_leaves_before_a_plain_answer() -> None:
    trace = plain(PLAIN, leave_after=0)
    assert (trace.state, trace.remembered) == (ResponseState.CLIENT_GONE, [(Outcome.CLIENT_GONE, None)])


def test_a_turn_that_could_not_be_stored_is_reported() -> None:
    assert plain(PLAIN, is_stored=False).headers["x-memory-status"] == "degraded"
