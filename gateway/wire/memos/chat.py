"""The MemOS chats: plain, streamed, and the playground. A chat goes the way of any other turn; only its prompt and the
form of its answer differ.

The client gives up after thirty seconds of silence and asks again. So a plain answer that is not there after twenty
begins with white space, which JSON allows; and the same request again joins the one that runs, or gets its answer.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from gateway.dialect import Layout
from gateway.errors import BadRequest, ConfigError, Forbidden, GatewayError, NotFound, UpstreamFailed
from gateway.exchange import Exchange
from gateway.turn import Ask, MemoryMode, Right, Turn, Wanted
from gateway.wire.dialects.chat import ChatDialect
from gateway.wire.memos.envelope import MOST_ON_CLIENT_ROUTES, Access, Call, Operation, client, envelope, native
from gateway.wire.memos.events import CHAT_HEADERS, chat_events
from gateway.wire.memos.models import BusinessChatRequest, ChatRequest
from gateway.wire.memos.prompt import MemosDialect
from gateway.wire.places import place_of

__all__ = ["ChatHandlers", "PreparedChat"]

_log = logging.getLogger("gateway.memos")
_CATCHING_UP = 2.0  # seconds that a chat waits for the turn before it
_HISTORY = 20  # messages of a conversation that go to the model
_RESERVED = 256  # tokens of a context window that an answer may not have
_SAME_WITHIN = 120.0
_KEPT = 256  # answers kept for a client that asks again


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A chat on its way to the model."""

    turn: Turn
    access: Access


class ChatHandlers:
    """Answers of the last two minutes are kept for clients that ask again. `silence` is in seconds."""

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._business_keys = _business_keys()
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._answered: OrderedDict[str, tuple[float, dict[str, Any], tuple[Any, ...]]] = OrderedDict()

    def forget(self, scopes: Collection[str]) -> None:
        """A memory of these scopes was changed or deleted: what was answered before may rest on it."""
        self._answered.clear()

    def operations(self) -> list[Operation]:
        return [
            client("/chat", self.chat, "Answer with memory; a stream if stream is true", ChatRequest),
            native(
                "/chat/complete",
                self.chat_complete,
                "Answer with memory",
                ChatRequest,
                message="Chat completed successfully",
            ),
            native(
                "/chat/stream",
                self.chat_stream,
                "Answer with memory, as events: reasoning, text, end",
                ChatRequest,
                data="events",
            ),
            native(
                "/chat/stream/business_user",
                self.business,
                "As /chat/stream, for keys listed in BUSINESS_CHAT_KEYS",
                BusinessChatRequest,
                data="events",
            ),
        ]

    async def business(self, call: Call, asked: BusinessChatRequest) -> web.StreamResponse:
        """For keys that the operator lists in `BUSINESS_CHAT_KEYS` (a JSON list)."""
        if not any(hmac.compare_digest(asked.business_key.encode(), key.encode()) for key in self._business_keys):
            raise Forbidden("business_key is not one of this gateway's")
        if not asked.need_search:
            asked = asked.model_copy(update={"top_k": 0, "pref_top_k": 0, "search_tool_memory": False})
        return await self.chat_stream(call, asked)

    async def chat(self, call: Call, asked: ChatRequest) -> web.StreamResponse:
        if asked.stream:
            return await self.chat_stream(call, asked)
        return await self._answered_in_time(call, asked, "ok")

    async def chat_complete(self, call: Call, asked: ChatRequest) -> web.StreamResponse:
        return await self._answered_in_time(call, asked, "Chat completed successfully")

    async def chat_stream(self, call: Call, asked: ChatRequest) -> web.StreamResponse:
        """`reasoning`, `text`, then `end`; a failure in mid-stream is an `error` before the `end`."""
        exchange = await self._open(call, asked, stream=True)
        try:
            if exchange.status >= 400:
                raise upstream_error(exchange, await exchange.read())
            headers = {name: value for name, value in exchange.headers.items() if name.startswith("x-")}
            response = web.StreamResponse(headers=headers | CHAT_HEADERS)
            await response.prepare(call.request)
            async with contextlib.aclosing(chat_events(exchange)) as events:
                async for event in events:
                    await response.write(event)
            await response.write_eof()
            return response
        finally:
            exchange.close()

    async def _answered_in_time(self, call: Call, asked: ChatRequest, message: str) -> web.StreamResponse:
        if call.is_client:
            return await self._answered_once(call, asked, message)
        task = asyncio.create_task(self._run(call, asked), name="memos-chat")
        try:
            return await self._waited(call, task, message)
        finally:
            task.cancel()  # the client is gone, or it is done
            await asyncio.wait([task])

    async def _answered_once(self, call: Call, asked: ChatRequest, message: str) -> web.StreamResponse:
        """The client's own route: what it asks again, because it did not get the answer, is not asked of the model
        again. So the answer is finished even if the client has gone."""
        call.require(Right.CHAT)
        name = _fingerprint(call, asked)
        known = self._answer_of(name)
        if known is not None:
            return envelope(call.code, message, known["data"], known["headers"] | {"x-gateway-replayed": "true"})
        task = self._running.get(name)
        conversation = (call.tenant, asked.users, asked.session_id)
        for other in [one for one, kept in self._answered.items() if kept[2] == conversation]:
            del self._answered[other]  # the conversation goes on: asked once more, it is another question
        if task is None:
            task = call.desk.pipeline.owned(self._run(call, asked))
            self._running[name] = task
            task.add_done_callback(lambda done: self._keep(name, conversation, done))
            place_of(call.request).keep_for(task)  # also when the client has left
        response = await self._waited(call, task, message)
        if task.exception() is None and not task.result()["is_kept"]:
            self._answered.pop(name, None)  # it arrived, and asking once more is a question of its own
        return response

    async def _waited(self, call: Call, task: "asyncio.Task[dict[str, Any]]", message: str) -> web.StreamResponse:
        await asyncio.wait([task], timeout=self._silence)
        if task.done():
            found = task.result()
            return envelope(call.code, message, found["data"], found["headers"])
        return await self._spaced(call, task, message)

    async def _spaced(self, call: Call, task: "asyncio.Task[dict[str, Any]]", message: str) -> web.StreamResponse:
        """White space while the model thinks, then the envelope. The status is 200 by then, whatever comes."""
        response = web.StreamResponse(headers={"content-type": "application/json", "cache-control": "no-cache"})
        await response.prepare(call.request)
        while not task.done():
            await response.write(b" ")
            await asyncio.wait([task], timeout=self._silence / 2)
        try:
            body = {"code": call.code, "message": message, "data": task.result()["data"]}
        except GatewayError as error:
            body = {"code": error.status, "message": error.message, "data": None}
        except Exception:  # noqa: BLE001 — the head is sent: what the outermost handler would say is said here
            _log.exception("late_answer_failed")
            body = {"code": 500, "message": "the gateway failed; the request id tells where to look", "data": None}
        await response.write(orjson.dumps(body))
        await response.write_eof()
        return response

    async def _run(self, call: Call, asked: ChatRequest) -> dict[str, Any]:
        """The whole answer."""
        exchange = await self._open(call, asked, stream=False)
        try:
            body = await exchange.read()
            if exchange.status >= 400:
                raise upstream_error(exchange, body)
        finally:
            exchange.close()
        plain = ChatDialect().read_plain(body)
        answer = exchange.answer if plain is None else plain  # what is remembered has no citations, this has
        if answer is None or not (answer.text or answer.reasoning or answer.finish_reason or answer.has_tool_calls):
            raise UpstreamFailed(f"the upstream {exchange.upstream} answered {exchange.status}, but not with an answer")
        response, reasoning = answer.text or "", answer.reasoning
        if asked.async_mode == "sync" and exchange.turn.mode.writes:
            await call.desk.drained(self._silence)
        data = {"response": response, "reasoning": reasoning}
        return {"data": data, "headers": exchange.headers, "is_kept": exchange.turn.mode.writes}

    def _keep(self, name: str, conversation: tuple[Any, ...], task: "asyncio.Task[dict[str, Any]]") -> None:
        self._running.pop(name, None)
        if not task.cancelled() and task.exception() is None:
            self._answered[name] = (time.monotonic(), task.result(), conversation)
            if len(self._answered) > _KEPT:
                self._answered.popitem(last=False)

    def _answer_of(self, name: str) -> dict[str, Any] | None:
        kept = self._answered.get(name)
        return kept[1] if kept is not None and time.monotonic() - kept[0] < _SAME_WITHIN else None

    async def _open(self, call: Call, asked: ChatRequest, *, stream: bool) -> Exchange:
        return await call.desk.pipeline.open((await prepare(call, asked, stream=stream)).turn)


def _business_keys() -> tuple[str, ...]:
    """Raises ConfigError if the environment has something else than a list of keys."""
    try:
        keys = orjson.loads(os.environ.get("BUSINESS_CHAT_KEYS") or "[]")
    except orjson.JSONDecodeError:
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
        raise ConfigError("the environment variable BUSINESS_CHAT_KEYS must be a JSON list of keys")
    return tuple(keys)


async def prepare(call: Call, asked: ChatRequest, *, stream: bool, layout: Layout | None = None) -> PreparedChat:
    """The turn of a chat: its scopes, its prompt without memories, what it wants of recall. Raises GatewayError."""
    call.require(Right.CHAT)
    defaults = await call.desk.defaults.of(call.tenant)
    access = await call.access(asked)
    model = asked.model_name_or_path or defaults.model
    try:
        route = call.desk.pipeline.forwarder.route(model)
    except NotFound as error:
        raise BadRequest(error.message, code="model_not_found", param="model_name") from error
    most = asked.max_tokens or defaults.max_tokens
    window = route.upstream.config.context_window
    if window is not None:
        most = max(1, min(most, window - _RESERVED))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC, %A")
    custom = defaults.system_prompt if asked.system_prompt is None else asked.system_prompt
    dialect = MemosDialect(custom, asked.query, now, layout)
    history = (asked.history or [])[-_HISTORY:]
    if asked.history is None and asked.session_id is not None:
        await call.desk.caught_up(access.identity, _CATCHING_UP)
        history = await call.desk.pipeline.recall.conversation(access.identity, _HISTORY)
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": dialect.system_prompt("")},
            *history,
            {"role": "user", "content": asked.query},
        ],
        "temperature": defaults.temperature if asked.temperature is None else asked.temperature,
        "top_p": defaults.top_p if asked.top_p is None else asked.top_p,
        "max_tokens": most,
        "stream": stream,
    }
    is_kept = defaults.add_message_on_answer if asked.add_message_on_answer is None else asked.add_message_on_answer
    ask = Ask(model=model, stream=stream, messages=(asked.query,), query=asked.query, max_tokens=most)
    turn = call.turn(access.identity, ask=ask, dialect=dialect)
    turn = replace(
        turn,
        raw=orjson.dumps(body),
        body=body,
        mode=MemoryMode.ON if is_kept else MemoryMode.READ,
        wanted=await _wanted(call, asked, access),
        tags=asked.custom_tags,
        metadata=asked.metadata,
        agent_id=asked.agent,
        app_id=asked.app_id,
    )
    return PreparedChat(turn, access)


async def _wanted(call: Call, asked: ChatRequest, access: Access) -> Wanted:
    defaults = await call.desk.defaults.of(call.tenant)
    texts = defaults.top_k if asked.top_k is None else asked.top_k
    if texts is None:
        texts = call.usual_texts
    liked = defaults.pref_top_k if asked.pref_top_k is None else asked.pref_top_k
    has_liked = defaults.include_preference if asked.include_preference is None else asked.include_preference
    most = MOST_ON_CLIENT_ROUTES if call.is_client else 100
    return Wanted(
        text=min(texts, most),
        preference=min(liked, most) if has_liked else 0,
        tool=min(asked.tool_mem_top_k, most) if asked.search_tool_memory else 0,
        skill=min(asked.skill_mem_top_k, most) if asked.include_skill_memory else 0,
        min_relativity=defaults.relativity if asked.relativity is None else asked.relativity,
        keeps_standing=True,
        threshold=defaults.threshold if asked.threshold is None else asked.threshold,
        is_fine=asked.mode == "fine",
        allows=access.by_scope,
    )


def upstream_error(exchange: Exchange, body: bytes) -> GatewayError:
    """An upstream's refusal in MemOS' form: its status, its message."""
    try:
        message = str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"the upstream {exchange.upstream} answered {exchange.status}"
    error = GatewayError(message)
    error.status = exchange.status
    return error


def _fingerprint(call: Call, asked: ChatRequest) -> str:
    """The same request of the same key holder, whatever its white space."""
    said: Mapping[str, Any] = asked.model_dump(mode="json")
    principal = (call.principal.tenant, call.principal.user, call.is_client)
    return hashlib.sha256(orjson.dumps([principal, said], option=orjson.OPT_SORT_KEYS)).hexdigest()
