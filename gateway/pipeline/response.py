"""An upstream's answer in transit to the client: forwarded as it arrives, parsed in parallel, remembered before its
last chunk is handed out.

The consumer of `chunks` (or `read`) writes them to the client. Closing an exchange before its end means that the
client disconnected: the upstream is cancelled first, then the user's message is remembered.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from gateway.errors import GatewayError, StreamCut, UpstreamFailed
from gateway.formats.base import Answer, Outcome, Reader
from gateway.formats.errors import non_json_message
from gateway.formats.json_read import looks_like_json
from gateway.hooks import Reply
from gateway.memory.recalled import MemoryStatus
from gateway.plugin_host import StreamHooks, thaw
from gateway.turn import Turn
from gateway.upstream import headers as header_lists
from gateway.upstream.client import Incoming
from gateway.upstream.decoder import Decoder, decoder_of
from gateway.upstream.replay import read_error
from gateway.upstream.scrub import Scrubber, scrubbed

if TYPE_CHECKING:
    from gateway.pipeline.pipeline import Pipeline

__all__ = ["Exchange", "ReplyBody"]

_MAX_IDS_IN_HEADER = 50
_MAX_PLAIN_BODY = 1 << 26


class Tee:
    """Feeds a decoded copy of an answer to a format reader."""

    def __init__(self, reader: Reader, decoder: Decoder) -> None:
        self._reader = reader
        self._decoder = decoder
        self._is_over = False

    @property
    def is_complete(self) -> bool:
        return self._reader.is_complete or (self._is_over and not self._decoder.can_decode)

    @property
    def has_events(self) -> bool:
        return self._reader.has_events

    @property
    def has_error(self) -> bool:
        return self._reader.has_error

    @property
    def is_mid_event(self) -> bool:
        return self._reader.is_mid_event

    @property
    def id(self) -> str | None:
        return self._reader.id

    def feed(self, chunk: bytes) -> None:
        """Parse the next chunk. Raises ValueError if a compressed stream is damaged."""
        self._reader.feed(self._decoder.feed(chunk))

    def end(self) -> None:
        self._is_over = True
        self._reader.end()

    def answer(self) -> Answer:
        return self._reader.answer()


class Exchange:
    """An answer in transit. `status` and `headers` are those for the client; iterate `chunks` of a stream or `read` a
    plain answer, then `close`."""

    def __init__(
        self,
        pipeline: "Pipeline",
        turn: Turn,
        incoming: Incoming,
        *,
        upstream: str,
        secrets: Sequence[bytes] = (),
        is_stand_in: bool = False,
        overhead: float = 0.0,
        attempts: int = 0,
        model: str = "",
    ) -> None:
        self.turn = turn
        self.answer: Answer | None = None
        self.status = incoming.status
        self.headers = _headers(turn, incoming, overhead)
        if attempts:
            self.headers["x-gateway-upstream"] = upstream
            self.headers["x-gateway-attempts"] = str(attempts)
        self.upstream = upstream
        self.attempts = attempts
        self._model = model
        self._pipeline = pipeline
        self._incoming = incoming
        self._secrets = secrets
        self._is_stand_in = is_stand_in
        self._is_finished = False
        self._ending: tuple[Turn, Answer, BaseException | None] | None = None
        self._tee: Tee | None = None
        self._is_reply = isinstance(incoming, ReplyBody)
        # the bytes of a stream as sent, for plugins; None: not needed by a plugin, too long, or compressed
        self._bytes_left = pipeline.plugins.body_bytes
        is_wanted = self._bytes_left and not incoming.headers.get("content-encoding")
        self._sent_chunks: list[bytes] | None = [] if is_wanted else None
        self.on_id: Callable[[str], None] | None = None  # called once with the upstream's id of the answer
        self.on_answer: Callable[[str | None], None] | None = None  # called with the text of a complete answer
        content_type = incoming.headers.get("content-type", "").lower()
        self.is_stream = incoming.status < 400 and content_type.startswith("text/event-stream")

    def close(self) -> None:
        """Release the upstream; always call it. Before the end of the answer it means that the client disconnected."""
        self._incoming.close()
        if self._ending is not None:
            turn, answer, error = self._ending
            if self._sent_chunks and answer.body is None:
                answer = replace(answer, body=b"".join(self._sent_chunks))
            self._observe(turn, answer, error)
        if self._is_finished:
            return
        self._is_finished = True
        seen = self._tee.answer() if self._tee is not None else Answer(None)
        self._pipeline.afterwards(self._conclude_hang_up(replace(seen, outcome=Outcome.CLIENT_GONE)))

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The chunks of a stream as they arrive. A stream that breaks off gets an error event as its last chunk; then
        StreamCut or UpstreamTimedOut is raised."""
        wire_format = self.turn.wire_format
        is_kept = self.turn.identity is not None and self.turn.mode.writes
        reader = wire_format.reader() if is_kept else wire_format.end_reader()
        self._tee = tee = Tee(reader, decoder_of(self._incoming.headers))
        scrubber = Scrubber(self._secrets)
        hooks = self._pipeline.plugins.stream(self.turn) if self._pipeline.plugins.reads_stream else None
        try:
            async for chunk in self._incoming.chunks():
                chunk = scrubber.feed(chunk)  # noqa: PLW2901 — the same bytes, except the gateway's keys
                tee.feed(chunk)
                if self.on_id is not None and tee.id is not None:
                    self.on_id(tee.id)
                    self.on_id = None
                if hooks is not None:
                    chunk = hooks.feed(chunk)  # noqa: PLW2901 — the same bytes unless a rewriter is configured
                if tee.is_complete and not self._is_finished:
                    await self._finish(tee.answer())
                if chunk:
                    if self._sent_chunks is not None:
                        self._record_chunk(self._sent_chunks, chunk)
                    yield chunk
            if rest := self._flush(scrubber.end(), tee, hooks):
                yield rest
            if not tee.is_complete:
                raise StreamCut(
                    "the upstream ended its answer early" if tee.has_events else "the upstream sent an empty answer"
                )
            if not self._is_finished:
                await self._finish(tee.answer())
        except (GatewayError, ValueError) as error:
            if self._is_finished:
                return  # the stream is already complete: ignore errors after its end
            failure = error if isinstance(error, GatewayError) else StreamCut("the upstream's answer cannot be read")
            await self._finish(replace(tee.answer(), outcome=Outcome.CUT), failure)
            if not tee.has_error and "content-encoding" not in self.headers:  # plain text would damage the rest
                mark = b"\n\n" if tee.is_mid_event else b""
                yield mark + self.turn.wire_format.error_event(failure.message, failure.code or "stream_interrupted")
            raise failure from error

    def _flush(self, rest: bytes, tee: Tee, hooks: StreamHooks | None) -> bytes:
        """Feed the last bytes to the parser and the hooks; return those still to be sent."""
        tee.feed(rest)
        tee.end()
        if hooks is not None:
            rest = hooks.feed(rest) + hooks.end()
        if self._sent_chunks is not None:
            self._record_chunk(self._sent_chunks, rest)
        return rest

    def _record_chunk(self, chunks: list[bytes], chunk: bytes) -> None:
        chunks.append(chunk)
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            self._sent_chunks = None

    def decoder(self) -> Decoder:
        """A decoder for the content encoding of `chunks`."""
        return decoder_of(self._incoming.headers)

    async def read(self) -> bytes:
        """The body of a plain answer. Raises UpstreamFailed or UpstreamTimedOut; `headers` are invalid then."""
        try:
            body = scrubbed(await self._read_body(), self._secrets)
        except GatewayError as error:
            await self._finish(Answer(None, outcome=Outcome.CUT), error)
            raise
        decoder = decoder_of(self._incoming.headers)
        decoded = decoder.whole(body)
        if decoded is None and decoder.can_decode and self.status < 400:
            failure = UpstreamFailed(
                f"the upstream {self.upstream} answered {self.status}, but its encoding is damaged"
            )
            await self._finish(Answer(None, outcome=Outcome.CUT), failure)
            raise failure
        if decoded is not None and decoded is not body and (plain := scrubbed(decoded, self._secrets)) != decoded:
            body = decoded = plain
            self.headers.pop("content-encoding", None)
        if self.status >= 400:
            await self._finish(Answer(None, outcome=Outcome.REFUSED))
            return self._error_body(body, decoded)
        answer = None if decoded is None else self.turn.wire_format.read_plain(decoded)
        if decoded is not None and answer is None and not await asyncio.to_thread(looks_like_json, decoded):
            failure = UpstreamFailed(f"the upstream {self.upstream} answered {self.status}, but not with JSON")
            await self._finish(Answer(None, outcome=Outcome.CUT), failure)
            raise failure
        await self._finish(replace(answer or Answer(None), body=decoded))
        if self.on_id is not None and answer is not None and answer.id:
            self.on_id(answer.id)
        return body

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
                raise UpstreamFailed(f"the upstream {self.upstream} answered with more than can be held")
        return b"".join(pieces)

    def _error_body(self, body: bytes, decoded: bytes | None) -> bytes:
        """The upstream's error body: unchanged if it is JSON, else converted; the gateway's key is removed."""
        if decoded is None:
            return body
        message = non_json_message(self.status, decoded, self.upstream)
        changed = decoded if message is None else self.turn.wire_format.error_body(self.status, message)
        changed = scrubbed(changed, self._secrets)
        if changed == decoded:
            return body
        self.headers.pop("content-encoding", None)
        self.headers["content-type"] = "application/json"
        return changed

    async def _finish(self, answer: Answer, error: BaseException | None = None) -> None:
        """Remember the turn now that the answer has ended, before the client gets the end; observers run afterwards."""
        self._is_finished = True
        self.answer = answer = replace(answer, is_reply=True) if self._is_reply else answer
        turn = self.turn
        if self.on_answer is not None and answer.outcome is Outcome.COMPLETE:
            self.on_answer(answer.text)
        self._ending = (turn, answer, error)
        if answer.outcome is not Outcome.REFUSED and turn.identity is not None:
            # the text of the offline model is not remembered
            recorded = replace(answer, text=None) if self._is_stand_in else answer
            # shielded: a client that disconnects now has its answer, and its turn must still be remembered
            is_kept = await asyncio.shield(self._pipeline.owned(self._pipeline.remember.remember(turn, recorded)))
            if not is_kept:
                # reaches the client only if the headers are not sent yet
                self.headers["x-memory-status"] = MemoryStatus.DEGRADED.value

    async def _conclude_hang_up(self, answer: Answer) -> None:
        """Remember a turn whose client disconnected, without the partial answer."""
        await self._pipeline.remember.remember(self.turn, Answer(None, outcome=answer.outcome))
        self._observe(self.turn, answer, None)

    def _observe(self, turn: Turn, answer: Answer, error: BaseException | None) -> None:
        pipeline = self._pipeline
        for kind, count in (("prompt", answer.prompt_tokens), ("completion", answer.completion_tokens)):
            if count and not answer.is_reply:
                pipeline.telemetry.bound("tokens", self.upstream, kind).inc(count)
        pipeline.log(turn, answer.outcome, self.status, self.upstream)
        has_observers = pipeline.plugins.has("on_response" if error is None else "on_error")
        if has_observers or (self._model and not pipeline.meter.is_counted(answer)):
            pipeline.afterwards(self._notify_observers(turn, answer, error))
        elif self._model:
            pipeline.meter.note(turn, answer, upstream=self.upstream, model=self._model)

    async def _notify_observers(self, turn: Turn, answer: Answer, error: BaseException | None) -> None:
        pipeline = self._pipeline
        if self._model:
            counted = await pipeline.meter.counted(turn, answer)
            answer = pipeline.meter.note(turn, counted, upstream=self.upstream, model=self._model)
        if error is None:
            await pipeline.plugins.on_response(turn, answer)
        else:
            await pipeline.plugins.on_error(replace(turn, answer=answer), error)


def _headers(turn: Turn, incoming: Incoming, overhead: float) -> dict[str, str]:
    passed = header_lists.down(incoming.headers)
    encoding = incoming.headers.get("content-encoding")
    if encoding:
        passed["content-encoding"] = encoding
    passed["x-gateway-overhead-ms"] = f"{overhead * 1000:.2f}"
    return passed | _memory_headers(turn)


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
