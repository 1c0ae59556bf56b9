"""The MemOS face: chat, add and search as `MemOSClient` and MemOS' own server speak them.

Every answer is an envelope of `code`, `message` and `data`; a failure is never a 200. A chat goes the same way as any
other turn; only its prompt and the form of its answer differ.
"""

import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from gateway.config import Config
from gateway.errors import BadRequest, Forbidden, GatewayError, MemoryUnavailable, UpstreamFailed
from gateway.exchange import Exchange
from gateway.identity import checked_id, cube_scopes
from gateway.pipeline import Pipeline
from gateway.remember.remember import Remember
from gateway.sse import EventParser
from gateway.store.journal import JournalFailed
from gateway.turn import (
    Ask,
    Identity,
    Memory,
    MemoryMode,
    MemoryStatus,
    Principal,
    Record,
    Right,
    Turn,
)
from gateway.wire.dialects import ChatDialect, text_of
from gateway.wire.guard import parse_json, principal_of, read_body, request_id_of
from gateway.wire.memos.models import AddRequest, ChatRequest, ScopedRequest, SearchRequest, checked, said_at
from gateway.wire.memos.prompt import MemosDialect
from gateway.wire.think import ThinkSplitter

__all__ = ["MemosFace"]

_HISTORY = 20  # messages of a conversation that go to the model
_SYNC_TIMEOUT = 10.0
_CHAT_RESULT = "Chat completed successfully"
_STREAM_TYPE = "text/event-stream; charset=utf-8"  # without the charset `requests` reads Latin-1
_LONG_TERM, _USER_MEMORY = "LongTermMemory", "UserMemory"
_NO_ASK = Ask(model="", stream=False)


class MemosFace:
    """`drained` waits until what was added can be found."""

    def __init__(
        self, config: Config, pipeline: Pipeline, remember: Remember, drained: Callable[[float], Awaitable[bool]]
    ) -> None:
        self._config = config
        self._pipeline = pipeline
        self._remember = remember
        self._drained = drained

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.post("/product/chat", self.chat),
            web.post("/product/chat/complete", self.chat_complete),
            web.post("/product/chat/stream", self.chat_stream),
            web.post("/product/add", self.add),
            web.post("/product/search", self.search),
        ]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """What `MemOSClient.chat` calls: plain, or a stream with `stream: true`."""
        asked = checked(ChatRequest, await self._body(request))
        if asked.stream:
            return await self._streamed(request, asked)
        return await self._answered(request, asked, "ok")

    async def chat_complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, checked(ChatRequest, await self._body(request)), _CHAT_RESULT)

    async def chat_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._streamed(request, checked(ChatRequest, await self._body(request)))

    async def add(self, request: web.Request) -> web.StreamResponse:
        """Remember messages. With `async_mode: sync` they can be found when the call returns."""
        asked = checked(AddRequest, await self._body(request))
        turn = self._turn(request, asked, asked.writable_cube_ids, ask=_NO_ASK, dialect=ChatDialect())
        identity = _identity_of(turn)
        records = [
            self._remember.make(
                turn, scope, message["role"], text, asked.info, at=said_at(message, turn.received_at), index=index
            )
            for scope in identity.writes
            for index, message in enumerate(asked.messages)
            if (text := text_of(message.get("content")).strip()) and message["role"] in ("user", "assistant")
        ]
        if not records:
            raise BadRequest("messages: there is no text of the user or the assistant in them", param="messages")
        records = [_with_tags(record, asked) for record in records]
        try:
            kept = await self._remember.add(turn, records)
        except JournalFailed as error:
            raise MemoryUnavailable("the memories could not be written; nothing was kept; try again") from error
        except TimeoutError as error:
            raise MemoryUnavailable("the memories could not be written in time; they may be kept or not") from error
        if asked.async_mode == "sync" and not await self._drained(_SYNC_TIMEOUT):
            raise MemoryUnavailable("the memories are kept, but cannot be found yet")
        items = [
            {
                "memory": record.text,
                "memory_id": record.id,
                "memory_type": _memory_type(record),
                "cube_id": record.cube_id,
            }
            for record in kept
        ]
        return _envelope("Memory added successfully", items)

    async def search(self, request: web.Request) -> web.StreamResponse:
        asked = checked(SearchRequest, await self._body(request))
        turn = self._turn(request, asked, asked.readable_cube_ids, ask=_NO_ASK, dialect=ChatDialect())
        identity = _identity_of(turn)
        recalled = await self._pipeline.recall.search(identity.reads, asked.query, asked.top_k, asked.relativity)
        if recalled.status is MemoryStatus.DEGRADED:
            raise MemoryUnavailable(f"the memory cannot be searched now ({recalled.reason}); try again")
        groups = [
            {"cube_id": scope.cube_id, "memories": found, "total_nodes": len(found)}
            for scope in identity.reads
            if (found := [_item(memory) for memory in recalled.memories if memory.record.scope == scope.value])
        ]
        empty = [{"cube_id": scope.cube_id, "memories": [], "total_nodes": 0} for scope in identity.reads]
        data = {
            "text_mem": groups,
            "pref_mem": empty,
            "tool_mem": empty,
            "skill_mem": empty,
            "act_mem": [],
            "para_mem": [],
            "pref_note": "",
        }
        return _envelope("Search completed successfully", data)

    async def _body(self, request: web.Request) -> Any:
        return parse_json(await read_body(request, self._config.limits), self._config.limits)

    async def _answered(self, request: web.Request, asked: ChatRequest, message: str) -> web.StreamResponse:
        exchange = await self._open(request, asked, stream=False)
        try:
            body = await exchange.read()
            if exchange.status >= 400:
                raise _upstream_error(exchange, body)
        finally:
            exchange.close()
        answer = exchange.answer
        data = {"response": (answer.text if answer else None) or "", "reasoning": answer.reasoning if answer else None}
        return _envelope(message, data, exchange.headers)

    async def _streamed(self, request: web.Request, asked: ChatRequest) -> web.StreamResponse:
        """`reasoning`, `text`, then `end`; a failure in mid-stream is an `error` before the `end`."""
        exchange = await self._open(request, asked, stream=True)
        try:
            if exchange.status >= 400:
                raise _upstream_error(exchange, await exchange.read())
            headers = {name: value for name, value in exchange.headers.items() if name.startswith("x-")}
            headers |= {"content-type": _STREAM_TYPE, "cache-control": "no-cache", "x-accel-buffering": "no"}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            async with contextlib.aclosing(_events(exchange)) as events:
                async for event in events:
                    await response.write(event)
            await response.write_eof()
            return response
        finally:
            exchange.close()

    async def _open(self, request: web.Request, asked: ChatRequest, *, stream: bool) -> Exchange:
        principal = principal_of(request)
        if Right.CHAT not in principal.rights:
            raise Forbidden("this key does not have the right `chat`")
        now = datetime.now(UTC)
        dialect = MemosDialect(asked.system_prompt, asked.query, now.strftime("%Y-%m-%d %H:%M:%S UTC, %A"))
        cubes = asked.readable_cube_ids or asked.writable_cube_ids
        ask = Ask(
            model=asked.model_name_or_path or "default", stream=stream, query=asked.query, max_tokens=asked.max_tokens
        )
        turn = self._turn(request, asked, cubes, ask=ask, dialect=dialect)
        history = (asked.history or [])[-_HISTORY:]
        if asked.history is None and asked.session_id is not None:
            history = await self._pipeline.recall.conversation(_identity_of(turn), _HISTORY)
        body = {
            "model": ask.model,
            "messages": [
                {"role": "system", "content": dialect.system_prompt("")},
                *history,
                {"role": "user", "content": asked.query},
            ],
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "max_tokens": asked.max_tokens,
            "stream": stream,
        }
        return await self._pipeline.open(_as_chat(turn, asked, body))

    def _turn(
        self, request: web.Request, asked: ScopedRequest, cubes: Sequence[str] | None, *, ask: Ask, dialect: ChatDialect
    ) -> Turn:
        principal = principal_of(request)
        return Turn(
            id=request_id_of(request),
            started=time.perf_counter(),
            received_at=time.time(),
            principal=principal,
            path="/chat/completions",
            headers=request.headers,
            raw=b"",
            body={},
            ask=ask,
            dialect=dialect,
            identity=self._identity(principal, asked, cubes),
        )

    def _identity(self, principal: Principal, asked: ScopedRequest, cubes: Sequence[str] | None) -> Identity:
        if not self._config.memory.enabled:
            raise MemoryUnavailable("the memory is switched off in the configuration")
        user = checked_id(asked.user_id, "user_id")
        if principal.user is not None and principal.user != user:
            raise Forbidden("this key is for one user, and user_id names another")
        session = checked_id(asked.session_id, "session_id") if asked.session_id else "default_session"
        names = [checked_id(cube, "cube_id") for cube in cubes or (asked.mem_cube_id or user,)]
        scopes = cube_scopes(principal.tenant, user, names)
        return Identity(user, session, reads=scopes, writes=scopes)


async def _events(exchange: Exchange) -> AsyncGenerator[bytes]:
    """An upstream's chat stream as MemOS events."""
    parser, splitter, decoder = EventParser(), ThinkSplitter(), exchange.decoder()
    try:
        async with contextlib.aclosing(exchange.chunks()) as chunks:
            async for chunk in chunks:
                for event in parser.feed(decoder.feed(chunk)):
                    for kind, text in _said(event.data, splitter):
                        yield _event({"type": kind, "data": text})
        for kind, text in splitter.end():
            yield _event({"type": kind, "data": text})
        if not decoder.can_decode:
            raise UpstreamFailed(f"the upstream {exchange.upstream} sent an encoding that cannot be read")
    except GatewayError as error:
        yield _event({"type": "error", "data": error.message, "content": error.message, "code": error.status})
    yield _event({"type": "end"})


def _said(data: bytes, splitter: ThinkSplitter) -> list[tuple[str, str]]:
    try:
        choices = orjson.loads(data)["choices"]
        delta = choices[0]["delta"] if choices and choices[0].get("index", 0) == 0 else {}
        if not isinstance(delta, dict):
            return []
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError):
        return []
    said = []
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        said.append(("reasoning", reasoning))
    if isinstance(delta.get("content"), str):
        said += splitter.feed(delta["content"])
    return said


def _event(body: Mapping[str, Any]) -> bytes:
    """ASCII only (orjson cannot): clients split lines at any Unicode line break."""
    return b"data: " + json.dumps(body, ensure_ascii=True).encode() + b"\n\n"


def _as_chat(turn: Turn, asked: ChatRequest, body: dict[str, Any]) -> Turn:
    return replace(
        turn,
        raw=orjson.dumps(body),
        body=body,
        mode=MemoryMode.ON if asked.add_message_on_answer else MemoryMode.READ,
        top_k=asked.top_k,
        min_relativity=asked.relativity,
        tags=asked.custom_tags,
        info=asked.info,
        agent_id=asked.agent_id,
        app_id=asked.app_id,
    )


def _upstream_error(exchange: Exchange, body: bytes) -> GatewayError:
    """An upstream's refusal in MemOS' form: its status, its message."""
    try:
        message = str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"the upstream {exchange.upstream} answered {exchange.status}"
    error = GatewayError(message)
    error.status = exchange.status
    return error


def _envelope(message: str, data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    passed = {name: value for name, value in (headers or {}).items() if name.startswith("x-")}
    body = orjson.dumps({"code": 200, "message": message, "data": data})
    return web.Response(body=body, headers=passed, content_type="application/json")


def _identity_of(turn: Turn) -> Identity:
    assert turn.identity is not None  # noqa: S101 — every turn of this face has one
    return turn.identity


def _with_tags(record: Record, asked: AddRequest) -> Record:
    return replace(record, tags=asked.custom_tags, agent_id=asked.agent_id, app_id=asked.app_id)


def _memory_type(record: Record) -> str:
    return _USER_MEMORY if record.source == "user" else _LONG_TERM


def _item(memory: Memory) -> dict[str, Any]:
    """A memory as MemOS' search returns it."""
    record = memory.record
    metadata = {
        "user_id": record.user_id,
        "session_id": record.session_id,
        "status": record.status,
        "type": record.kind,
        "key": record.text[:60],
        "confidence": record.confidence,
        "source": "conversation",
        "tags": list(record.tags),
        "visibility": "private",
        "created_at": _iso(record.event_time),
        "updated_at": _iso(record.updated_at),
        "memory_type": _memory_type(record),
        "sources": [{"type": "chat", "role": record.source, "chat_time": _iso(record.event_time)}],
        "embedding": [],
        "usage": [],
        "background": "",
        "relativity": round(memory.relativity, 4),
        "info": dict(record.info),
        "id": record.id,
        "memory": record.text,
        "ref_id": f"[{record.id[:8]}]",
    }
    return {"id": record.id, "memory": record.text, "ref_id": f"[{record.id[:8]}]", "metadata": metadata}


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
