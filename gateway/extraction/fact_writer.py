"""Stores extracted items: compares them with stored memories and writes all changes in one step, or none."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.extraction import items, reconcile
from gateway.extraction.items import Item
from gateway.extraction.result import ExtractionResult, build_result, restore_extracted
from gateway.extraction.window import Window
from gateway.memory.kinds import group_of
from gateway.memory.recalled import MemoryStatus, Recalled, RecallOptions
from gateway.memory.record import Record
from gateway.memory.versions import is_archived_by_request
from gateway.service.memories import MemoryService
from gateway.telemetry import Telemetry
from gateway.turn import Scope

__all__ = ["FactWriter", "MemoryBusy", "ScreenRecords", "SearchSimilar"]

_NEAR = 4  # stored memories that a new item is compared with
_NEAR_ENOUGH = 0.15  # relevance of a note that shares a word with a new item
_CLOSE = 0.45  # relevance from which a note is compared without a common word

SearchSimilar = Callable[[Sequence[Scope], str, RecallOptions], Awaitable[Recalled]]
ScreenRecords = Callable[[Scope, Sequence[Record]], Awaitable[Sequence[Record]]]


class MemoryBusy(Exception):
    """Extraction from a conversation is not possible now; the message is a short word that says why."""


class FactWriter:
    """Stores the items extracted from a window. `search` finds similar memories, `screen` lets plugins see new ones."""

    def __init__(
        self, memory_service: MemoryService, telemetry: Telemetry, search: SearchSimilar, screen: ScreenRecords
    ) -> None:
        self._memory_service = memory_service
        self._telemetry = telemetry
        self._search = search
        self._screen = screen

    async def keep(self, scope: Scope, window: Window, answer: Mapping[str, Any], ask: reconcile.AskModel) -> None:
        """Store the items of a model's answer to a window. `ask` sends new notes with similar old ones to a model.

        Raises Outdated if a source has changed meanwhile; NotNow, MemoryUnavailable or PluginUnavailable.
        """
        extracted, dropped = await asyncio.to_thread(items.read_items, answer, window)
        for reason, count in dropped.items():
            self._telemetry.bound("learned", reason).inc(count)
        if not extracted:
            return
        compared = [(item, await self._find_similar(scope, item)) for item in extracted]
        decisions = await reconcile.decide(compared, ask)
        extraction_result = build_result(scope, window.new[0].session_id, decisions, time.time())
        stored = {
            record.id: record
            for record in await self._memory_service.known(scope, [record.id for record in extraction_result.added])
        }
        extraction_result = await self._filter_result(extraction_result, stored)
        added, restored = await self._split_new(scope, extraction_result.added, stored)
        basis = (*window.records, *(old for decision in decisions for old in decision.old))
        seen = {record.id: record for record in basis}.values()
        await self._memory_service.revise([*extraction_result.changed, *restored], added, seen)
        for decision in decisions:
            self._telemetry.bound("learned", decision.relation).inc()

    async def told(self, scope: Scope, messages: Sequence[Record]) -> set[str]:
        """The ids of those messages from which items are stored, without messages edited since."""
        ids = {record.id for record in messages if not record.lineage.edited_in}

        def rests_on_them(record: Record) -> bool:
            is_note = record.is_background and record.status == "activated"
            return is_note and not ids.isdisjoint(record.links)

        notes = await self._memory_service.records(scope, rests_on_them)
        return ids.intersection(link for record in notes for link in record.links)

    async def _find_similar(self, scope: Scope, item: Item) -> list[Record]:
        """Stored memories of the same kind and user that may be about the same thing. Raises NotNow."""
        source_ids, user = {source.id for source in item.sources}, item.sources[-1].user_id
        group = group_of(item.kind)

        def allows(record: Record) -> bool:
            is_note = record.is_extracted or record.kind != "tool"  # plain tool records are calls, not notes
            is_whole = not record.is_summary  # a summary says more than one thing
            return (
                record.kind == item.kind
                and record.user_id == user
                and is_note
                and is_whole
                and record.id not in source_ids
            )

        request = RecallOptions(
            text=_NEAR * (group == "text"),
            preference=_NEAR * (group == "preference"),
            tool=_NEAR * (group == "tool"),
            skill=_NEAR * (group == "skill"),
            min_relativity=_NEAR_ENOUGH,
            allows={scope.value: allows},
        )
        recalled = await self._search([scope], item.text, request)
        if recalled.status is MemoryStatus.DEGRADED:
            raise MemoryBusy(recalled.reason or "degraded")
        # in a small memory even the nearest notes may be about something else
        return [
            memory.record
            for memory in recalled.memories
            if memory.relativity >= _CLOSE or reconcile.shares_content(item, memory.record)
        ][:_NEAR]

    async def _filter_result(
        self, extraction_result: ExtractionResult, stored: Mapping[str, Record]
    ) -> ExtractionResult:
        """A lesson without memories that were extracted before and since deleted by hand, archived or superseded.

        Memories deleted together with a source message may return, with a version above that of their deletion.
        """
        excluded = {
            record.id for record in stored.values() if is_archived_by_request(record) or record.lineage.superseded_by
        }
        deleted = await self._memory_service.deleted(extraction_result.added)
        excluded |= {id_ for id_, (_, is_by_hand) in deleted.items() if is_by_hand}
        return _raise_versions(
            _exclude(extraction_result, excluded), {id_: version for id_, (version, _) in deleted.items()}
        )

    async def _split_new(
        self, scope: Scope, records: Sequence[Record], stored: Mapping[str, Record]
    ) -> tuple[list[Record], list[Record]]:
        """Records to add, as returned by plugins, and stored ones that are restored."""
        new = [_mark_written(record) for record in records if record.id not in stored]
        restored = [restore_extracted(record, stored[record.id]) for record in records if record.id in stored]
        return list(await self._screen(scope, new)) if new else [], restored


def _raise_versions(extraction_result: ExtractionResult, versions: Mapping[str, int]) -> ExtractionResult:
    """A lesson whose added memories have versions above those of their earlier deletion."""
    return replace(
        extraction_result,
        added=tuple(replace(record, version=versions.get(record.id, 0) + 1) for record in extraction_result.added),
    )


def _mark_written(record: Record) -> Record:
    return replace(record, is_background=True)


def _exclude(extraction_result: ExtractionResult, excluded: Collection[str]) -> ExtractionResult:
    """A lesson without these added memories, nor the changes that they cause: they supersede nothing."""
    added = tuple(record for record in extraction_result.added if record.id not in excluded)
    return ExtractionResult(
        added, tuple(record for record in extraction_result.changed if record.lineage.superseded_by not in excluded)
    )
