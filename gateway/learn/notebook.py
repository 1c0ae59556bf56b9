"""What a model found in a conversation, compared with what is known, and written down in one step, or not at all."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.learn import items, reconcile
from gateway.learn.items import Item
from gateway.learn.lesson import Lesson, learnt_again, lesson_of
from gateway.learn.window import Window
from gateway.recall.library import Library
from gateway.store.lineage import CONDENSED, EDITED, LEARNT, WRITTEN_DOWN, is_taken_out, replaced_by
from gateway.telemetry import Telemetry
from gateway.turn import MemoryStatus, Recalled, Record, Scope, Wanted, group_of

__all__ = ["NotNow", "Notebook", "Screen", "Search"]

_NEAR = 4  # known memories that a new item is compared with
_NEAR_ENOUGH = 0.15  # relevance of a note that shares a word with a new item
_CLOSE = 0.45  # relevance from which a note is compared without a common word

Search = Callable[[Sequence[Scope], str, Wanted], Awaitable[Recalled]]
Screen = Callable[[Scope, Sequence[Record]], Awaitable[Sequence[Record]]]


class NotNow(Exception):
    """A conversation cannot be learnt from now; the message is a short word that says why."""


class Notebook:
    """`search` finds known memories, `screen` is where plugins see new ones."""

    def __init__(self, library: Library, telemetry: Telemetry, search: Search, screen: Screen) -> None:
        self._library = library
        self._telemetry = telemetry
        self._search = search
        self._screen = screen

    async def keep(self, scope: Scope, window: Window, found: Mapping[str, Any], ask: reconcile.Ask) -> None:
        """Write down what a model found in a window. `ask` shows a model new notes beside old ones. Raises Outdated if
        anything that this rests on is another meanwhile; NotNow, MemoryUnavailable or PluginUnavailable."""
        read, dropped = await asyncio.to_thread(items.read_items, found, window)
        for why, count in dropped.items():
            self._telemetry.bound("learned", why).inc(count)
        if not read:
            return
        compared = [(item, await self._near(scope, item)) for item in read]
        decisions = await reconcile.decide(compared, ask)
        lesson = lesson_of(scope, window.new[0].session_id, decisions, time.time())
        known = {one.id: one for one in await self._library.known(scope, [one.id for one in lesson.added])}
        lesson = await self._allowed(lesson, known)
        added, again = await self._new(scope, lesson.added, known)
        rests_on = (*window.records, *(old for decision in decisions for old in decision.old))
        seen = {record.id: record.version for record in rests_on}
        await self._library.revise([*lesson.changed, *again], added, seen)
        for decision in decisions:
            self._telemetry.bound("learned", decision.relation).inc()

    async def told(self, scope: Scope, messages: Sequence[Record]) -> set[str]:
        """The ids of those messages of which something is written down, as they are."""
        ids = {record.id for record in messages if EDITED not in record.info}

        def rests_on_them(record: Record) -> bool:
            is_note = WRITTEN_DOWN in record.info and record.status == "activated"
            return is_note and not ids.isdisjoint(record.links)

        found = await self._library.records(scope, rests_on_them)
        return ids.intersection(link for record in found for link in record.links)

    async def _near(self, scope: Scope, item: Item) -> list[Record]:
        """Known memories of the same kind and user that may be about the same thing. Raises NotNow."""
        own, user = {source.id for source in item.sources}, item.sources[-1].user_id
        group = group_of(item.kind)

        def allows(record: Record) -> bool:
            is_note = LEARNT in record.info or record.kind != "tool"  # calls of tools are what was done
            is_whole = CONDENSED not in record.info  # a summary says more than one thing
            return record.kind == item.kind and record.user_id == user and is_note and is_whole and record.id not in own

        wanted = Wanted(
            text=_NEAR * (group == "text"),
            preference=_NEAR * (group == "preference"),
            tool=_NEAR * (group == "tool"),
            skill=_NEAR * (group == "skill"),
            min_relativity=_NEAR_ENOUGH,
            allows={scope.value: allows},
        )
        recalled = await self._search([scope], item.text, wanted)
        if recalled.status is MemoryStatus.DEGRADED:
            raise NotNow(recalled.reason or "degraded")
        # in a small memory even the nearest notes may be about something else
        return [
            memory.record
            for memory in recalled.memories
            if memory.relativity >= _CLOSE or reconcile.shares_content(item, memory.record)
        ][:_NEAR]

    async def _allowed(self, lesson: Lesson, known: Mapping[str, Record]) -> Lesson:
        """A lesson without what was made of the same messages before, and deleted, taken out or replaced since; what
        went along with another message comes after that."""
        out = {one.id for one in known.values() if is_taken_out(one) or replaced_by(one)}
        deleted = await self._library.deleted(lesson.added)
        out |= {id_ for id_, (_, is_by_hand) in deleted.items() if is_by_hand}
        return _after(_without(lesson, out), {id_: version for id_, (version, _) in deleted.items()})

    async def _new(
        self, scope: Scope, records: Sequence[Record], known: Mapping[str, Record]
    ) -> tuple[list[Record], list[Record]]:
        """Those to be added, as plugins let them be stored, and those that were known once and come back."""
        fresh = [_written_down(record) for record in records if record.id not in known]
        again = [learnt_again(record, known[record.id]) for record in records if record.id in known]
        return list(await self._screen(scope, fresh)) if fresh else [], again


def _after(lesson: Lesson, versions: Mapping[str, int]) -> Lesson:
    """A lesson of which the memories that went with a message before come after that: these are its versions."""
    return replace(lesson, added=tuple(replace(one, version=versions.get(one.id, 0) + 1) for one in lesson.added))


def _written_down(record: Record) -> Record:
    return replace(record, info={**record.info, WRITTEN_DOWN: True})


def _without(lesson: Lesson, gone: Collection[str]) -> Lesson:
    """A lesson without what somebody deleted before: nothing is replaced by that."""
    added = tuple(record for record in lesson.added if record.id not in gone)
    return Lesson(added, tuple(record for record in lesson.changed if replaced_by(record) not in gone))
