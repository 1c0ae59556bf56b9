"""Extraction of memories while the caller waits, for both route families.

Extracted items pass the same checks as in background extraction, but are not reconciled with existing memories.
Without a model the user's own words are returned.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from gateway.api.memos.envelope import Access, Call, Operation, client
from gateway.api.memos.manage_models import ExtractRequest
from gateway.concurrency.offload import offload
from gateway.errors import BadRequest
from gateway.extraction.items import Item
from gateway.formats.chat import text_of
from gateway.memory.record import Record
from gateway.remember.preferences import ABOUT_ONESELF, EXPLICIT, preferences
from gateway.service.memories import Outdated
from gateway.turn import Identity, Scope, Turn

__all__ = ["extract_and_store", "extracting_operations"]

_KEY_LENGTH: Final = 60  # characters of a text that form its key
_ROLES: Final = ("user", "assistant", "tool")


def extracting_operations() -> list[Operation]:
    return [
        client(
            "/extract/memory",
            extract_memory,
            "Extract memories from a conversation without storing them",
            ExtractRequest,
        )
    ]


async def extract_memory(call: Call, request: ExtractRequest) -> dict[str, Any]:
    size = sum(len(text_of(message.get("content"))) for message in request.messages)
    records = await offload(partial(_message_records, call, request), size)
    if not records:
        raise BadRequest("messages: there is no text in them", param="messages")
    extracted_items = await call.services.extractor.extract(records)
    facts, preference_items = (
        await offload(partial(_extract_by_patterns, records), size)
        if extracted_items is None
        else _format_items(extracted_items)
    )
    return {
        "success": True,
        "memory_detail_list": facts if "memory" in request.extraction_types else [],
        "preference_detail_list": preference_items if "preference" in request.extraction_types else [],
    }


async def extract_and_store(call: Call, access: Access, turn: Turn, records: Sequence[Record]) -> list[Record]:
    """Extract facts from stored messages with a model, and store them with links to their source messages.

    Returns the new records; none without a model. The messages themselves are stored already.
    """
    scope, session_id = access.identity.writes[0], access.identity.session_id
    added, sources = await call.services.extractor.build_records(scope, session_id, records, turn.received_at)
    if not added:
        return []
    try:
        async with call.services.memory_service.unchanged(sources):
            return await call.keep(turn, added)
    except Outdated:  # a message was deleted while the model worked
        return []


def _message_records(call: Call, request: ExtractRequest) -> list[Record]:
    """Convert the messages to transient records, which are not stored."""
    no_scope = Scope("", call.tenant, "")
    turn = call.turn(Identity("", "", (), ()))
    texts = [(message.get("role"), text_of(message.get("content")).strip()) for message in request.messages]
    return [
        call.services.remember.make(turn, no_scope, role, text, index=index)
        for index, (role, text) in enumerate(texts)
        if role in _ROLES and text
    ]


def _extract_by_patterns(records: Sequence[Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Facts and preferences without a model: the user's messages, and the preferences that patterns match in them."""
    user_texts = [record.text for record in records if record.source == "user"]
    statements = [
        preference for text in user_texts for preference in preferences(text) if preference.topic != ABOUT_ONESELF
    ]
    preference_items = [_preference_item(preference.text, preference.topic, EXPLICIT) for preference in statements]
    return [_fact_item(text) for text in user_texts], preference_items


def _format_items(extracted_items: Sequence[Item]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    facts = [_fact_item(item.text) for item in extracted_items if item.kind == "fact"]
    preference_items = [
        _preference_item(item.text, item.details.reasoning, item.details.preference_type)
        for item in extracted_items
        if item.kind == "preference"
    ]
    return facts, preference_items


def _fact_item(text: str) -> dict[str, Any]:
    return {"memory_key": text[:_KEY_LENGTH], "memory_value": text, "memory_type": "UserMemory", "tags": []}


def _preference_item(text: str, reasoning: str, type_: str) -> dict[str, Any]:
    return {"preference": text, "reasoning": reasoning, "preference_type": type_}
