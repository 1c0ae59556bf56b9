"""Handlers of the MemOS chat routes: plain, streamed, and the preparation that the playground shares.

A chat runs through the same pipeline as any other turn; only its prompt and the form of its answer differ.

The MemOS client times out after thirty seconds of silence and retries. A plain answer that is not ready after twenty
seconds therefore starts with white space, which JSON allows, and a repeated request joins the running one or gets its
stored answer.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
from aiohttp import web

from gateway.api.memos.block import MemosFormat
from gateway.api.memos.envelope import MOST_ON_CLIENT_ROUTES, Access, Call, Operation, client, envelope, native
from gateway.api.memos.events import CHAT_HEADERS, chat_events
from gateway.api.memos.models import BusinessChatRequest, ChatRequest
from gateway.errors import BadRequest, ConfigError, Forbidden, GatewayError, NotFound, UpstreamFailed
from gateway.formats.base import Layout, ParsedRequest
from gateway.formats.chat import ChatFormat
from gateway.memory.recalled import RecallOptions
from gateway.pipeline.response import TurnResponse
from gateway.server.limits import slot_of
from gateway.turn import MemoryMode, Right, Turn

__all__ = ["ChatHandlers", "PreparedChat", "Replays"]

_log = logging.getLogger("gateway.memos")
_CATCH_UP_TIMEOUT = 2.0  # seconds that a chat waits until the previous turn can be recalled
_HISTORY_MESSAGES = 20  # most recent messages of a conversation that are sent to the model
_RESERVED_TOKENS = 256  # tokens of the context window that `max_tokens` may not use
_REPEAT_WINDOW = 120.0  # seconds in which an identical request counts as a retry
_REPLAYED = {"x-gateway-replayed": "true"}
_MAX_ANSWERS = 256  # cached answers for client retries


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A chat that is ready to be sent to the model."""

    turn: Turn
    access: Access


class Replays(Protocol):
    """Answers that other processes have, too. `drop` and `clear` do not wait."""

    async def ask_once(
        self, fingerprint: str, conversation: Sequence[str | None], ask: Callable[[], Awaitable[dict[str, Any]]]
    ) -> tuple[dict[str, Any], bool]:
        """The answer to a request, and True if another process got it or has got it before; else `ask` gets it. An
        answer to an earlier question of the conversation is dropped."""

    def drop(self, fingerprint: str) -> None:
        """Drop an answer that was delivered."""

    def clear(self) -> None:
        """Drop all answers."""


class ChatHandlers:
    """The MemOS chat handlers, with a cache of recent answers for client retries; `replays` is one for all processes,
    in place of that of this one.

    Answers are cached for two minutes. `silence` is the time in seconds after which a plain answer sends white space.
    """

    def __init__(self, silence: float, replays: Replays | None = None) -> None:
        self._silence = silence
        self._replays = replays
        self._business_keys = _business_keys()
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._answers: OrderedDict[str, tuple[float, dict[str, Any], tuple[Any, ...]]] = OrderedDict()

    def forget(self, scopes: Collection[str]) -> None:
        """Clear the answer cache after memories were changed or deleted: cached answers may be based on them."""
        self._answers.clear()
        if self._replays is not None:
            self._replays.clear()

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
                "Answer with memory, as a stream of reasoning and text",
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

    async def business(self, call: Call, request: BusinessChatRequest) -> web.StreamResponse:
        """Stream a chat for one of the keys that the operator lists in `BUSINESS_CHAT_KEYS` (a JSON list)."""
        if not any(hmac.compare_digest(request.business_key.encode(), key.encode()) for key in self._business_keys):
            raise Forbidden("business_key is not one of this gateway's")
        if not request.need_search:
            nothing = {"top_k": 0, "pref_top_k": 0, "search_tool_memory": False, "include_skill_memory": False}
            request = request.model_copy(update=nothing)
        return await self.chat_stream(call, request)

    async def chat(self, call: Call, request: ChatRequest) -> web.StreamResponse:
        if request.stream:
            return await self.chat_stream(call, request)
        return await self._reply_in_time(call, request, "ok")

    async def chat_complete(self, call: Call, request: ChatRequest) -> web.StreamResponse:
        return await self._reply_in_time(call, request, "Chat completed successfully")

    async def chat_stream(self, call: Call, request: ChatRequest) -> web.StreamResponse:
        """Stream events: `reasoning`, `text`, then `end`; a failure in mid-stream is an `error` before the `end`."""
        turn_response = await self._open(call, request, stream=True)
        try:
            if turn_response.status >= 400:
                raise upstream_error(turn_response, await turn_response.read())
            headers = {name: value for name, value in turn_response.headers.items() if name.startswith("x-")}
            response = web.StreamResponse(headers=headers | CHAT_HEADERS)
            await response.prepare(call.request)
            async with contextlib.aclosing(chat_events(turn_response)) as events:
                async for event in events:
                    await response.write(event)
            await response.write_eof()
            return response
        finally:
            turn_response.close()

    async def _reply_in_time(self, call: Call, request: ChatRequest, message: str) -> web.StreamResponse:
        if call.is_client:
            return await self._reply_once(call, request, message)
        task = asyncio.create_task(self._run(call, request), name="memos-chat")
        try:
            return await self._wait_for_reply(call, task, message)
        finally:
            task.cancel()  # the client has disconnected, or the task is finished
            await asyncio.wait([task])

    async def _reply_once(self, call: Call, request: ChatRequest, message: str) -> web.StreamResponse:
        """Answer on a client route, where a retry never causes a second request to the model.

        The answer is therefore completed even if the client has disconnected.
        """
        call.require(Right.CHAT)
        fingerprint = _fingerprint(call, request)
        answer = self._find_answer(fingerprint)
        if answer is not None:
            return envelope(call.code, message, answer["data"], answer["headers"] | _REPLAYED)
        task = self._running.get(fingerprint)
        conversation = (call.tenant, request.users, request.session_id)
        self._forget_conversation(conversation)  # it continues: the same text is a new question now
        if task is None:
            task = call.services.tasks.start(self._ask_once(call, request, fingerprint, conversation))
            self._running[fingerprint] = task
            task.add_done_callback(lambda finished: self._store_answer(fingerprint, conversation, finished))
            slot_of(call.request).keep_for(task)  # also after the client has disconnected
        response = await self._wait_for_reply(call, task, message)
        if task.exception() is None and not task.result()["is_kept"]:
            self._answers.pop(fingerprint, None)  # delivered: the same request again is a new question
            if self._replays is not None:
                self._replays.drop(fingerprint)
        return response

    def _forget_conversation(self, conversation: tuple[Any, ...]) -> None:
        for stale_key in [key for key, entry in self._answers.items() if entry[2] == conversation]:
            del self._answers[stale_key]

    async def _ask_once(
        self, call: Call, request: ChatRequest, fingerprint: str, conversation: tuple[Any, ...]
    ) -> dict[str, Any]:
        """The answer of the model, or that which another process gets or has got for the same request."""
        if self._replays is None:
            return await self._run(call, request)
        answer, is_replay = await self._replays.ask_once(fingerprint, conversation, lambda: self._run(call, request))
        return {**answer, "headers": {**answer["headers"], **_REPLAYED}} if is_replay else answer

    async def _wait_for_reply(
        self, call: Call, task: "asyncio.Task[dict[str, Any]]", message: str
    ) -> web.StreamResponse:
        await asyncio.wait([task], timeout=self._silence)
        if task.done():
            result = task.result()
            return envelope(call.code, message, result["data"], result["headers"])
        return await self._reply_with_padding(call, task, message)

    async def _reply_with_padding(
        self, call: Call, task: "asyncio.Task[dict[str, Any]]", message: str
    ) -> web.StreamResponse:
        """Send white space until the model answers, then the envelope.

        The status line says 200 even if the request fails later; the envelope then has the error.
        """
        response = web.StreamResponse(headers={"content-type": "application/json", "cache-control": "no-cache"})
        await response.prepare(call.request)
        while not task.done():
            await response.write(b" ")
            await asyncio.wait([task], timeout=self._silence / 2)
        try:
            body = {"code": call.code, "message": message, "data": task.result()["data"]}
        except GatewayError as error:
            body = {"code": error.status, "message": error.message, "data": None}
        except Exception:  # noqa: BLE001 — the head is sent: report the failure as the outermost handler would
            _log.exception("late_answer_failed")
            body = {"code": 500, "message": "the gateway failed; the request id tells where to look", "data": None}
        await response.write(orjson.dumps(body))
        await response.write_eof()
        return response

    async def _run(self, call: Call, request: ChatRequest) -> dict[str, Any]:
        """Get the complete answer from the model. Raises GatewayError if the upstream fails or refuses."""
        turn_response = await self._open(call, request, stream=False)
        try:
            body = await turn_response.read()
            if turn_response.status >= 400:
                raise upstream_error(turn_response, body)
        finally:
            turn_response.close()
        plain = ChatFormat().read_plain(body)
        # the remembered answer has no citations, the plain one has
        answer = turn_response.answer if plain is None else plain
        if answer is None or not (answer.text or answer.reasoning or answer.finish_reason or answer.has_tool_calls):
            raise UpstreamFailed(
                f"the upstream {turn_response.source.upstream} answered {turn_response.status}, but not with an answer"
            )
        response, reasoning = answer.text or "", answer.reasoning
        if request.async_mode == "sync" and turn_response.turn.mode.writes:
            await call.services.searchable(self._silence)
        data = {"response": response, "reasoning": reasoning}
        return {"data": data, "headers": turn_response.headers, "is_kept": turn_response.turn.mode.writes}

    def _store_answer(
        self, fingerprint: str, conversation: tuple[Any, ...], task: "asyncio.Task[dict[str, Any]]"
    ) -> None:
        self._running.pop(fingerprint, None)
        if self._replays is not None or task.cancelled() or task.exception() is not None:
            return  # the conversation may go on in another process, which makes the answer outdated
        self._answers[fingerprint] = (time.monotonic(), task.result(), conversation)
        if len(self._answers) > _MAX_ANSWERS:
            self._answers.popitem(last=False)

    def _find_answer(self, fingerprint: str) -> dict[str, Any] | None:
        entry = self._answers.get(fingerprint)
        return entry[1] if entry is not None and time.monotonic() - entry[0] < _REPEAT_WINDOW else None

    async def _open(self, call: Call, request: ChatRequest, *, stream: bool) -> TurnResponse:
        return await call.services.pipeline.open((await prepare(call, request, stream=stream)).turn)


def _business_keys() -> tuple[str, ...]:
    """The keys from `BUSINESS_CHAT_KEYS`. Raises ConfigError if the variable is not a JSON list of keys."""
    try:
        keys = orjson.loads(os.environ.get("BUSINESS_CHAT_KEYS") or "[]")
    except orjson.JSONDecodeError:
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
        raise ConfigError("the environment variable BUSINESS_CHAT_KEYS must be a JSON list of keys")
    return tuple(keys)


async def prepare(call: Call, request: ChatRequest, *, stream: bool, layout: Layout | None = None) -> PreparedChat:
    """Build the turn of a chat: scopes, prompt without memories, recall options. Raises GatewayError."""
    call.require(Right.CHAT)
    defaults = await call.services.defaults.of(call.tenant)
    access = await call.access(request)
    model = request.model_name_or_path or defaults.model
    try:
        route = call.services.forwarder.route(model)
    except NotFound as error:
        raise BadRequest(error.message, code="model_not_found", param="model_name") from error
    max_tokens = request.max_tokens or defaults.max_tokens
    window = route.upstream.config.context_window
    if window is not None:
        max_tokens = max(1, min(max_tokens, window - _RESERVED_TOKENS))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC, %A")
    custom = defaults.system_prompt if request.system_prompt is None else request.system_prompt
    wire_format = MemosFormat(custom, request.query, now, layout)
    history = (request.history or [])[-_HISTORY_MESSAGES:]
    if request.history is None and request.session_id is not None:
        await call.services.caught_up(access.identity, _CATCH_UP_TIMEOUT)
        history = await call.services.recall.conversation(access.identity, _HISTORY_MESSAGES)
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": wire_format.system_prompt("")},
            *history,
            {"role": "user", "content": request.query},
        ],
        "temperature": defaults.temperature if request.temperature is None else request.temperature,
        "top_p": defaults.top_p if request.top_p is None else request.top_p,
        "max_tokens": max_tokens,
        "stream": stream,
    }
    writes = defaults.add_message_on_answer if request.add_message_on_answer is None else request.add_message_on_answer
    ask = ParsedRequest(
        model=model, stream=stream, messages=(request.query,), query=request.query, max_tokens=max_tokens
    )
    turn = call.turn(access.identity, ask=ask, wire_format=wire_format)
    turn = replace(
        turn,
        raw=orjson.dumps(body),
        body=body,
        mode=MemoryMode.ON if writes else MemoryMode.READ,
        recall_options=await _search_options(call, request, access),
        tags=request.custom_tags,
        metadata=request.metadata,
        agent_id=request.agent,
        app_id=request.app_id,
    )
    return PreparedChat(turn, access)


async def _search_options(call: Call, request: ChatRequest, access: Access) -> RecallOptions:
    defaults = await call.services.defaults.of(call.tenant)
    texts = defaults.top_k if request.top_k is None else request.top_k
    if texts is None:
        texts = call.usual_texts
    preferences = defaults.pref_top_k if request.pref_top_k is None else request.pref_top_k
    has_preferences = defaults.include_preference if request.include_preference is None else request.include_preference
    limit = MOST_ON_CLIENT_ROUTES if call.is_client else 100
    return RecallOptions(
        text=min(texts, limit),
        preference=min(preferences, limit) if has_preferences else 0,
        tool=min(request.tool_mem_top_k, limit) if request.search_tool_memory else 0,
        skill=min(request.skill_mem_top_k, limit) if request.include_skill_memory else 0,
        min_relativity=defaults.relativity if request.relativity is None else request.relativity,
        keeps_standing=True,
        threshold=defaults.threshold if request.threshold is None else request.threshold,
        is_fine=request.mode == "fine",
        allows=access.by_scope,
    )


def upstream_error(turn_response: TurnResponse, body: bytes) -> GatewayError:
    """Convert an upstream error response to a GatewayError with the same status and message."""
    try:
        message = str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"the upstream {turn_response.source.upstream} answered {turn_response.status}"
    error = GatewayError(message)
    error.status = turn_response.status
    return error


def _fingerprint(call: Call, request: ChatRequest) -> str:
    """Hash that identifies a request of a key holder; white space in the JSON does not matter."""
    content: Mapping[str, Any] = request.model_dump(mode="json")
    principal = (call.principal.tenant, call.principal.user, call.is_client)
    return hashlib.sha256(orjson.dumps([principal, content], option=orjson.OPT_SORT_KEYS)).hexdigest()
