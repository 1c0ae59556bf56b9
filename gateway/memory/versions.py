"""Version history of memories: supersession, validity intervals, undo. Pure.

Nothing is overwritten. A superseded memory is archived, with the id of its successor and the end of its validity. The
earlier text of an edited memory becomes an archived memory of its own, which is deleted with its memory. A restored
memory keeps its earlier validity intervals.

| state | entered by | left by |
|---|---|---|
| active | new, `restore` | `archive`, `archive_on_request`, `end_with_source` |
| superseded (`superseded_by`) | `archive` with a successor | `restore`, when its successor is gone |
| ended (`ended_with`) | `end_with_source`: its source was changed or archived | `restore`, when that is undone |
| archived (`archived_by`) | `archive_on_request`, or to make room | `restore` on request |
| undone (`is_undone`) | `undo` of the memory that superseded others | `undo` again |
| earlier text (`edit_of`) | `earlier_text`, when a memory is edited | `undo`, which exchanges the two texts |
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.memory.annotations import ANNOTATED
from gateway.memory.record import Lineage, Record, Validity, memory_id, with_lineage

__all__ = [
    "archive",
    "archive_on_request",
    "contributing_ids",
    "earlier_text",
    "end_with_source",
    "is_archived_by_request",
    "is_ended_with",
    "is_valid_at",
    "referenced_ids",
    "rename_ids",
    "restore",
    "restore_superseded",
    "undo",
    "valid_from",
    "valid_to",
    "version_chain",
]

_NOT_ENDED: Final[Mapping[str, Any]] = {"superseded_by": "", "ended_with": "", "archived_by": "", "is_undone": False}
"""The fields of a lineage that only archived memories have."""
_FOR_EVER: Final = float("inf")
_PRECISION: Final = 2e-6  # seconds: moments are stored in microseconds
_TOLERANCE: Final = 1e-3
_MAX_PERIODS = 16  # validity intervals stored per memory


def archive(record: Record, until: float, superseded_by: str = "", **reason: Any) -> Record:
    """Archive a memory that was valid until a moment. `reason`: further fields of its lineage."""
    ends = {**_NOT_ENDED, "superseded_by": superseded_by, **reason}
    return replace(
        record,
        status="archived",
        validity=replace(record.validity, until=until),
        lineage=replace(record.lineage, **ends),
    )


def end_with_source(record: Record, until: float, source_id: str) -> Record:
    """Archive a memory because its source was changed or archived."""
    return archive(record, until, ended_with=source_id)


def archive_on_request(record: Record, now: float, superseded_by: str = "") -> Record:
    """Archive a memory on request, or supersede it by another. One that is archived already keeps the end of its
    validity."""
    if record.status != "archived":
        return archive(record, now, superseded_by, archived_by="" if superseded_by else "user")
    return with_lineage(record, archived_by="user")


def restore_superseded(
    removed: Mapping[str, Record], excluded: Collection[str], records: Iterable[Record], now: float
) -> list[Record]:
    """Restore the memories that were superseded by `removed` ones. A memory with a later successor that remains is not
    restored, but marked as superseded by that one. Memories that are to be deleted too (`excluded`) are left out.
    Returns the changed records."""
    by_id = {record.id: record for record in records if record.id not in excluded}
    changed: dict[str, Record] = {}
    for memory in by_id.values():
        lineage = memory.lineage
        if lineage.superseded_by not in removed or memory.status != "archived":
            continue
        if lineage.edit_of or lineage.archived_by == "user":
            continue
        by = next((later.id for later in _successors(memory, {**removed, **by_id}) if later.id not in removed), "")
        if by in by_id:
            changed[memory.id] = with_lineage(memory, superseded_by=by)
            successor = changed.get(by, by_id[by])
            predecessors = dict.fromkeys([*successor.lineage.supersedes, memory.id])
            changed[by] = with_lineage(successor, supersedes=tuple(id_ for id_ in predecessors if id_ not in removed))
        elif all(_supports(by_id[id_], memory) for id_ in contributing_ids(memory) if id_ in by_id):
            changed[memory.id] = restore(memory, now)
    return list(changed.values())


def _supports(message: Record, fact: Record) -> bool:
    """True unless a fact was extracted from a message that was archived on request, or edited after the extraction."""
    is_edited = message.lineage.edited_in > 0 and message.validity.since is not None
    is_changed = is_edited and valid_from(message) > fact.created_at
    return not fact.is_extracted or not (is_changed or message.lineage.archived_by == "user")


def is_ended_with(record: Record, source_id: str, moment: float | None) -> bool:
    """True if a memory derived from a source lost its validity when that was changed at `moment`."""
    return record.lineage.ended_with == source_id and moment is not None and valid_to(record) == moment


def earlier_text(record: Record, now: float) -> Record:
    """Build the archived memory that holds a memory's text from before an edit at `now`."""
    return replace(
        record,
        id=memory_id(record.scope, record.id, "edit", str(record.version)),
        status="archived",
        links=(record.id,),
        validity=replace(record.validity, until=min(now, _end(record))),
        lineage=replace(record.lineage, **_NOT_ENDED, edit_of=record.id),
        is_correction=False,  # the memory itself remains the correction
        version=1,
        updated_at=now,
    )


def valid_to(record: Record) -> float | None:
    """The end of a memory's validity, in seconds since 1970; None for an active one."""
    return None if record.is_active else _end(record)


def valid_from(record: Record) -> float:
    """The start of a memory's current or last validity, in seconds since 1970."""
    return record.event_time if record.validity.since is None else record.validity.since


def is_valid_at(record: Record, moment: float) -> bool:
    """True if a memory was valid at a moment."""
    periods = [*record.validity.earlier, (valid_from(record), _end(record))]
    return any(begin <= moment + _PRECISION and moment < end for begin, end in periods)


def version_chain(memory_id: str, records: Iterable[Record]) -> list[Record]:
    """A memory with all its predecessors and successors, the earliest first; empty if it is not among `records`."""
    by_id = {record.id: record for record in records}
    if memory_id not in by_id:
        return []
    neighbours: dict[str, set[str]] = {}
    for record in by_id.values():
        for other in (*record.lineage.supersedes, record.lineage.superseded_by, record.lineage.edit_of):
            if other:
                neighbours.setdefault(record.id, set()).add(other)
                neighbours.setdefault(other, set()).add(record.id)
    ids, queue = {memory_id}, [memory_id]
    while queue:
        for other in neighbours.get(queue.pop(), ()):
            if other in by_id and other not in ids:
                ids.add(other)
                queue.append(other)
    return sorted((by_id[id_] for id_ in ids), key=lambda record: (_end(record), record.event_time))


def is_archived_by_request(record: Record) -> bool:
    """True for a memory that was archived on request, or undone: it is restored only on request."""
    return record.status == "archived" and (record.lineage.archived_by == "user" or record.lineage.is_undone)


def contributing_ids(record: Record) -> tuple[str, ...]:
    """The ids of all memories that may have contributed words to a memory."""
    return (*record.links, *record.lineage.contributors)


def referenced_ids(record: Record) -> set[str]:
    """The ids of all memories that a memory refers to."""
    ids: set[str] = set()

    def collect(id_: str) -> str:
        ids.add(id_)
        return id_

    rename_ids(record, collect)
    return ids - {record.id}


def rename_ids(record: Record, name: Callable[[str], str]) -> Record:
    """Map all ids in a memory with `name`: its own, and those of the memories that it refers to."""
    lineage = record.lineage
    return replace(
        record,
        id=name(record.id),
        links=tuple(map(name, record.links)),
        lineage=replace(
            lineage,
            supersedes=tuple(map(name, lineage.supersedes)),
            contributors=tuple(map(name, lineage.contributors)),
            confirmations=tuple(map(name, lineage.confirmations)),
            superseded_by=lineage.superseded_by and name(lineage.superseded_by),
            ended_with=lineage.ended_with and name(lineage.ended_with),
            edit_of=lineage.edit_of and name(lineage.edit_of),
        ),
    )


def undo(record: Record, line: Sequence[Record], now: float) -> list[Record]:
    """Undo the last change of a memory. Returns the changed records, none if there is no change to undo. `line` is its
    version chain. An undo can itself be undone."""
    by_id, lineage = {member.id: member for member in line}, record.lineage
    edits = [member for member in line if member.lineage.edit_of == record.id and not member.lineage.is_undone]
    last = max(edits, key=lambda edit: edit.updated_at, default=None)
    if last is not None and (record.is_active or last.updated_at > record.updated_at - _TOLERANCE):
        return _undo_edit(record, last, now)
    if record.is_active:
        return _undo_supersession(record, line, now)
    if lineage.edit_of or lineage.ended_with:
        return []  # it is undone with its memory or source
    if lineage.archived_by == "user" and lineage.superseded_by:
        return [with_lineage(record, archived_by="")]
    successor = next(_successors(record, by_id), None)
    if successor is not None and record.id in successor.lineage.supersedes:
        active = [member for member in _successors(record, by_id) if member.is_active]
        if active:  # last change first
            return undo(active[-1], line, now)
    predecessors = [by_id[id_] for id_ in lineage.supersedes if id_ in by_id]
    return [restore(record, now), *(archive(member, now, record.id) for member in predecessors if member.is_active)]


def restore(record: Record, since: float) -> Record:
    """Restore an archived memory from `since` on; its last validity interval is added to the earlier ones."""
    if record.is_active:
        return record
    intervals = [*record.validity.earlier, (valid_from(record), _end(record))]
    earlier = tuple((begin, end) for begin, end in intervals if begin < end)[-_MAX_PERIODS:]
    return replace(
        record,
        status="activated",
        validity=Validity(since=since, earlier=earlier),
        lineage=_without_end(record.lineage),
    )


def _successors(record: Record, by_id: Mapping[str, Record]) -> Iterator[Record]:
    """The successors of a memory: the one that superseded it, that one's successor, and so on."""
    seen = {record.id}
    while (successor := by_id.get(record.lineage.superseded_by)) is not None and successor.id not in seen:
        seen.add(successor.id)
        record = successor
        yield record


def _undo_supersession(record: Record, line: Sequence[Record], now: float) -> list[Record]:
    """Archive a memory, and restore those that it superseded; none if it superseded none."""
    superseded = [
        member for member in line if member.lineage.superseded_by == record.id and member.status == "archived"
    ]
    restored = [restore(member, now) for member in superseded if member.lineage.archived_by != "user"]
    return [archive(record, now, is_undone=True), *restored] if superseded else []


def _undo_edit(record: Record, edit: Record, now: float) -> list[Record]:
    """Give a memory its earlier text back. Returns it, and a memory that holds the later text."""
    before = restore(edit, now) if record.is_active else edit
    ends = {name: getattr(record.lineage, name) for name in _NOT_ENDED}
    reverted = replace(
        record,
        text=edit.text,
        **_annotated(before)
        | {
            "validity": replace(before.validity, until=record.validity.until),
            "lineage": replace(before.lineage, edit_of="", **ends),
            "is_correction": record.is_correction,
        },
    )
    later = replace(
        edit,
        text=record.text,
        **_annotated(record)
        | {
            "validity": replace(record.validity, until=min(now, _end(record))),
            "lineage": replace(_without_end(record.lineage), edit_of=record.id, is_undone=True),
            "is_correction": False,
        },
    )
    return [reverted, later]


def _annotated(record: Record) -> dict[str, Any]:
    """The annotated fields of a record."""
    return {name: getattr(record, name) for name in ANNOTATED}


def _without_end(lineage: Lineage) -> Lineage:
    return replace(lineage, **_NOT_ENDED)


def _end(record: Record) -> float:
    """The end of a memory's validity; infinity for an active one."""
    if record.is_active:
        return _FOR_EVER
    return record.updated_at if record.validity.until is None else record.validity.until
