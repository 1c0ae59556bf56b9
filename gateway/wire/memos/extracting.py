"""What a model finds in messages when somebody waits for it, in both families: checked as what is learnt in the
background is, but compared with nothing that is known. Without a model: the user's own words.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from gateway.errors import BadRequest
from gateway.learn import items
from gateway.learn.items import Item
from gateway.learn.lesson import lesson_of
from gateway.learn.reconcile import Decision
from gateway.learn.window import window_of
from gateway.offload import offload
from gateway.recall.library import Outdated
from gateway.remember.preferences import ABOUT_ONESELF, EXPLICIT, preferences
from gateway.remember.suspicion import suspicions
from gateway.turn import Identity, Record, Scope, Turn
from gateway.wire.dialects.chat import text_of
from gateway.wire.memos.envelope import Access, Call, Operation, client
from gateway.wire.memos.manage_models import ExtractRequest

__all__ = ["extracted", "extracting_operations"]

_TOKENS = 8000  # of messages that a model is shown at once
_WINDOWS = 4  # that a caller waits for
_KEY: Final = 60  # characters of a text that name it
_ROLES: Final = ("user", "assistant", "tool")


def extracting_operations() -> list[Operation]:
    return [client("/extract/memory", extract_memory, "What a conversation says; stores nothing", ExtractRequest)]


async def extract_memory(call: Call, asked: ExtractRequest) -> dict[str, Any]:
    size = sum(len(text_of(message.get("content"))) for message in asked.messages)
    said = await offload(partial(_said, call, asked), size)
    if not said:
        raise BadRequest("messages: there is no text in them", param="messages")
    found = await _found(call, said)
    facts, liked = await offload(partial(_stated, said), size) if found is None else _made(found)
    return {
        "success": True,
        "memory_detail_list": facts if "memory" in asked.extraction_types else [],
        "preference_detail_list": liked if "preference" in asked.extraction_types else [],
    }


async def extracted(call: Call, access: Access, turn: Turn, said: Sequence[Record]) -> list[Record]:
    """Keep what a model makes of the messages, each linked to those it rests on; nothing without a model, the messages
    are kept anyway."""
    scope = access.identity.writes[0]
    own = [one for one in said if one.scope == scope.value and one.kind in ("turn", "tool")]
    stated = {one.text for one in said}
    new = [Decision(item, "unrelated") for item in await _found(call, own) or () if item.text not in stated]
    lesson = lesson_of(scope, access.identity.session_id, new, turn.received_at)
    if not lesson.added:
        return []
    try:
        async with call.desk.library.unchanged(own):
            return await call.keep(turn, lesson.added)
    except Outdated:  # somebody deleted a message while the model thought
        return []


async def _found(call: Call, said: Sequence[Record]) -> list[Item] | None:
    """What a model finds in messages, a window at a time; None where it answers nothing."""
    desk, found = call.desk, dict[tuple[str, str], Item]()
    size = sum(len(record.text) for record in said)
    before, left = list[Record](), await offload(partial(_unsuspicious, said), size)
    is_answered = False
    for _ in range(_WINDOWS):
        if not left:
            break
        window = window_of(before, left, _TOKENS, desk.pipeline.count)
        timeout = desk.config.memory.extraction.timeout
        answer = await desk.asker.ask(items.INSTRUCTIONS, window.text, items.SCHEMA, timeout=timeout)
        if answer is None:
            break
        is_answered = True
        for item in (await offload(partial(items.read_items, answer, window), size))[0]:
            found.setdefault((item.kind, item.text), item)
        before, left = list(window.new), left[len(window.new) :]
    return list(found.values()) if is_answered else None


def _unsuspicious(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if not suspicions(record.text)]


def _said(call: Call, asked: ExtractRequest) -> list[Record]:
    """The messages as records that nobody stores."""
    nowhere = Scope("", call.tenant, "")
    turn = call.turn(Identity("", "", (), ()))
    texts = [(message.get("role"), text_of(message.get("content")).strip()) for message in asked.messages]
    return [
        call.desk.remember.make(turn, nowhere, role, text, {}, index=index)
        for index, (role, text) in enumerate(texts)
        if role in _ROLES and text
    ]


def _stated(said: Sequence[Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Facts and preferences without a model: the user's own messages, and what patterns recognise in them."""
    own = [record.text for record in said if record.source == "user"]
    stated = [one for text in own for one in preferences(text) if one.topic != ABOUT_ONESELF]
    liked = [_preference(one.text, one.topic, EXPLICIT) for one in stated]
    return [_fact(text) for text in own], liked


def _made(found: Sequence[Item]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    facts = [_fact(item.text) for item in found if item.kind == "fact"]
    liked = [
        _preference(item.text, item.info["reasoning"], item.info["preference_type"])
        for item in found
        if item.kind == "preference"
    ]
    return facts, liked


def _fact(text: str) -> dict[str, Any]:
    return {"memory_key": text[:_KEY], "memory_value": text, "memory_type": "UserMemory", "tags": []}


def _preference(text: str, reasoning: str, type_: str) -> dict[str, Any]:
    return {"preference": text, "reasoning": reasoning, "preference_type": type_}
