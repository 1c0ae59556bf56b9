"""Version history of memories: supersession, validity intervals, undo. Pure.

Nothing is overwritten. A superseded memory is archived, with the id of its successor and the end of its validity. The
earlier text of an edited memory becomes an archived memory of its own, which is deleted with its memory. A restored
memory keeps its earlier validity intervals.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeGuard

from gateway.turn import Record, derived_id

__all__ = [
    "CONDENSED",
    "CORRECTS",
    "EDITED",
    "EDIT_OF",
    "ENDED_WITH",
    "GAVE",
    "HELD",
    "HELD_SINCE",
    "HELD_UNTIL",
    "LEARNT",
    "REPLACED_BY",
    "REPLACES",
    "SAID_AGAIN",
    "SET_ASIDE",
    "TAKEN_OUT",
    "WRITTEN_DOWN",
    "archived",
    "chain",
    "edited",
    "ended",
    "has_words_of",
    "held_again",
    "held_at",
    "held_since",
    "held_until",
    "is_ended_with",
    "is_taken_out",
    "named_by",
    "put_away",
    "renamed",
    "replaced_by",
    "replaced_ids",
    "revived",
    "said_again",
    "undone",
]

LEARNT: Final = "learnt"
"""Key in a record's `info` that marks a fact extracted from messages by a model; `links` are its sources."""
CORRECTS: Final = "corrects"
"""Key in a record's `info` that marks feedback; `links` are the memories that it outranks."""
REPLACES: Final = "replaces"
"""Key in a record's `info` for the ids of the memories that it supersedes."""
REPLACED_BY: Final = "replaced_by"
"""Key for the id of the memory that superseded it."""
ENDED_WITH: Final = "ended_with"
"""Key for the id of the source memory whose change or archiving ended its validity."""
TAKEN_OUT: Final = "taken_out"
"""Key that marks a memory archived on request: it is restored only on request."""
SET_ASIDE: Final = "set_aside"
"""Key that marks a memory archived to make room."""
HELD_UNTIL: Final = "held_until"
"""Key for the end of its validity (valid-to), in seconds since 1970."""
HELD_SINCE: Final = "held_since"
"""Key for the start of its current validity (valid-from), if that differs from the time of its message."""
HELD: Final = "held_before"
"""Key for its earlier validity intervals: pairs of moments."""
EDIT_OF: Final = "edit_of"
"""Key for the id of the memory whose earlier text it holds."""
EDITED: Final = "edited_in"
"""Key for the version in which a memory's text was changed."""
CONDENSED: Final = "condensed"
"""Key that marks a summary of a conversation, or a message retained beside one: written by earlier versions."""
WRITTEN_DOWN: Final = "written_down"
"""Key that marks a fact extracted in the background: all earlier messages of its conversation were processed."""
GAVE: Final = "gave"
"""Key for the ids of messages that may have contributed words to an extracted fact, beside its sources."""
SAID_AGAIN: Final = "said_again"
"""Key for the ids of messages that repeat its sources."""
_UNDONE: Final = "undone"
_END_KEYS: Final = (REPLACED_BY, ENDED_WITH, TAKEN_OUT, SET_ASIDE, HELD_UNTIL, _UNDONE)

_MAX_MOMENT: Final = 2.0**37  # the year 6325
_FOR_EVER: Final = float("inf")
_PRECISION: Final = 2e-6  # seconds: moments are stored in microseconds
_TOLERANCE: Final = 1e-3
_MAX_PERIODS = 16  # validity intervals stored per memory


def archived(record: Record, until: float, by: str = "", mark: str = "") -> Record:
    """Archive a memory that was valid until a moment. `by`: the id of its successor; `mark`: TAKEN_OUT or SET_ASIDE."""
    reason = {**({REPLACED_BY: by} if by else {}), **({mark: True} if mark else {})}
    return replace(record, status="archived", info={**_strip_ends(record.info), HELD_UNTIL: until, **reason})


def ended(record: Record, until: float, memory_id: str) -> Record:
    """Archive a memory because its source `memory_id` was changed or archived."""
    return replace(
        record, status="archived", info={**_strip_ends(record.info), HELD_UNTIL: until, ENDED_WITH: memory_id}
    )


def put_away(record: Record, now: float, by: str = "") -> Record:
    """Archive a memory on request, or supersede it by the memory with the id `by`. One that is archived already keeps
    the end of its validity."""
    if record.status != "archived":
        return archived(record, now, by, "" if by else TAKEN_OUT)
    info = {name: value for name, value in record.info.items() if name != SET_ASIDE}
    return replace(record, info={**info, TAKEN_OUT: True})


def held_again(
    gone: Mapping[str, Record], doomed: Collection[str], records: Iterable[Record], now: float
) -> list[Record]:
    """Restore the memories that were superseded by deleted ones (`gone`). A memory with a later successor that remains
    is not restored, but marked as superseded by that one. Memories that are to be deleted too (`doomed`) are left out.
    Returns the changed records."""
    by_id = {record.id: record for record in records if record.id not in doomed}
    changed: dict[str, Record] = {}
    for memory in by_id.values():
        info = memory.info
        if replaced_by(memory) not in gone or memory.status != "archived" or EDIT_OF in info or TAKEN_OUT in info:
            continue
        by = next((later.id for later in _successors(memory, {**gone, **by_id}) if later.id not in gone), "")
        if by in by_id:
            changed[memory.id] = replace(memory, info={**info, REPLACED_BY: by})
            successor = changed.get(by, by_id[by])
            ids = [id_ for id_ in dict.fromkeys([*replaced_ids(successor.info), memory.id]) if id_ not in gone]
            changed[by] = replace(successor, info={**successor.info, REPLACES: ids})
        elif all(_supports(by_id[id_], memory) for id_ in has_words_of(memory) if id_ in by_id):
            changed[memory.id] = revived(memory, now)
    return list(changed.values())


def _supports(message: Record, fact: Record) -> bool:
    """True unless a fact was extracted from a message that was archived on request, or edited after the extraction."""
    is_changed = EDITED in message.info and HELD_SINCE in message.info and held_since(message) > fact.created_at
    return LEARNT not in fact.info or not (is_changed or TAKEN_OUT in message.info)


def is_ended_with(record: Record, memory_id: str, moment: float | None) -> bool:
    """True if a memory derived from `memory_id` lost its validity when that was changed at `moment`."""
    return record.info.get(ENDED_WITH) == memory_id and moment is not None and held_until(record) == moment


def edited(record: Record, now: float) -> Record:
    """Build the archived memory that holds a memory's text from before an edit at `now`."""
    id_ = derived_id(record.id, "edit", str(record.version))
    # CORRECTS stays with the memory itself
    info = {name: value for name, value in _strip_ends(record.info).items() if name != CORRECTS}
    info |= {EDIT_OF: record.id, HELD_UNTIL: min(now, _until(record))}
    return replace(record, id=id_, status="archived", links=(record.id,), info=info, version=1, updated_at=now)


def held_until(record: Record) -> float | None:
    """The end of a memory's validity (valid-to), in seconds since 1970; None for an active one."""
    return None if record.status == "activated" else _until(record)


def held_since(record: Record) -> float:
    """The start of a memory's current or last validity (valid-from), in seconds since 1970."""
    since = record.info.get(HELD_SINCE)
    return float(since) if _is_moment(since) else record.event_time


def held_at(record: Record, moment: float) -> bool:
    """True if a memory was valid at a moment."""
    periods = [*_periods(record), (held_since(record), _until(record))]
    return any(begin <= moment + _PRECISION and moment < end for begin, end in periods)


def chain(memory_id: str, records: Iterable[Record]) -> list[Record]:
    """A memory with all its predecessors and successors, the earliest first; empty if it is not among `records`."""
    by_id = {record.id: record for record in records}
    if memory_id not in by_id:
        return []
    neighbours: dict[str, set[str]] = {}
    for record in by_id.values():
        for other in _neighbour_ids(record):
            neighbours.setdefault(record.id, set()).add(other)
            neighbours.setdefault(other, set()).add(record.id)
    ids, queue = {memory_id}, [memory_id]
    while queue:
        for other in neighbours.get(queue.pop(), ()):
            if other in by_id and other not in ids:
                ids.add(other)
                queue.append(other)
    return sorted((by_id[id_] for id_ in ids), key=lambda record: (_until(record), record.event_time))


def is_taken_out(record: Record) -> bool:
    """True for a memory that was archived on request, or undone: it is restored only on request."""
    return record.status == "archived" and (TAKEN_OUT in record.info or _UNDONE in record.info)


def replaced_by(record: Record) -> str:
    """The id of the memory that superseded this one; "" if none did."""
    id_ = record.info.get(REPLACED_BY)
    return id_ if isinstance(id_, str) else ""


def replaced_ids(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of the memories that the memory with this `info` supersedes."""
    return _ids(info.get(REPLACES))


def said_again(record: Record) -> tuple[str, ...]:
    """The ids of messages that repeat a memory's sources."""
    return _ids(record.info.get(SAID_AGAIN))


def has_words_of(record: Record) -> tuple[str, ...]:
    """The ids of all memories that may have contributed words to a memory."""
    return (*record.links, *_ids(record.info.get(GAVE)))


def named_by(record: Record) -> set[str]:
    """The ids of all memories that a memory refers to."""
    ids: set[str] = set()

    def collect(id_: str) -> str:
        ids.add(id_)
        return id_

    renamed(record, collect)
    return ids - {record.id}


def renamed(record: Record, name: Callable[[str], str]) -> Record:
    """Map all ids in a memory with `name`: its own, and those of the memories that it refers to."""
    info = dict(record.info)
    for key in (REPLACED_BY, ENDED_WITH, EDIT_OF):
        if isinstance(info.get(key), str):
            info[key] = name(info[key])
    for key in (REPLACES, GAVE, SAID_AGAIN):
        if isinstance(info.get(key), list | tuple):
            info[key] = [name(id_) for id_ in info[key] if isinstance(id_, str)]
    return replace(record, id=name(record.id), links=tuple(map(name, record.links)), info=info)


def undone(record: Record, line: Sequence[Record], now: float) -> list[Record]:
    """Undo the last change of a memory. Returns the changed records, none if there is no change to undo. `line` is its
    chain. An undo can itself be undone."""
    by_id = {member.id: member for member in line}
    edits = [member for member in line if member.info.get(EDIT_OF) == record.id and not member.info.get(_UNDONE)]
    last = max(edits, key=lambda edit: edit.updated_at, default=None)
    if last is not None and (record.status == "activated" or last.updated_at > record.updated_at - _TOLERANCE):
        return _undo_edit(record, last, now)
    if record.status == "activated":
        superseded = [member for member in line if replaced_by(member) == record.id and member.status == "archived"]
        restored = [revived(member, now) for member in superseded if TAKEN_OUT not in member.info]
        return [_archive_undone(record, now), *restored] if superseded else []
    if any(isinstance(record.info.get(name), str) for name in (EDIT_OF, ENDED_WITH)):
        return []  # it is undone with its memory or source
    if TAKEN_OUT in record.info and REPLACED_BY in record.info:
        return [replace(record, info={name: value for name, value in record.info.items() if name != TAKEN_OUT})]
    successor = next(_successors(record, by_id), None)
    if successor is not None and record.id in replaced_ids(successor.info):
        active = [member for member in _successors(record, by_id) if member.status == "activated"]
        if active:  # last change first
            return undone(active[-1], line, now)
    predecessors = [by_id[id_] for id_ in replaced_ids(record.info) if id_ in by_id]
    rearchived = [archived(member, now, record.id) for member in predecessors if member.status == "activated"]
    return [revived(record, now), *rearchived]


def revived(record: Record, since: float) -> Record:
    """Restore an archived memory from `since` on; its last validity interval is added to the earlier ones."""
    if record.status == "activated":
        return record
    periods = [*_periods(record), (held_since(record), _until(record))]
    intervals = [[begin, end] for begin, end in periods if begin < end][-_MAX_PERIODS:]
    return replace(record, status="activated", info={**_strip_ends(record.info), HELD: intervals, HELD_SINCE: since})


def _successors(record: Record, by_id: Mapping[str, Record]) -> Iterator[Record]:
    """The successors of a memory: the one that superseded it, that one's successor, and so on."""
    seen = {record.id}
    while (successor := by_id.get(replaced_by(record))) is not None and successor.id not in seen:
        seen.add(successor.id)
        record = successor
        yield record


def _undo_edit(record: Record, earlier: Record, now: float) -> list[Record]:
    """Give a memory its earlier text back. Returns it, and a memory that holds the later text."""
    marks = {name: record.info[name] for name in (CORRECTS, *_END_KEYS) if name in record.info}
    before = revived(earlier, now).info if record.status == "activated" else earlier.info
    info = {**{name: value for name, value in _strip_ends(before).items() if name != EDIT_OF}, **marks}
    edit_info = {name: value for name, value in _strip_ends(record.info).items() if name != CORRECTS}
    edit_info |= {EDIT_OF: record.id, HELD_UNTIL: min(now, _until(record)), _UNDONE: True}
    return [replace(record, text=earlier.text, info=info), replace(earlier, text=record.text, info=edit_info)]


def _archive_undone(record: Record, now: float) -> Record:
    return archived(record, now, mark=_UNDONE)


def _strip_ends(info: Mapping[str, Any]) -> dict[str, Any]:
    """Copy an `info` without the keys that only archived memories have."""
    return {name: value for name, value in info.items() if name not in _END_KEYS}


def _until(record: Record) -> float:
    """The end of a memory's validity; infinity for an active one."""
    if record.status == "activated":
        return _FOR_EVER
    until = record.info.get(HELD_UNTIL)
    return float(until) if _is_moment(until) else record.updated_at


def _periods(record: Record) -> list[tuple[float, float]]:
    """The earlier validity intervals of a memory."""
    value = record.info.get(HELD)
    pairs = [pair for pair in value if isinstance(pair, list | tuple)] if isinstance(value, list | tuple) else []
    return [(float(pair[0]), float(pair[1])) for pair in pairs if len(pair) == 2 and all(map(_is_moment, pair))]


def _is_moment(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MAX_MOMENT < value < _MAX_MOMENT


def _ids(value: Any) -> tuple[str, ...]:
    return tuple(id_ for id_ in value if isinstance(id_, str)) if isinstance(value, list | tuple) else ()


def _neighbour_ids(record: Record) -> list[str]:
    ids = [record.info.get(REPLACED_BY), record.info.get(EDIT_OF)]
    return [*replaced_ids(record.info), *(id_ for id_ in ids if isinstance(id_, str))]
