"""How memories follow one another: what replaced what, when each held, and how to take that back. Pure.

Nothing is overwritten. What is replaced is archived, with the id of what took its place and the time until which it
held; the earlier text of a memory that was edited becomes an archived memory of its own, which goes when its memory is
deleted. What holds again keeps the periods in which it held before.
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
"""The name in a record's `info` that marks what a model made of messages; `links` are those its words come from."""
CORRECTS: Final = "corrects"
"""The name in a record's `info` that marks feedback: `links` are the memories that it outranks."""
REPLACES: Final = "replaces"
"""The name in a record's `info` for the ids of what it took the place of."""
REPLACED_BY: Final = "replaced_by"
"""The name for the id of what took its place."""
ENDED_WITH: Final = "ended_with"
"""The name for the id of the memory that it was made of, and that was changed or archived."""
TAKEN_OUT: Final = "taken_out"
"""The name that marks what somebody archived: it comes back only when somebody says so."""
SET_ASIDE: Final = "set_aside"
"""The name that marks what was archived to make room."""
HELD_UNTIL: Final = "held_until"
"""The name for the moment until which it held, in seconds since 1970."""
HELD_SINCE: Final = "held_since"
"""The name for the moment since which it holds as it is, where that is not when it was said."""
HELD: Final = "held_before"
"""The name for the periods before that in which it held: pairs of moments."""
EDIT_OF: Final = "edit_of"
"""The name for the id of the memory whose earlier text it is."""
EDITED: Final = "edited_in"
"""The name for the version in which a memory's text was changed."""
CONDENSED: Final = "condensed"
"""The name that marks a summary of a conversation, or a message that stayed of one: written by earlier versions."""
WRITTEN_DOWN: Final = "written_down"
"""The name that marks what was learnt in the background: all before it in its conversation was looked at."""
GAVE: Final = "gave"
"""The name for the ids of messages that may have given a lesson a word, beside those it rests on."""
SAID_AGAIN: Final = "said_again"
"""The name for the ids of messages that say the same as those it rests on."""
_TAKEN_BACK: Final = "undone"
_ENDS: Final = (REPLACED_BY, ENDED_WITH, TAKEN_OUT, SET_ASIDE, HELD_UNTIL, _TAKEN_BACK)

_LAST: Final = 2.0**37  # the year 6325
_FOR_EVER: Final = float("inf")
_EXACT: Final = 2e-6  # seconds: moments are kept in microseconds
_ROUNDED: Final = 1e-3
_PERIODS = 16  # that are kept of a memory


def archived(record: Record, until: float, by: str = "", mark: str = "") -> Record:
    """A memory that held until then. `by`: the id of what took its place; `mark`: TAKEN_OUT or SET_ASIDE."""
    why = {**({REPLACED_BY: by} if by else {}), **({mark: True} if mark else {})}
    return replace(record, status="archived", info={**_plain(record.info), HELD_UNTIL: until, **why})


def ended(record: Record, until: float, memory_id: str) -> Record:
    """What was made of a memory that is another now."""
    return replace(record, status="archived", info={**_plain(record.info), HELD_UNTIL: until, ENDED_WITH: memory_id})


def put_away(record: Record, now: float, by: str = "") -> Record:
    """What somebody archives, or replaces by what has this id. What was archived before keeps the time until which it
    held."""
    if record.status != "archived":
        return archived(record, now, by, "" if by else TAKEN_OUT)
    info = {name: value for name, value in record.info.items() if name != SET_ASIDE}
    return replace(record, info={**info, TAKEN_OUT: True})


def held_again(
    gone: Mapping[str, Record], doomed: Collection[str], records: Iterable[Record], now: float
) -> list[Record]:
    """What had been replaced by what is `gone`, as it is then: it holds again, unless something that is still there
    replaced it since; that is then what it was replaced by. Of what is `doomed` nothing holds again."""
    by_id = {one.id: one for one in records if one.id not in doomed}
    changed: dict[str, Record] = {}
    for one in by_id.values():
        if replaced_by(one) not in gone or one.status != "archived" or EDIT_OF in one.info or TAKEN_OUT in one.info:
            continue
        by = next((found.id for found in _successors(one, {**gone, **by_id}) if found.id not in gone), "")
        if by in by_id:
            changed[one.id] = replace(one, info={**one.info, REPLACED_BY: by})
            after = changed.get(by, by_id[by])
            ids = [id_ for id_ in dict.fromkeys([*replaced_ids(after.info), one.id]) if id_ not in gone]
            changed[by] = replace(after, info={**after.info, REPLACES: ids})
        elif all(_says_still(by_id[id_], one) for id_ in has_words_of(one) if id_ in by_id):
            changed[one.id] = revived(one, now)
    return list(changed.values())


def _says_still(message: Record, lesson: Record) -> bool:
    """False for a lesson of a message that was taken out, or changed after it was learnt."""
    is_changed = EDITED in message.info and HELD_SINCE in message.info and held_since(message) > lesson.created_at
    return LEARNT not in lesson.info or not (is_changed or TAKEN_OUT in message.info)


def is_ended_with(record: Record, memory_id: str, moment: float | None) -> bool:
    """True for what was made of this memory and ended when that was changed, then."""
    return record.info.get(ENDED_WITH) == memory_id and moment is not None and held_until(record) == moment


def edited(record: Record, now: float) -> Record:
    """A memory's text as it was before it is changed now."""
    id_ = derived_id(record.id, "edit", str(record.version))
    info = {name: value for name, value in _plain(record.info).items() if name != CORRECTS}  # it goes with its memory
    info |= {EDIT_OF: record.id, HELD_UNTIL: min(now, _until(record))}
    return replace(record, id=id_, status="archived", links=(record.id,), info=info, version=1, updated_at=now)


def held_until(record: Record) -> float | None:
    """Until when a memory held, in seconds since 1970; None for one that holds."""
    return None if record.status == "activated" else _until(record)


def held_since(record: Record) -> float:
    """Since when a memory holds as it is, or held last."""
    since = record.info.get(HELD_SINCE)
    return float(since) if _is_moment(since) else record.event_time


def held_at(record: Record, moment: float) -> bool:
    """True if a memory was known and held then."""
    periods = [*_periods(record), (held_since(record), _until(record))]
    return any(begin <= moment + _EXACT and moment < end for begin, end in periods)


def chain(memory_id: str, records: Iterable[Record]) -> list[Record]:
    """A memory with all that it replaced and that replaced it, the first one first; empty if it is not there."""
    by_id = {record.id: record for record in records}
    if memory_id not in by_id:
        return []
    beside: dict[str, set[str]] = {}
    for record in by_id.values():
        for other in _tied(record):
            beside.setdefault(record.id, set()).add(other)
            beside.setdefault(other, set()).add(record.id)
    found, waiting = {memory_id}, [memory_id]
    while waiting:
        for other in beside.get(waiting.pop(), ()):
            if other in by_id and other not in found:
                found.add(other)
                waiting.append(other)
    return sorted((by_id[one] for one in found), key=lambda record: (_until(record), record.event_time))


def is_taken_out(record: Record) -> bool:
    """True for what somebody archived, or took back: it comes back only when somebody says so."""
    return record.status == "archived" and (TAKEN_OUT in record.info or _TAKEN_BACK in record.info)


def replaced_by(record: Record) -> str:
    """The id of what took a memory's place; "" if nothing did."""
    found = record.info.get(REPLACED_BY)
    return found if isinstance(found, str) else ""


def replaced_ids(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of what the memory with this `info` took the place of."""
    return _ids(info.get(REPLACES))


def said_again(record: Record) -> tuple[str, ...]:
    """The ids of messages that say the same as those that a memory rests on."""
    return _ids(record.info.get(SAID_AGAIN))


def has_words_of(record: Record) -> tuple[str, ...]:
    """The ids of all memories that a memory may have words of."""
    return (*record.links, *_ids(record.info.get(GAVE)))


def named_by(record: Record) -> set[str]:
    """The ids of all that a memory names."""
    found: set[str] = set()

    def noted(id_: str) -> str:
        found.add(id_)
        return id_

    renamed(record, noted)
    return found - {record.id}


def renamed(record: Record, name: Callable[[str], str]) -> Record:
    """A memory with other ids: its own, and those of all that it names."""
    info = dict(record.info)
    for key in (REPLACED_BY, ENDED_WITH, EDIT_OF):
        if isinstance(info.get(key), str):
            info[key] = name(info[key])
    for key in (REPLACES, GAVE, SAID_AGAIN):
        if isinstance(info.get(key), list | tuple):
            info[key] = [name(one) for one in info[key] if isinstance(one, str)]
    return replace(record, id=name(record.id), links=tuple(map(name, record.links)), info=info)


def undone(record: Record, line: Sequence[Record], now: float) -> list[Record]:
    """What must change so that the last thing that happened to a memory is taken back; nothing if nothing did. `line`
    is its chain. What was taken back may be so again."""
    by_id = {one.id: one for one in line}
    edits = [one for one in line if one.info.get(EDIT_OF) == record.id and not one.info.get(_TAKEN_BACK)]
    last = max(edits, key=lambda one: one.updated_at, default=None)
    if last is not None and (record.status == "activated" or last.updated_at > record.updated_at - _ROUNDED):
        return _edit_undone(record, last, now)
    if record.status == "activated":
        held = [one for one in line if replaced_by(one) == record.id and one.status == "archived"]
        back = [revived(one, now) for one in held if TAKEN_OUT not in one.info]
        return [_taken_back(record, now), *back] if held else []
    if any(isinstance(record.info.get(name), str) for name in (EDIT_OF, ENDED_WITH)):
        return []  # it goes with the memory that it is of
    if TAKEN_OUT in record.info and REPLACED_BY in record.info:
        return [replace(record, info={name: value for name, value in record.info.items() if name != TAKEN_OUT})]
    successor = next(_successors(record, by_id), None)
    if successor is not None and record.id in replaced_ids(successor.info):
        held_now = [one for one in _successors(record, by_id) if one.status == "activated"]
        if held_now:  # last change first
            return undone(held_now[-1], line, now)
    before = [by_id[one] for one in replaced_ids(record.info) if one in by_id]
    again = [archived(one, now, record.id) for one in before if one.status == "activated"]
    return [revived(record, now), *again]


def revived(record: Record, since: float) -> Record:
    """A memory that holds again."""
    if record.status == "activated":
        return record
    periods = [*_periods(record), (held_since(record), _until(record))]
    kept = [[begin, end] for begin, end in periods if begin < end][-_PERIODS:]
    return replace(record, status="activated", info={**_plain(record.info), HELD: kept, HELD_SINCE: since})


def _successors(record: Record, by_id: Mapping[str, Record]) -> Iterator[Record]:
    """What took a memory's place, then what took that one's, and so on."""
    seen = {record.id}
    while (found := by_id.get(replaced_by(record))) is not None and found.id not in seen:
        seen.add(found.id)
        record = found
        yield record


def _edit_undone(record: Record, earlier: Record, now: float) -> list[Record]:
    """A memory with its earlier text, and its later text as a memory of its own."""
    marks = {name: record.info[name] for name in (CORRECTS, *_ENDS) if name in record.info}
    before = revived(earlier, now).info if record.status == "activated" else earlier.info
    info = {**{name: value for name, value in _plain(before).items() if name != EDIT_OF}, **marks}
    kept = {name: value for name, value in _plain(record.info).items() if name != CORRECTS}
    kept |= {EDIT_OF: record.id, HELD_UNTIL: min(now, _until(record)), _TAKEN_BACK: True}
    return [replace(record, text=earlier.text, info=info), replace(earlier, text=record.text, info=kept)]


def _taken_back(record: Record, now: float) -> Record:
    return archived(record, now, mark=_TAKEN_BACK)


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is said of memories that hold no more."""
    return {name: value for name, value in info.items() if name not in _ENDS}


def _until(record: Record) -> float:
    """Until when a memory held; for one that holds, for ever."""
    if record.status == "activated":
        return _FOR_EVER
    until = record.info.get(HELD_UNTIL)
    return float(until) if _is_moment(until) else record.updated_at


def _periods(record: Record) -> list[tuple[float, float]]:
    """The periods in which a memory held before."""
    found = record.info.get(HELD)
    pairs = [one for one in found if isinstance(one, list | tuple)] if isinstance(found, list | tuple) else []
    return [(float(one[0]), float(one[1])) for one in pairs if len(one) == 2 and all(map(_is_moment, one))]


def _is_moment(found: Any) -> TypeGuard[float]:
    return isinstance(found, int | float) and not isinstance(found, bool) and -_LAST < found < _LAST


def _ids(found: Any) -> tuple[str, ...]:
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list | tuple) else ()


def _tied(record: Record) -> list[str]:
    named = [record.info.get(REPLACED_BY), record.info.get(EDIT_OF)]
    return [*replaced_ids(record.info), *(one for one in named if isinstance(one, str))]
