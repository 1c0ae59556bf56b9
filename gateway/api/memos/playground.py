"""The playground's chat stream: statuses, references, preferences, the answer with citations, times, suggestions.

It searches twice, the second time with the question as rephrased by a model. The answer cites memories by marks; an
event never contains part of a mark.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from gateway.api.memos.block import Citations
from gateway.api.memos.chat import PreparedChat, prepare, upstream_error
from gateway.api.memos.envelope import Call, Operation, native
from gateway.api.memos.events import CHAT_HEADERS, CitationKeeper, answer_pieces, event
from gateway.api.memos.items import distinct, native_item, preference_text
from gateway.api.memos.models import ChatRequest
from gateway.errors import GatewayError
from gateway.llm.questions import rephrase, suggest
from gateway.memory.kinds import group_of
from gateway.memory.recalled import Memory, MemoryStatus, Recalled
from gateway.text.terms import is_cjk

__all__ = ["playground_operations"]

_FIRST_SEARCH, _SECOND_SEARCH = 20, 100
_FIRST_REFERENCES, _REFERENCES = 5, 50
_MAX_CITED = 10
_WHOLE_HISTORY: Final = (
    20_000  # assumed characters of a prompt with the full history instead of memories, for `speed_improvement`
)

PlaygroundEvent = dict[str, Any]


def playground_operations() -> list[Operation]:
    return [
        native(
            "/chat/stream/playground",
            playground,
            "Answer with memory, as a stream with references, citations and suggestions",
            ChatRequest,
            data="events",
        )
    ]


async def playground(call: Call, request: ChatRequest) -> web.StreamResponse:
    prepared = await prepare(
        call, request, stream=True, layout=Citations()
    )  # errors are raised before the head is sent
    response = web.StreamResponse(headers=CHAT_HEADERS)
    await response.prepare(call.request)
    async with contextlib.aclosing(_events(call, request, prepared)) as events:
        async for body in events:
            await response.write(event(body))
    await response.write_eof()
    return response


async def _events(call: Call, request: ChatRequest, prepared: PreparedChat) -> AsyncGenerator[PlaygroundEvent]:
    began = time.monotonic()
    recalled = Recalled(MemoryStatus.MISS)
    answer_texts: list[str] = []
    try:
        async with contextlib.aclosing(_search_twice(call, request, prepared)) as search_items:
            async for item in search_items:
                if isinstance(item, Recalled):
                    recalled = item
                else:
                    yield item
        async with contextlib.aclosing(_stream_answer(call, prepared, recalled)) as answer:
            async for body in answer:
                if body["type"] == "text":
                    answer_texts.append(body["data"])
                yield body
    except GatewayError as error:
        yield {"type": "error", "data": error.message, "content": error.message, "code": error.status}
        yield {"type": "end"}
        return
    size = sum(len(str(message)) for message in prepared.turn.body["messages"])
    gain = max(0.0, 1 - size / _WHOLE_HISTORY) * 100
    yield {
        "type": "time",
        "data": {"total_time": round(time.monotonic() - began, 2), "speed_improvement": f"{gain:.1f}%"},
    }
    yield {"type": "suggestion", "data": await _suggest_questions(call, request, "".join(answer_texts))}
    yield {"type": "end"}


async def _search_twice(
    call: Call, request: ChatRequest, prepared: PreparedChat
) -> AsyncGenerator["PlaygroundEvent | Recalled"]:
    """Search twice: yields the events of both searches, and at last the memories for the prompt."""
    options = replace(prepared.turn.recall_options, text=_FIRST_SEARCH, threshold=0.0)
    yield {"type": "status", "data": "0"}
    first = await call.search(prepared.access, request.query, options)
    yield {"type": "status", "data": "1"}
    yield {"type": "reference", "data": _format_references(first, _FIRST_REFERENCES)}
    preferences = [memory for memory in first if group_of(memory.record.kind) == "preference"]
    if options.preference:
        yield {"type": "pref_md_string", "data": preference_text([memory.record for memory in preferences])}
    timeout = call.services.config.memory.extraction.timeout
    rephrased = await rephrase(call.services.model_client, request.query, timeout)
    second = await call.search(prepared.access, rephrased, replace(options, text=_SECOND_SEARCH)) if rephrased else []
    memories = distinct([*first, *second])
    yield {"type": "reference", "data": _format_references(memories, _REFERENCES)}
    texts = [memory for memory in memories if group_of(memory.record.kind) != "preference"][:_MAX_CITED]
    yield Recalled(MemoryStatus.HIT if texts or preferences else MemoryStatus.MISS, (*preferences, *texts))


async def _stream_answer(call: Call, prepared: PreparedChat, recalled: Recalled) -> AsyncGenerator[PlaygroundEvent]:
    turn_response = await call.services.pipeline.open(replace(prepared.turn, recalled=recalled))
    keeper = CitationKeeper()
    state = ""
    try:
        if turn_response.status >= 400:
            raise upstream_error(turn_response, await turn_response.read())
        async with contextlib.aclosing(answer_pieces(turn_response)) as pieces:
            async for kind, words in pieces:
                if kind == "reasoning" and state == "":
                    state = "reasoning"
                    yield {"type": "status", "data": state}
                if kind == "text" and state == "reasoning":
                    state = "2"
                    yield {"type": "status", "data": state}
                text = words if kind == "reasoning" else keeper.feed(words)
                if text:
                    yield {"type": kind, "data": text}
        if rest := keeper.end():
            yield {"type": "text", "data": rest}
    finally:
        turn_response.close()


def _format_references(memories: Sequence[Memory], limit: int) -> list[dict[str, Any]]:
    items = []
    for memory in memories[:limit]:
        item = native_item(memory.record, memory.relativity)
        items.append({"metadata": {**item["metadata"], "ref_id": memory.record.id[:8], "embedding": [], "sources": []}})
    return items


async def _suggest_questions(call: Call, request: ChatRequest, answer: str) -> list[str]:
    language = "zh" if is_cjk(request.query) else "en"
    timeout = call.services.config.memory.extraction.timeout
    return await suggest(
        call.services.model_client, [text for text in (request.query, answer) if text.strip()], language, timeout
    )
