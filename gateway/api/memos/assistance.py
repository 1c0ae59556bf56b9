"""Routes for re-ranking, suggested questions, and the defaults of chats."""

from typing import Any

from gateway.api.memos.envelope import Call, Operation, client, native
from gateway.api.memos.manage_models import (
    RerankRequest,
    SuggestionRequest,
)
from gateway.concurrency.offload import offload
from gateway.formats.chat import text_of
from gateway.llm.questions import suggest
from gateway.memory.record import Record
from gateway.turn import Right

__all__ = ["assistance_operations"]

_MAX_RANKED_CHARACTERS = 4000  # characters of a document that re-ranking considers
_SUGGESTION_MESSAGES = 20  # most recent messages that suggestions are based on


def assistance_operations() -> list[Operation]:
    return [
        client("/rerank", rerank, "Rank texts by relevance to a query", RerankRequest),
        native(
            "/suggestions",
            suggestions,
            "Suggest three questions to ask next",
            SuggestionRequest,
            message="Suggestions retrieved successfully",
        ),
        native(
            "/configure",
            configure,
            "Change defaults of chats at run time (right `admin`)",
            message="Configuration set successfully",
        ),
        native("/configure", configuration, "Get the defaults of chats (right `admin`)", method="GET"),
    ]


async def rerank(call: Call, request: RerankRequest) -> Any:
    """Rank texts by the gateway's relevance: lexical and semantic. The result is at the top level and in `data`."""
    order = await call.services.recall.rank_texts(
        request.query, [text[:_MAX_RANKED_CHARACTERS] for text in request.documents]
    )
    results = [
        {"index": index, "document": {"text": request.documents[index]}, "relevance_score": round(score, 4)}
        for index, score in order[: request.top_n or len(order)]
    ]
    texts = (request.query, *request.documents)
    tokens = await offload(lambda: sum(map(call.services.count, texts)), sum(map(len, texts)))
    result = {
        "id": f"rerank-{call.request_id}",
        "model": request.model or "memory-gateway",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
    return call.whole({"code": call.code, "message": "ok", **result, "data": result})


async def suggestions(call: Call, request: SuggestionRequest) -> dict[str, Any]:
    if request.message:
        texts = [text_of(message.get("content")).strip() for message in request.message]
    else:
        access = await call.access(request)
        records: list[Record] = []
        for scope in access.identity.reads:
            records += await call.services.memory_service.records(
                scope, lambda record: record.source == "user" and record.status == "activated"
            )
        records.sort(key=lambda record: -record.event_time)
        texts = [record.text for record in records[:_SUGGESTION_MESSAGES]]
    timeout = call.services.config.memory.extraction.timeout
    questions = await suggest(call.services.model_client, [text for text in texts if text], request.language, timeout)
    return {"query": questions}


async def configure(call: Call, _: None) -> None:
    call.require(Right.ADMIN)
    await call.services.defaults.change(call.tenant, await call.json())


async def configuration(call: Call, _: None) -> dict[str, Any]:
    call.require(Right.ADMIN)
    return (await call.services.defaults.of(call.tenant)).model_dump()
