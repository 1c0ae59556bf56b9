"""Memories as JSON: the form that all routes of the memory API share."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.memory.cascade import Deletion
from gateway.memory.profile import of_profile
from gateway.memory.record import Origin, Record
from gateway.memory.versions import valid_from, valid_to
from gateway.prompt.assemble import when
from gateway.service.memories import MemoryService
from gateway.storage.protocols import Registry
from gateway.turn import Scope

__all__ = ["MemoryWriter", "iso", "json_response"]

_MAX_ON_LOOP: Final = 50  # memories; more are serialized in a thread


class MemoryWriter:
    """Serializes memories, with what is known of their scopes."""

    def __init__(self, memory_service: MemoryService, registry: Registry) -> None:
        self._memory_service = memory_service
        self._registry = registry

    async def serialize(
        self, records: Sequence[Record], in_force: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """The memories as JSON values, in their order. `in_force`: the ids of the profile, if they are known already.
        Raises MemoryUnavailable."""
        scopes = {value: await self._registry.scope(value) for value in {record.scope for record in records}}
        profile = await self.profile_ids(filter(of_profile, records)) if in_force is None else in_force

        def build() -> list[dict[str, Any]]:
            return [_serialize(record, scopes[record.scope], record.id in profile) for record in records]

        return build() if len(records) <= _MAX_ON_LOOP else await asyncio.to_thread(build)

    async def serialize_deletion(
        self, deletion: Deletion, in_force: Collection[str], *, is_preview: bool
    ) -> dict[str, Any]:
        """The effects of a deletion as JSON. `in_force`: the ids of the profile before it."""
        direct, derived, updated = deletion.direct, deletion.derived, deletion.updated
        items = await self.serialize([*direct, *derived, *updated], in_force)
        ends = len(direct), len(direct) + len(derived)
        return {
            "object": "deletion",
            "preview": is_preview,
            "count": deletion.count,
            "data": items[: ends[0]],
            "derived": items[ends[0] : ends[1]],
            "updated": items[ends[1] :],
        }

    async def profile_ids(self, records: Iterable[Record]) -> set[str]:
        """The ids of the standing preferences and facts about the user that no newer ones replace, in the scopes of
        these records."""
        scopes = [await self._registry.scope(value) for value in {record.scope for record in records}]
        profiles = [await self._memory_service.profile(scope) for scope in scopes if scope is not None]
        return {record.id for profile in profiles for record in profile}


def _serialize(record: Record, scope: Scope | None, is_standing: bool) -> dict[str, Any]:
    begin, end = iso(valid_from(record)), valid_to(record)
    until = None if end is None else iso(end)
    return {
        "id": record.id,
        "user": (scope.owner if scope else "") or record.user_id,
        "cube": record.cube_id,
        "kind": record.kind,
        "title": record.details.title or None,
        "text": record.text,
        "source": record.source,
        "speaker": record.origin.speaker or None,
        "is_learnt": record.is_extracted,
        "is_standing": is_standing,
        "topic": record.details.topic or None,
        "status": record.status,
        "confidence": record.confidence,
        "tags": list(record.tags),
        "metadata": dict(record.metadata),
        "session_id": record.session_id,
        "agent_id": record.agent_id or None,
        "app_id": record.app_id or None,
        "message_id": record.message_id or None,
        "part": record.part,
        "at": iso(record.event_time),
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
        "valid_from": begin,
        "valid_to": until,
        "earlier": [{"valid_from": iso(first), "valid_to": iso(last)} for first, last in record.validity.earlier],
        "from": begin,
        "until": until,
        "replaces": list(record.lineage.supersedes),
        "replaced_by": record.lineage.superseded_by or None,
        "edit_of": record.lineage.edit_of or None,
        "rests_on": list(record.links),
        "origin": _serialize_origin(record.origin),
        "version": record.version,
    }


def _serialize_origin(origin: Origin) -> dict[str, Any] | None:
    """The place that a memory comes from; None if it is not known."""
    fields = {
        "file_ids": list(origin.file_ids),
        "file_name": origin.file_name,
        "chunk": origin.chunk,
        "page": origin.page,
        "heading": origin.heading,
        "message_id": origin.message_id,
    }
    return {name: value for name, value in fields.items() if value not in ("", None, [])} or None


def iso(at: float) -> str:
    """A time in ISO 8601, to the microsecond: clients send it back as `as_of`."""
    return when(at).isoformat()


def json_response(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
