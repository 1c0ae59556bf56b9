"""The playground's chat: statuses, references, preferences, the answer with citations, times, suggestions.

Two searches, the second with the question as a model rephrases it; the answer cites memories by marks that no event
ever cuts in two.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from gateway.asking import rephrase, suggest
from gateway.errors import GatewayError
from gateway.store.terms import is_cjk
from gateway.turn import Memory, MemoryStatus, Recalled, group_of
from gateway.wire.memos.chat import PreparedChat, prepare, upstream_error
from gateway.wire.memos.envelope import Call, Operation, native
from gateway.wire.memos.events import CHAT_HEADERS, CitationKeeper, event, said_pieces
from gateway.wire.memos.items import distinct, native_item, preference_text
from gateway.wire.memos.models import ChatRequest
from gateway.wire.memos.prompt import Citations

__all__ = ["playground_operations"]

_FIRST_SEARCH, _SECOND_SEARCH = 20, 100
_FIRST_REFERENCES, _REFERENCES = 5, 50
_CITED = 10
_WHOLE_HISTORY: Final = (
    20_000  # characters of a prompt that would do without memory; the formula of `speed_improvement`
)

Event = dict[str, Any]


def playground_operations() -> list[Operation]:
    return [
        native(
            "/chat/stream/playground",
            playground,
            "Answer with memory, as events, with references, citations and suggestions",
            ChatRequest,
            data="events",
        )
    ]


async def playground(call: Call, asked: ChatRequest) -> web.StreamResponse:
    prepared = await prepare(call, asked, stream=True, layout=Citations())  # what is refused is refused before the head
    response = web.StreamResponse(headers=CHAT_HEADERS)
    await response.prepare(call.request)
    async with contextlib.aclosing(_events(call, asked, prepared)) as events:
        async for one in events:
            await response.write(event(one))
    await response.write_eof()
    return response


async def _events(call: Call, asked: ChatRequest, prepared: PreparedChat) -> AsyncGenerator[Event]:
    began = time.monotonic()
    recalled = Recalled(MemoryStatus.MISS)
    answered: list[str] = []
    try:
        async with contextlib.aclosing(_searched(call, asked, prepared)) as searched:
            async for found in searched:
                if isinstance(found, Recalled):
                    recalled = found
                else:
                    yield found
        async with contextlib.aclosing(_answer(call, prepared, recalled)) as answer:
            async for one in answer:
                if one["type"] == "text":
                    answered.append(one["data"])
                yield one
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
    yield {"type": "suggestion", "data": await _suggestions(call, asked, "".join(answered))}
    yield {"type": "end"}


async def _searched(call: Call, asked: ChatRequest, prepared: PreparedChat) -> AsyncGenerator["Event | Recalled"]:
    """The events of both searches, and at the end what goes into the prompt."""
    wanted = replace(prepared.turn.wanted, text=_FIRST_SEARCH, threshold=0.0)
    yield {"type": "status", "data": "0"}
    first = await call.search(prepared.access, asked.query, wanted)
    yield {"type": "status", "data": "1"}
    yield {"type": "reference", "data": _references(first, _FIRST_REFERENCES)}
    liked = [memory for memory in first if group_of(memory.record.kind) == "preference"]
    if wanted.preference:
        yield {"type": "pref_md_string", "data": preference_text([memory.record for memory in liked])}
    timeout = call.desk.config.memory.extraction.timeout
    again = await rephrase(call.desk.asker, asked.query, timeout)
    second = await call.search(prepared.access, again, replace(wanted, text=_SECOND_SEARCH)) if again else []
    both = distinct([*first, *second])
    yield {"type": "reference", "data": _references(both, _REFERENCES)}
    texts = [memory for memory in both if group_of(memory.record.kind) != "preference"][:_CITED]
    yield Recalled(MemoryStatus.HIT if texts or liked else MemoryStatus.MISS, (*liked, *texts))


async def _answer(call: Call, prepared: PreparedChat, recalled: Recalled) -> AsyncGenerator[Event]:
    exchange = await call.desk.pipeline.open(replace(prepared.turn, recalled=recalled))
    keeper = CitationKeeper()
    state = ""
    try:
        if exchange.status >= 400:
            raise upstream_error(exchange, await exchange.read())
        async with contextlib.aclosing(said_pieces(exchange)) as pieces:
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
        exchange.close()


def _references(memories: Sequence[Memory], most: int) -> list[dict[str, Any]]:
    items = []
    for memory in memories[:most]:
        item = native_item(memory.record, memory.relativity)
        items.append({"metadata": {**item["metadata"], "ref_id": memory.record.id[:8], "embedding": [], "sources": []}})
    return items


async def _suggestions(call: Call, asked: ChatRequest, answer: str) -> list[str]:
    language = "zh" if is_cjk(asked.query) else "en"
    timeout = call.desk.config.memory.extraction.timeout
    return await suggest(call.desk.asker, [text for text in (asked.query, answer) if text.strip()], language, timeout)
