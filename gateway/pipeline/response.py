"""An answer on its way to the client: forwarded as it arrives, parsed in parallel, remembered before its last chunk is
handed out.

The consumer of `chunks` (or `read`) writes them to the client. Closing a response before its end means that the client
disconnected: the upstream is cancelled first, then the user's message is remembered.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace

import orjson

from gateway.errors import GatewayError, StreamCut, UpstreamFailed
from gateway.formats.base import Answer, Reader
from gateway.formats.errors import non_json_message
from gateway.formats.json_read import looks_like_json
from gateway.frozen_json import thaw
from gateway.hooks import Reply
from gateway.memory.recalled import MemoryStatus
from gateway.pipeline.byte_stage import ByteObserver, ByteStage, DecodedObserver, IdObserver, SentBytes
from gateway.pipeline.recorder import UNTIMED, AnswerSource, Timing, TurnRecorder
from gateway.pipeline.response_state import ResponseEvent, ResponseState, next_state
from gateway.turn import Turn
from gateway.upstream import headers as header_lists
from gateway.upstream.client import Incoming
from gateway.upstream.decoder import Decoder, decoder_of
from gateway.upstream.replay import read_error
from gateway.upstream.scrub import Scrubber, scrubbed

__all__ = ["ReplyBody", "TurnResponse"]

_MAX_IDS_IN_HEADER = 50
_MAX_PLAIN_BODY = 1 << 26


class TurnResponse:
    """An answer on its way to the client, in one of the states of `ResponseState`.

    `status` and `headers` are those for the client; iterate `chunks` of a stream or `read` a plain answer, then
    `close`. `on_id` is called once with the upstream's id of the answer, `on_answer` with the text of a complete
    answer.
    """

    def __init__(
        self,
        turn: Turn,
        incoming: Incoming,
        source: AnswerSource,
        recorder: TurnRecorder,
        *,
        secrets: Sequence[bytes] = (),
        timing: Timing = UNTIMED,
    ) -> None:
        self.turn = turn
        self.source = source
        self.state = ResponseState.STREAMING
        self.answer: Answer | None = None
        self.status = incoming.status
        self.headers = _headers(turn, incoming, source, timing)
        self.on_id: Callable[[str], None] | None = None
        self.on_answer: Callable[[str | None], None] | None = None
        content_type = incoming.headers.get("content-type", "").lower()
        self.is_stream = incoming.status < 400 and content_type.startswith("text/event-stream")
        self._incoming = incoming
        self._is_encoded = bool(incoming.headers.get("content-encoding"))
        self._recorder = recorder
        self._timing = timing
        self._secrets = secrets
        self._reader: Reader | None = None
        self._sent: SentBytes | None = None
        self._body: bytes | None = None  # of a plain answer
        self._failure: GatewayError | None = None
        self._is_closed = False

    def close(self) -> None:
        """Release the upstream; always call it. Before the end of the answer it means that the client disconnected."""
        if self._is_closed:
            return
        self._is_closed = True
        self._incoming.close()
        if self.answer is None:
            answer = Answer(None) if self._reader is None else self._reader.answer()
            answer = self._conclude(ResponseEvent.CLOSE, answer)
            self._recorder.record_hang_up(self.turn, answer, self.source, status=self.status, timing=self._timing)
            return
        answer = self.answer
        body = self._body if self._sent is None else self._sent.body
        if body is not None and self._recorder.has_observers:
            answer = replace(answer, body=body)
        self._recorder.report(
            self.turn, answer, self.source, status=self.status, timing=self._timing, error=self._failure
        )

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The chunks of a stream as they arrive. A stream that breaks off gets an error event as its last chunk; then
        StreamCut or UpstreamTimedOut is raised."""
        decoder = self.decoder()
        reader = self._reader = self._new_reader()
        received, sent = self._received_stage(reader, decoder), self._sent_stage()
        is_mid_event = False
        try:
            async for chunk in self._incoming.chunks():
                outgoing = received.feed(chunk)
                if sent is not None:
                    outgoing = sent.feed(outgoing)
                if self.state is ResponseState.STREAMING and reader.is_complete:
                    await self._finish(ResponseEvent.END, reader.answer())
                if outgoing:
                    yield outgoing
            is_mid_event = reader.is_mid_event  # its end parses an incomplete event
            rest = received.end()
            if sent is not None:
                rest = sent.feed(rest) + sent.end()
            if rest:
                yield rest
            if self.state is ResponseState.STREAMING:
                if not reader.is_complete and decoder.can_decode:
                    raise StreamCut(
                        "the upstream ended its answer early"
                        if reader.has_events
                        else "the upstream sent an empty answer"
                    )
                await self._finish(ResponseEvent.END, reader.answer())
        except (GatewayError, ValueError) as error:
            if self.state is not ResponseState.STREAMING:
                return  # errors after the end are ignored
            failure = error if isinstance(error, GatewayError) else StreamCut("the upstream's answer cannot be read")
            await self._finish(ResponseEvent.FAILURE, reader.answer(), failure)
            if not reader.has_error and "content-encoding" not in self.headers:  # plain text would damage the rest
                mark = b"\n\n" if is_mid_event or reader.is_mid_event else b""
                yield mark + self.turn.wire_format.error_event(failure.message, failure.code or "stream_interrupted")
            raise failure from error

    def decoder(self) -> Decoder:
        """A decoder for the content encoding of `chunks`."""
        return decoder_of(self._incoming.headers)

    async def read(self) -> bytes:
        """The body of a plain answer. Raises UpstreamFailed or UpstreamTimedOut; `headers` are invalid then."""
        try:
            body = scrubbed(await self._read_body(), self._secrets)
            decoder = self.decoder()
            decoded = decoder.whole(body)
            if decoded is None and decoder.can_decode and self.status < 400:
                raise self._invalid("but its encoding is damaged")
            if decoded is not None and decoded is not body and (plain := scrubbed(decoded, self._secrets)) != decoded:
                body = decoded = plain
                self.headers.pop("content-encoding", None)
            if self.status >= 400:
                await self._finish(ResponseEvent.REFUSAL, Answer(None))
                return self._error_body(body, decoded)
            answer = None if decoded is None else self.turn.wire_format.read_plain(decoded)
            if decoded is not None and answer is None and not await asyncio.to_thread(looks_like_json, decoded):
                raise self._invalid("but not with JSON")
        except GatewayError as error:
            await self._finish(ResponseEvent.FAILURE, Answer(None), error)
            raise
        self._body = decoded
        await self._finish(ResponseEvent.END, answer or Answer(None))
        if self.on_id is not None and answer is not None and answer.id:
            self.on_id(answer.id)
        return body

    def _new_reader(self) -> Reader:
        """A reader of the answer's text if it is remembered, else one of its end."""
        is_remembered = self.turn.identity is not None and self.turn.mode.writes
        return self.turn.wire_format.reader() if is_remembered else self.turn.wire_format.end_reader()

    def _received_stage(self, reader: Reader, decoder: Decoder) -> ByteStage:
        """The upstream's bytes without the gateway's keys, as the reader gets them."""
        observers: list[ByteObserver] = [DecodedObserver(reader, decoder) if self._is_encoded else reader]
        if self.turn.trace is not None:
            observers.append(self.turn.trace)
        if self.on_id is not None:
            observers.append(IdObserver(reader, self.on_id))
        return ByteStage([Scrubber(self._secrets)] if self._secrets else [], observers)

    def _sent_stage(self) -> ByteStage | None:
        """The bytes as plugins change them, recorded for plugins that ask for them; None if there are no such."""
        plugins = self._recorder.plugins
        if not plugins.body_bytes and not plugins.reads_stream:
            return None
        if plugins.body_bytes and not self._is_encoded:
            self._sent = SentBytes(plugins.body_bytes)
        return ByteStage(
            [plugins.stream(self.turn)] if plugins.reads_stream else [], [] if self._sent is None else [self._sent]
        )

    def _invalid(self, reason: str) -> UpstreamFailed:
        return UpstreamFailed(f"the upstream {self.source.upstream} answered {self.status}, {reason}")

    async def _read_body(self) -> bytes:
        """The undecoded body. Raises UpstreamFailed if it exceeds the size limit."""
        if self.status >= 400:
            return await read_error(self._incoming)
        pieces: list[bytes] = []
        size = 0
        async for chunk in self._incoming.chunks():
            pieces.append(chunk)
            size += len(chunk)
            if size > _MAX_PLAIN_BODY:
                raise UpstreamFailed(f"the upstream {self.source.upstream} answered with more than can be held")
        return b"".join(pieces)

    def _error_body(self, body: bytes, decoded: bytes | None) -> bytes:
        """The upstream's error body: unchanged if it is JSON, else converted; the gateway's key is removed."""
        if decoded is None:
            return body
        message = non_json_message(self.status, decoded, self.source.upstream)
        changed = decoded if message is None else self.turn.wire_format.error_body(self.status, message)
        changed = scrubbed(changed, self._secrets)
        if changed == decoded:
            return body
        self.headers.pop("content-encoding", None)
        self.headers["content-type"] = "application/json"
        return changed

    async def _finish(self, event: ResponseEvent, seen: Answer, failure: GatewayError | None = None) -> None:
        """Enter a final state and remember the turn, before the client gets the end; `close` does the rest."""
        answer = self._conclude(event, seen)
        self._failure = failure
        if self.on_answer is not None and self.state is ResponseState.COMPLETE:
            self.on_answer(answer.text)
        if self.state is ResponseState.REFUSED or self.turn.identity is None:
            return
        if not await self._recorder.remember(self.turn, answer, self.source):
            # reaches the client only if the headers are not sent yet
            self.headers["x-memory-status"] = MemoryStatus.DEGRADED.value

    def _conclude(self, event: ResponseEvent, seen: Answer) -> Answer:
        """Change the state, and complete the answer by its outcome and origin."""
        self.state = next_state(self.state, event)
        outcome, is_plugin = self.state.outcome, self.source.is_plugin
        if seen.outcome is not outcome or is_plugin:
            seen = replace(seen, outcome=outcome, is_reply=is_plugin)
        self.answer = seen
        return seen


def _headers(turn: Turn, incoming: Incoming, source: AnswerSource, timing: Timing) -> dict[str, str]:
    headers = header_lists.down(incoming.headers)
    encoding = incoming.headers.get("content-encoding")
    if encoding:
        headers["content-encoding"] = encoding
    headers["x-gateway-overhead-ms"] = f"{(timing.overhead or 0.0) * 1000:.2f}"
    headers.update(_memory_headers(turn))
    if not source.is_plugin:
        headers["x-gateway-upstream"] = source.upstream
        headers["x-gateway-attempts"] = str(source.attempts)
    return headers


def _memory_headers(turn: Turn) -> dict[str, str]:
    """The headers that report the effect of memory to the client."""
    block = turn.block
    headers = {
        "x-memory-status": turn.status.value,
        "x-memory-count": str(len(block.ids) if block else 0),
        "x-memory-tokens": str(block.tokens if block else 0),
    }
    if block and block.ids:
        headers["x-memory-ids"] = ",".join(block.ids[:_MAX_IDS_IN_HEADER])
    return headers


class ReplyBody:
    """A plugin's reply with the interface of an upstream's answer."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = {**reply.headers, "content-type": reply.content_type}
        self._body = reply.body if isinstance(reply.body, bytes) else orjson.dumps(reply.body, default=thaw)

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield self._body

    def close(self) -> None:
        """Nothing to release."""
