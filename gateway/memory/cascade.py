"""Cascading effects of deleting or editing memories on the records derived from them. Pure.

All records are of one scope. Derived records list their sources. A preference is deleted with its message, an earlier
text with its memory. A record that a model made carries words of each message that it names, so it is deleted, or
ends, with any of them. The records that it had superseded are then restored, and its remaining sources are queued for
extraction again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.memory.kinds import kind_of
from gateway.memory.record import Record, with_lineage
from gateway.memory.versions import (
    archive,
    contributing_ids,
    end_with_source,
    is_ended_with,
    restore,
    restore_superseded,
    valid_from,
    valid_to,
)

__all__ = ["Cascade", "Deletion", "cascade_delete", "cascade_update", "mark_for_extraction", "next_version"]


@dataclass(frozen=True, slots=True)
class Cascade:
    """The effects of a deletion: new versions of the remaining records, and the records to delete, derived ones before
    their sources."""

    updated: tuple[Record, ...]
    deleted: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The effects of a deletion as a caller sees them: the memories that were named, those that are deleted along with
    them, and new versions of those that remain but are changed."""

    direct: tuple[Record, ...]
    derived: tuple[Record, ...]
    updated: tuple[Record, ...]

    @classmethod
    def of(cls, targets: Mapping[str, Record], cascade: Cascade) -> "Deletion":
        """Divide the records of a cascade. `targets`: the memories that were named, by id."""
        derived = tuple(record for record in cascade.deleted if record.id not in targets)
        return cls(direct=tuple(targets.values()), derived=derived, updated=cascade.updated)

    @property
    def count(self) -> int:
        """The number of deleted memories."""
        return len(self.direct) + len(self.derived)


def cascade_delete(targets: Iterable[Record], records: Sequence[Record], now: float) -> Cascade:
    """The effects of deleting some memories of a scope. `records`: all of that scope."""
    deleted = {record.id: record for record in targets}
    extracted = [record for record in deleted.values() if record.is_extracted]
    derived = {record.id: record for record in extracted if not deleted.keys().isdisjoint(contributing_ids(record))}
    originals = [record for record in deleted.values() if record.id not in derived]
    newest = set(deleted)
    while newest:
        dependents = {record.id: record for record in _find_derived(newest, deleted, records)}
        derived, deleted, newest = {**derived, **dependents}, {**deleted, **dependents}, set(dependents)
    restored = {record.id: next_version(record, now) for record in restore_superseded(derived, deleted, records, now)}
    covered = {id_ for record in restored.values() if record.status == "activated" for id_ in record.links}
    requeued = _requeue_sources(derived.values(), {*deleted, *restored, *covered}, records, now)
    # without links, since the user did not delete the derived ones: they may be extracted again
    unlinked = [replace(record, links=()) for record in derived.values()]
    return Cascade((*restored.values(), *requeued), (*unlinked, *originals))


def cascade_update(
    before: Record, after: Record, records: Sequence[Record], now: float, edited_at: float | None = None
) -> list[Record]:
    """New versions of the records derived from a memory, when that is changed. They are valid as long as the memory is,
    and the records that they had superseded are valid when it is not. `records`: all of the scope, with the memory as
    it was. `edited_at`: for an undo, the time of the edit that is undone."""
    if before.text == after.text and before.status == after.status:
        return []
    dependents = _find_derived({before.id}, {before.id: before}, records)
    derived = [record for record in dependents if record.id != after.lineage.superseded_by]
    is_valid, was_valid = after.status == "activated", before.status == "activated"
    is_restored = is_valid and not was_valid and before.text == after.text
    moment = valid_to(before) if is_restored and valid_from(before) <= (valid_to(before) or 0.0) else edited_at
    active = {(record.kind, record.text) for record in records if record.is_extracted and _is_active(record)}
    returning = [record for record in derived if is_valid and is_ended_with(record, before.id, moment)]
    restored = [_restore(record, records, now) for record in returning if (record.kind, record.text) not in active]
    ending = {record.id: record for record in derived if _is_active(record) and (was_valid or not is_valid)}
    ends = [end_with_source(record, now, before.id) for record in ending.values()]
    changed = [*restored, *_archive_superseded(restored, records, now), *ends]
    handled = {before.id, *(record.id for record in changed)}
    # derived records that are no longer valid, so they supersede nothing any more
    invalid = {record.id: record for record in derived if record.id not in handled or record.id in ending}
    revalidated = restore_superseded(invalid, handled | invalid.keys(), records, now) if ending else []
    handled |= {record.id for record in revalidated}
    requeued = _requeue_sources(ending.values(), handled, records, now)
    return [*(next_version(record, now) for record in (*changed, *revalidated)), *requeued]


def mark_for_extraction(record: Record) -> Record:
    """The memory, marked so that a model extracts facts from this version of it; earlier texts stay unmarked."""
    return record if record.lineage.edit_of else with_lineage(record, edited_in=record.version)


def next_version(record: Record, now: float) -> Record:
    return replace(record, version=record.version + 1, updated_at=now)


def _is_active(record: Record) -> bool:
    return record.status == "activated"


def _find_derived(
    source_ids: Collection[str], handled: Mapping[str, Record], records: Sequence[Record]
) -> list[Record]:
    """Records derived from these sources alone; records that a model made, if they are derived from any of them."""
    remaining = {record.id for record in records}.difference(source_ids)
    return [
        record
        for record in records
        if record.id not in handled
        and record.links
        and not record.is_correction  # feedback does not depend on its sources
        and any(id_ in source_ids for id_ in contributing_ids(record))
        and (record.is_extracted or remaining.isdisjoint(record.links))
    ]


def _restore(record: Record, records: Sequence[Record], now: float) -> Record:
    """The record as active again; if another active one has superseded the same records, archived as superseded by
    that one."""
    by_id = {candidate.id: candidate for candidate in records}
    successors = (by_id.get(by_id[id_].lineage.superseded_by) for id_ in record.lineage.supersedes if id_ in by_id)
    holder = next(
        (
            successor
            for successor in successors
            if successor is not None and successor.id != record.id and _is_active(successor)
        ),
        None,
    )
    return restore(record, now) if holder is None else archive(record, valid_to(record) or now, holder.id)


def _archive_superseded(restored: Sequence[Record], records: Sequence[Record], now: float) -> list[Record]:
    """Archive the memories that these supersede and that are still active."""
    successor_ids = {id_: record.id for record in restored if _is_active(record) for id_ in record.lineage.supersedes}
    return [
        archive(record, now, successor_ids[record.id])
        for record in records
        if record.id in successor_ids and _is_active(record)
    ]


def _requeue_sources(
    invalid: Iterable[Record], excluded: Collection[str], records: Sequence[Record], now: float
) -> list[Record]:
    """Queue the source messages of invalidated facts for extraction again: they may still support them."""
    facts = [record for record in invalid if record.is_extracted and not record.is_summary]
    ids = {id_ for fact in facts for id_ in (*contributing_ids(fact), *fact.lineage.confirmations)}.difference(excluded)
    return [
        mark_for_extraction(next_version(record, now))
        for record in records
        if record.id in ids
        and kind_of(record.kind).is_extraction_source
        and _is_active(record)
        and not record.is_extracted
    ]
