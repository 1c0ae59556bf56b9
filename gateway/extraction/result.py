"""Turns decisions into memories: records to add and new versions of stored ones. Pure.

Ids are derived from the scope, the conversation, the text and its sources, so that repeating an extraction is
idempotent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.extraction.items import Item
from gateway.extraction.reconcile import Decision
from gateway.memory.record import Lineage, Record, memory_id, message_id, with_lineage
from gateway.memory.versions import archive, contributing_ids, restore
from gateway.turn import Scope

__all__ = ["ExtractionResult", "build_result", "restore_extracted"]

_MOST_LINKS = 500  # source messages of a memory, from several windows
_MOST_TIMES = 32  # recorded confirmations of a memory
_MOST_TAGS = 10
_SURER = 0.3  # share of the distance to certainty that each confirmation adds
_SUREST = 0.99


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """New memories, and new versions of stored ones."""

    added: tuple[Record, ...]
    changed: tuple[Record, ...]


def build_result(scope: Scope, session_id: str, decisions: Sequence[Decision], now: float) -> ExtractionResult:
    """The records that result from some decisions, applied in order."""
    added: dict[str, Record] = {}
    changed: dict[str, Record] = {}
    for decision in decisions:
        old = tuple(changed.get(record.id, record) for record in decision.old)
        if decision.relation == "same":
            stronger = {record.id: _confirm(record, decision.item) for record in old}
            changed |= {record.id: stronger[record.id] for record in old if stronger[record.id] is not record}
        elif decision.relation != "outranked":
            new = _build_record(scope, session_id, decision.item, now)
            later = [
                record for record in old if _stated_at(record) > _stated_at(new) and decision.relation == "contradicts"
            ]
            if later:  # an earlier statement extracted late: it was valid until the later one
                outdated = archive(new, _stated_at(later[0]), later[0].id)
                added.setdefault(new.id, outdated)
                continue
            active = [record for record in old if record.status == "activated"]
            # a merged text contains words of all old records, also of those superseded meanwhile
            is_merged = decision.relation == "more_precise"
            if sum(len(contributing_ids(record)) for record in (old if is_merged else active)) > _MOST_LINKS:
                continue  # all source messages must be linked, or deleting one would leave its words here
            new = _supersede(new, active, old if is_merged else ()) if active or is_merged else new
            added.setdefault(new.id, new)
            changed |= {record.id: archive(record, _stated_at(new), new.id) for record in active}
    return ExtractionResult(tuple(added.values()), tuple(changed.values()))


def restore_extracted(record: Record, stored: Record) -> Record:
    """A stored memory restored because it was extracted once more, from the same sources."""
    restored = restore(stored, record.created_at)
    new = record.lineage
    return with_lineage(
        replace(
            restored,
            status=record.status,
            links=record.links,
            validity=replace(restored.validity, until=record.validity.until),
        ),
        supersedes=new.supersedes or restored.lineage.supersedes,
        contributors=new.contributors or restored.lineage.contributors,
        superseded_by=new.superseded_by,
    )


def _stated_at(record: Record) -> float:
    """Time of the statement, at most its creation time: an event time in the future is not when it was stated."""
    return min(record.event_time, record.created_at)


def _build_record(scope: Scope, session_id: str, item: Item, now: float) -> Record:
    last = item.sources[-1]
    sources = tuple(dict.fromkeys(source.id for source in item.sources))
    name = memory_id(scope.value, session_id, item.kind, item.text, *sorted(sources))
    return Record(
        id=name,
        scope=scope.value,
        cube_id=scope.cube_id,
        user_id=last.user_id,
        session_id=session_id,
        kind=item.kind,
        source=item.source,
        text=item.text,
        event_time=item.event_time,
        created_at=now,
        updated_at=now,
        message_id=message_id(item.text),
        agent_id=last.agent_id,
        app_id=last.app_id,
        confidence=item.confidence,
        tags=tuple(dict.fromkeys(tag for source in item.sources for tag in source.tags))[:_MOST_TAGS],
        links=sources[:_MOST_LINKS],
        is_extracted=True,
        about=item.about,
        details=item.details,
        lineage=Lineage(contributors=item.also[:_MOST_LINKS]),
    )


def _supersede(new: Record, active: Sequence[Record], merged: Sequence[Record]) -> Record:
    """Let a record supersede the `active` ones; a text merged from `merged` also links their sources."""
    links = (*new.links, *(link for record in merged for link in record.links))
    contributors = (
        [id_ for record in (new, *merged) for id_ in contributing_ids(record) if id_ not in links] if merged else []
    )
    return with_lineage(
        replace(new, links=tuple(dict.fromkeys(links))[:_MOST_LINKS]),
        contributors=tuple(dict.fromkeys(contributors)) or new.lineage.contributors,
        supersedes=tuple(record.id for record in active if record.id != new.id),
    )


def _confirm(old: Record, item: Item) -> Record:
    """A memory confirmed by an item: more confidence, the same text."""
    confirmations = old.lineage.confirmations
    new = [source.id for source in item.sources if source.id not in (*old.links, *confirmations)]
    if not new:
        return old
    return with_lineage(
        replace(old, confidence=min(_SUREST, old.confidence + (1 - old.confidence) * _SURER)),
        confirmations=(*confirmations, *new)[-_MOST_TIMES:],
    )
