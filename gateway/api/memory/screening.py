"""Changes of memories as plugins see them, before they are stored."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.errors import Forbidden
from gateway.formats.base import ParsedRequest
from gateway.formats.chat import ChatFormat
from gateway.memory.record import Record
from gateway.remember.remember import Remember
from gateway.turn import Identity, Principal, Turn

__all__ = ["build_turn", "screen_edit"]


def build_turn(
    request_id: str,
    principal: Principal,
    identity: Identity,
    *,
    path: str,
    headers: Mapping[str, str],
    received_at: float,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Turn:
    """The turn of a change that is no chat."""
    return Turn(
        id=request_id,
        started=time.perf_counter(),
        received_at=received_at,
        principal=principal,
        path=path,
        headers=headers,
        raw=b"",
        body={},
        ask=ParsedRequest(model="", stream=False),
        wire_format=ChatFormat(),
        identity=identity,
        user=identity.user_id,
        tags=tags,
        metadata=metadata or {},
    )


async def screen_edit(
    remember: Remember, turn: Turn, record: Record, text: str | None, title: str | None
) -> tuple[str | None, str | None]:
    """The new text and title of a memory after the plugins' store hook; None stays None. Raises Forbidden or
    PluginUnavailable."""
    if text is None and title is None:
        return None, None
    details = record.details if title is None else replace(record.details, title=title)
    screened = await remember.screened(turn, [replace(record, text=text or record.text, details=details)])
    if not screened:
        raise Forbidden("a plugin does not let this be stored")
    changed = screened[0]
    return None if text is None else changed.text, None if title is None else changed.details.title
