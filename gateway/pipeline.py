"""One request on its way: recall → assemble → forward → tee → remember.

`Pipeline.open` does what comes before the first byte and returns an `Exchange`; whoever iterates its chunks writes
them out as they come. The turn is in the journal before the last chunk is handed out. An exchange that is closed
before its end cancels the upstream first and remembers afterwards. Memory never takes a chat down.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from pydantic import SecretStr

from gateway import splice
from gateway.config import RecallConfig
from gateway.errors import GatewayError, StreamCut, UpstreamFailed
from gateway.hooks import Reply
from gateway.plugin_host import PluginHost, thaw
from gateway.recall.assemble import NO_BLOCK, assemble
from gateway.recall.recall import Recall
from gateway.recall.tokens import Tokenizer, encoding_of
from gateway.remember.remember import Remember
from gateway.telemetry import Telemetry, short_digest
from gateway.turn import Answer, Block, Memory, Outcome, Turn
from gateway.upstream import headers as header_lists
from gateway.upstream.client import Incoming
from gateway.upstream.forward import Forwarder, Route
from gateway.upstream.tee import Tee, decoder_of, wrap_error

__all__ = ["Exchange", "Pipeline"]

_log = logging.getLogger("gateway.turn")
_MAX_IDS_IN_HEADER = 50
_MAX_ERROR_BODY = 1 << 20


class Pipeline:
    """Joins the stages. Tasks that outlive a request (remembering after a hang-up, observers) are owned here."""

    def __init__(
        self,
        *,
        recall: Recall,
        remember: Remember,
        forwarder: Forwarder,
        tokenizer: Tokenizer,
        plugins: PluginHost,
        telemetry: Telemetry,
        config: RecallConfig,
    ) -> None:
        self.recall = recall
        self.remember = remember
        self.forwarder = forwarder
        self.plugins = plugins
        self.telemetry = telemetry
        self._tokenizer = tokenizer
        self._config = config
        self._afterwards: set[asyncio.Task[Any]] = set()

    async def open(self, turn: Turn) -> "Exchange":
        """Everything before the first byte of the answer. Raises GatewayError; then nobody was answered."""
        turn, reply = await self.plugins.on_request(turn)
        if reply is not None:
            return Exchange(self, turn, _ReplyBody(reply), upstream="plugin")
        try:
            route = self.forwarder.route(turn.ask.model)
            turn, raw = await self._prompt(turn, route)
            self.telemetry.bound("recalls", turn.status.value, turn.recalled.reason).inc()
            overhead = time.perf_counter() - turn.started
            self.telemetry.bound("stage", "overhead").observe(overhead)
            incoming = await self._forward(turn, route, raw)
        except asyncio.CancelledError:
            self.afterwards(self._left(turn))
            raise
        except Exception as error:
            self.afterwards(self._lost(turn, error))
            raise
        upstream = route.upstream.config
        return Exchange(
            self,
            turn,
            incoming,
            upstream=upstream.name,
            secret=upstream.api_key,
            is_stand_in=upstream.kind == "offline",
            overhead=overhead,
        )

    def afterwards(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Do something that a request's end must not cut off."""
        task = asyncio.create_task(work, name="afterwards")
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)
        return task

    async def stop(self, timeout: float) -> None:
        """Wait for what still has to be remembered."""
        if self._afterwards:
            await asyncio.wait(self._afterwards, timeout=timeout)

    async def _prompt(self, turn: Turn, route: Route) -> tuple[Turn, bytes]:
        raw = turn.raw
        if turn.identity is not None and turn.mode.reads and not turn.ask.is_chore:
            recalled = await self.recall.recall(turn)
            if self.plugins.has("on_recall"):
                memories = await self.plugins.on_recall(turn, recalled.memories)
                recalled = replace(recalled, memories=tuple(memories))
            began = time.perf_counter()
            block = self._assemble(turn, route, recalled.memories)
            turn = replace(turn, recalled=recalled, block=block)
            if block.text:
                raw = turn.dialect.place(raw, dict(turn.body), block.text, self._config.placement)
            self.telemetry.bound("stage", "assemble").observe(time.perf_counter() - began)
            self.telemetry.recalled_tokens.observe(block.tokens)
        return turn, await self._changed_by_plugins(turn, raw)

    def _assemble(self, turn: Turn, route: Route, memories: Sequence[Memory]) -> Block:
        if not memories:
            return NO_BLOCK
        config = route.upstream.config
        encoding = config.encoding or encoding_of(route.model)
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        if config.context_window is not None:
            room = config.context_window - turn.ask.max_tokens - 64
            if len(turn.raw) + budget > room:  # a token is a byte at least: only now is counting worth it
                budget = min(budget, room - self._tokenizer.count(turn.raw.decode("utf-8", "replace"), encoding))
        most = turn.top_k or self._config.top_k
        seen = turn.dialect.said(turn.body)
        return assemble(memories, budget, lambda text: self._tokenizer.count(text, encoding), seen, most)

    async def _changed_by_plugins(self, turn: Turn, raw: bytes) -> bytes:
        if not self.plugins.has("on_messages"):
            return raw
        span = splice.find(raw, ("messages",))
        if span is None:
            return raw
        changed = await self.plugins.on_messages(turn, orjson.loads(raw[span[0] : span[1]]))
        return raw if changed is None else splice.replace(raw, span, orjson.dumps(list(changed), default=thaw))

    async def _forward(self, turn: Turn, route: Route, raw: bytes) -> Incoming:
        incoming = await self._send(turn, route, raw)
        if incoming.status == 400 and turn.block is not None and turn.block.text:
            body = await _read_at_most(incoming, _MAX_ERROR_BODY)
            if b"context_length_exceeded" in body:
                _log.info("retried_without_memory", extra={"turn": turn.id})
                return await self._send(turn, route, turn.raw)
            return _Replayed(incoming, body)
        return incoming

    async def _send(self, turn: Turn, route: Route, raw: bytes) -> Incoming:
        return await self.forwarder.send_chat(
            route, path=turn.path, query_string=turn.query_string, client_headers=turn.headers, raw=raw
        )

    async def _left(self, turn: Turn) -> None:
        answer = Answer(None, outcome=Outcome.CLIENT_GONE)
        await self.remember.remember(turn, answer)
        await self.plugins.on_response(turn, answer)
        self.log(turn, Outcome.CLIENT_GONE, 0, "")

    async def _lost(self, turn: Turn, error: Exception) -> None:
        if isinstance(error, GatewayError) and error.status >= 500:
            await self.remember.remember(turn, Answer(None, outcome=Outcome.CUT))
        await self.plugins.on_error(turn, error)
        self.log(turn, Outcome.REFUSED, getattr(error, "status", 500), "")

    def log(self, turn: Turn, outcome: Outcome, status: int, upstream: str) -> None:
        """The one line of a turn."""
        self.telemetry.bound("outcomes", outcome.value).inc()
        if not _log.isEnabledFor(logging.INFO):
            return
        _log.info(
            "turn",
            extra={
                "turn": turn.id,
                "tenant": turn.principal.tenant,
                "user": short_digest(turn.identity.user_id) if turn.identity else None,
                "upstream": upstream,
                "status": status,
                "outcome": outcome.value,
                "memory": turn.status.value,
                "memories": len(turn.block.memories) if turn.block else 0,
                "tokens": turn.block.tokens if turn.block else 0,
                "ms": round((time.perf_counter() - turn.started) * 1000, 1),
            },
        )


class Exchange:
    """An answer on its way. `status` and `headers` are what the client gets; take `chunks` of a stream or `read` a
    plain answer, then `close`."""

    def __init__(
        self,
        pipeline: Pipeline,
        turn: Turn,
        incoming: Incoming,
        *,
        upstream: str,
        secret: SecretStr | None = None,
        is_stand_in: bool = False,
        overhead: float = 0.0,
    ) -> None:
        self.turn = turn
        self.answer: Answer | None = None
        self.status = incoming.status
        self.headers = _headers(turn, incoming, overhead)
        self.upstream = upstream
        self._pipeline = pipeline
        self._incoming = incoming
        self._secret = secret
        self._is_stand_in = is_stand_in
        self._is_finished = False
        self._ending: tuple[Turn, Answer, BaseException | None] | None = None
        content_type = incoming.headers.get("content-type", "").lower()
        self.is_stream = incoming.status < 400 and content_type.startswith("text/event-stream")

    def close(self) -> None:
        """Call it always, at the end. Before the end was reached it means that the client is gone."""
        self._incoming.close()
        if self._ending is not None:
            self._observe(*self._ending)
        if self._is_finished:
            return
        self._is_finished = True
        self._pipeline.afterwards(self._conclude(Answer(None, outcome=Outcome.CLIENT_GONE), None))

    async def chunks(self) -> AsyncGenerator[bytes]:
        """A stream as it came, read by read. One that breaks off ends with an error event, and raises StreamCut or
        UpstreamTimedOut after it."""
        dialect = self.turn.dialect
        is_kept = self.turn.identity is not None and self.turn.mode.writes
        tee = Tee(dialect.reader() if is_kept else dialect.end_reader(), decoder_of(self._incoming.headers))
        hooks = self._pipeline.plugins.stream(self.turn) if self._pipeline.plugins.reads_stream else None
        try:
            async for chunk in self._incoming.chunks():
                tee.feed(chunk)
                if hooks is not None:
                    chunk = hooks.feed(chunk)  # noqa: PLW2901 — the same bytes unless a rewriter is configured
                if tee.is_complete and not self._is_finished:
                    await self._finish(tee.answer())
                if chunk:
                    yield chunk
            tee.end()
            if not tee.is_complete:
                raise StreamCut(
                    "the upstream ended its answer early" if tee.has_events else "the upstream sent an empty answer"
                )
            if not self._is_finished:
                await self._finish(tee.answer())
        except (GatewayError, ValueError) as error:
            if self._is_finished:
                return  # the end was seen: what breaks after it is nobody's loss
            failure = error if isinstance(error, GatewayError) else StreamCut("the upstream's answer cannot be read")
            await self._finish(replace(tee.answer(), outcome=Outcome.CUT), failure)
            if not tee.has_error:
                mark = b"\n\n" if tee.is_mid_event else b""
                yield mark + self.turn.dialect.error_event(failure.message, failure.code or "stream_interrupted")
            raise failure from error

    async def read(self) -> bytes:
        """A plain answer. Raises UpstreamFailed or UpstreamTimedOut if it is none; then `headers` do not count."""
        try:
            body = b"".join([chunk async for chunk in self._incoming.chunks()])
        except GatewayError as error:
            await self._finish(Answer(None, outcome=Outcome.CUT), error)
            raise
        decoded = decoder_of(self._incoming.headers).whole(body)
        if self.status >= 400:
            await self._finish(Answer(None, outcome=Outcome.REFUSED))
            return self._error_body(body, decoded)
        answer = None if decoded is None else self.turn.dialect.read_plain(decoded)
        if decoded is not None and answer is None and not _is_json(decoded):
            failure = UpstreamFailed(f"the upstream {self.upstream} answered {self.status}, but not with JSON")
            await self._finish(Answer(None, outcome=Outcome.CUT), failure)
            raise failure
        await self._finish(answer or Answer(None))
        return body

    def _error_body(self, body: bytes, decoded: bytes | None) -> bytes:
        """The upstream's error as it is, if it is JSON; our key, should it stand in there, is taken out."""
        if decoded is None:
            return body
        changed = wrap_error(self.status, decoded, self.upstream) or decoded
        if self._secret is not None:
            changed = changed.replace(self._secret.get_secret_value().encode(), b"[key]")
        if changed == decoded:
            return body
        self.headers.pop("content-encoding", None)
        self.headers = {name: value for name, value in self.headers.items() if name.lower() != "content-type"}
        self.headers["content-type"] = "application/json"
        return changed

    async def _finish(self, answer: Answer, error: BaseException | None = None) -> None:
        """The end is known: remember now, before the client knows it; the rest afterwards."""
        self._is_finished = True
        self.answer, turn = answer, self.turn
        self._ending = (turn, answer, error)
        if answer.outcome is not Outcome.REFUSED and turn.identity is not None:
            # shielded: a client that leaves now has been answered, and must not cost the memory
            said = replace(answer, text=None) if self._is_stand_in else answer  # a stand-in's words are nobody's
            await asyncio.shield(self._pipeline.afterwards(self._pipeline.remember.remember(turn, said)))

    async def _conclude(self, answer: Answer, error: BaseException | None) -> None:
        await self._pipeline.remember.remember(self.turn, answer)
        self._observe(self.turn, answer, error)

    def _observe(self, turn: Turn, answer: Answer, error: BaseException | None) -> None:
        pipeline = self._pipeline
        for kind, count in (("prompt", answer.prompt_tokens), ("completion", answer.completion_tokens)):
            if count:
                pipeline.telemetry.bound("tokens", self.upstream, kind).inc(count)
        pipeline.log(turn, answer.outcome, self.status, self.upstream)
        if error is None and pipeline.plugins.has("on_response"):
            pipeline.afterwards(pipeline.plugins.on_response(turn, answer))
        if error is not None and pipeline.plugins.has("on_error"):
            pipeline.afterwards(pipeline.plugins.on_error(turn, error))


def _headers(turn: Turn, incoming: Incoming, overhead: float) -> dict[str, str]:
    passed = header_lists.down(incoming.headers)
    encoding = incoming.headers.get("content-encoding")
    if encoding:
        passed["content-encoding"] = encoding
    passed["x-gateway-overhead-ms"] = f"{overhead * 1000:.2f}"
    return passed | memory_headers(turn)


def memory_headers(turn: Turn) -> dict[str, str]:
    """What memory did, as the client is told."""
    block = turn.block or NO_BLOCK
    headers = {
        "x-memory-status": turn.status.value,
        "x-memory-count": str(len(block.memories)),
        "x-memory-tokens": str(block.tokens),
    }
    if block.memories:
        headers["x-memory-ids"] = ",".join(memory.record.id for memory in block.memories[:_MAX_IDS_IN_HEADER])
    return headers


class _ReplyBody:
    """A plugin's own answer, as if an upstream had sent it."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = {**reply.headers, "content-type": "application/json"}
        self._body = orjson.dumps(reply.body, default=thaw)

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield self._body

    def close(self) -> None:
        """Nothing is held."""


class _Replayed:
    """An answer whose body was read already."""

    def __init__(self, incoming: Incoming, body: bytes) -> None:
        self.status = incoming.status
        self.headers = incoming.headers
        self._incoming = incoming
        self._body = body

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield self._body

    def close(self) -> None:
        self._incoming.close()


async def _read_at_most(incoming: Incoming, limit: int) -> bytes:
    body = bytearray()
    async for chunk in incoming.chunks():
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
