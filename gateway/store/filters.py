"""Filters on memories: MemOS' tree of conditions, checked on the way in and evaluated on records. Pure.

A tree never becomes query text: it is compiled to a predicate, which both the working set and what comes from LanceDB
are asked with. Field names are those of MemOS' two vocabularies; any other name is looked up in the client's
metadata, then in what the gateway notes of a memory.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.turn import Record, group_of

__all__ = ["BUILT_IN", "BadFilter", "Filter", "file_ids", "memory_type", "parse_filter", "parse_time", "plain_id"]

_DEPTH = 8
_CONDITIONS = 200
_LIST = 1000
_VALUES = 2000  # in all lists together
_JOINS: Final = ("and", "or")
_OPERATORS: Final = frozenset(("=", "eq", "gt", "gte", "lt", "lte", "contains", "in", "like", "nolike"))
_BARE_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_DAY = timedelta(days=1).total_seconds()

Predicate = Callable[[Record], bool]


def plain_id(memory_id: str) -> str:
    """A memory's id as it is stored: clients may write it as a UUID with hyphens."""
    return memory_id.strip().lower().replace("-", "") if len(memory_id) == 36 else memory_id.strip()


def file_ids(record: Record) -> tuple[str, ...]:
    """The files that a memory comes from."""
    found = record.info.get("file_ids")
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list | tuple) else ()


def memory_type(record: Record) -> str:
    """MemOS' name for what a memory is."""
    named = {"preference": "PreferenceMemory", "tool": "ToolTrajectoryMemory", "skill": "SkillMemory"}
    if record.kind == "document":
        return "RawFileMemory"
    return named.get(group_of(record.kind)) or ("UserMemory" if record.source == "user" else "LongTermMemory")


class BadFilter(ValueError):
    """The message names the path of what is wrong."""


@dataclass(frozen=True, slots=True)
class Filter:
    """`allows` says whether a record passes. `by_source` holds what applies to one cube or one kind of source only."""

    everywhere: Predicate | None = None
    by_source: Mapping[str, Predicate] | None = None

    def of(self, cube_id: str, source: str) -> Predicate | None:
        """What applies to a cube; `source` is one of user, agent, public, knowledgebase."""
        if self.by_source is None:
            return self.everywhere
        return self.by_source.get(cube_id, self.by_source.get(source))


def parse_filter(data: Any, path: str = "filter") -> Filter:
    """A filter as a client sent it; none and `{}` allow everything. Raises BadFilter."""
    if data is None or data == {}:
        return Filter()
    if not isinstance(data, dict):
        raise BadFilter(f"{path}: must be an object")
    budget = _Budget()
    if not any(key not in _JOINS and _is_tree(value) for key, value in data.items()):
        return Filter(_tree(data, path, 1, budget))
    if not all(key not in _JOINS and (_is_tree(value) or value == {}) for key, value in data.items()):
        raise BadFilter(f"{path}: conditions and filters of single cubes cannot stand side by side")
    trees = {key: _tree(value, f"{path}.{key}", 2, budget) for key, value in data.items() if value}
    return Filter(by_source=trees)


def parse_time(value: Any) -> float | None:
    """A moment in seconds since 1970: ISO 8601 with or without a zone (then UTC), or seconds, or milliseconds."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) / (1000 if abs(value) > 1e11 else 1)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


class _Budget:
    def __init__(self) -> None:
        self._conditions = _CONDITIONS
        self._values = _VALUES

    def take(self, path: str, values: int = 0) -> None:
        """One more condition, or so many values of a list."""
        self._conditions -= not values
        self._values -= values
        if self._conditions < 0:
            raise BadFilter(f"{path}: a filter has at most {_CONDITIONS} conditions")
        if self._values < 0:
            raise BadFilter(f"{path}: the lists of a filter have at most {_VALUES} values together")


def _is_tree(value: Any) -> bool:
    """True for `{"and": …}` and `{"or": …}`: beside a name that is the filter of one cube, not a condition."""
    return isinstance(value, dict) and any(key in _JOINS for key in value)


def _tree(data: Any, path: str, depth: int, budget: _Budget) -> Predicate:
    if not isinstance(data, dict) or not data:
        raise BadFilter(f"{path}: must be an object with at least one condition")
    if depth > _DEPTH:
        raise BadFilter(f"{path}: nested deeper than {_DEPTH} levels")
    parts = [
        _join(key, value, f"{path}.{key}", depth, budget)
        if key in _JOINS
        else _condition(str(key), value, f"{path}.{key}", budget)
        for key, value in data.items()
    ]
    return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)


def _join(kind: str, data: Any, path: str, depth: int, budget: _Budget) -> Predicate:
    if not isinstance(data, list) or not data:
        raise BadFilter(f"{path}: must be a list with at least one condition")
    parts = [_tree(item, f"{path}[{index}]", depth + 1, budget) for index, item in enumerate(data)]
    if kind == "and":
        return lambda record: all(part(record) for part in parts)
    return lambda record: any(part(record) for part in parts)


def _condition(field: str, data: Any, path: str, budget: _Budget) -> Predicate:
    if not isinstance(data, dict):
        if isinstance(data, list):  # a list is "any of", as `related_id` has it
            return _test(field, "in", data, path, budget)
        return _test(field, "=", data, path, budget)
    if not data:
        raise BadFilter(f"{path}: needs an operator: {', '.join(sorted(_OPERATORS))}")
    tests = [_test(field, operator, value, f"{path}.{operator}", budget) for operator, value in data.items()]
    return lambda record: all(test(record) for test in tests)


def _test(field: str, operator: str, wanted: Any, path: str, budget: _Budget) -> Predicate:
    budget.take(path)
    if operator not in _OPERATORS:
        raise BadFilter(f"{path}: unknown operator; known are {', '.join(sorted(_OPERATORS))}")
    _check_operand(operator, wanted, path, budget)
    read = _FIELDS.get(field) or _in_info(field)
    if field in _TIMES:
        return _time_test(read, operator, wanted, path)
    if field in _IDS:
        wanted = _plain_ids(wanted)
    compare = _COMPARISONS[operator]

    def test(record: Record) -> bool:
        found = read(record)
        return found is not None and compare(found, wanted)

    if operator == "nolike":
        return lambda record: not _like(read(record) or "", wanted)
    return test


def _check_operand(operator: str, wanted: Any, path: str, budget: _Budget) -> None:
    if operator == "in":
        if not isinstance(wanted, list) or not wanted or len(wanted) > _LIST:
            raise BadFilter(f"{path}: must be a list of 1 to {_LIST} values")
        budget.take(path, len(wanted))
        if any(isinstance(value, dict | list) for value in wanted):
            raise BadFilter(f"{path}: must be a list of plain values")
    elif isinstance(wanted, dict | list) or wanted is None:
        raise BadFilter(f"{path}: must be a string, a number or a boolean")
    elif operator in ("like", "nolike") and not isinstance(wanted, str):
        raise BadFilter(f"{path}: must be a string")


def _time_test(read: Callable[[Record], Any], operator: str, wanted: Any, path: str) -> Predicate:
    """Times compare as moments. A bare date is its first moment; for `lte` its last, for `=` the whole day."""
    if operator in ("contains", "like", "nolike"):
        raise BadFilter(f"{path}: a time is compared with =, in, gt, gte, lt or lte")
    moments = []
    for value in wanted if operator == "in" else [wanted]:
        moment = parse_time(value)
        if moment is None:
            raise BadFilter(f"{path}: must be a time such as 2026-05-08 or 2026-05-08T13:56:00Z")
        is_day = isinstance(value, str) and _BARE_DATE.match(value.strip()) is not None
        moments.append((moment, moment + _DAY - 1e-6 if is_day else moment))
    (first, last) = moments[0]
    tests: dict[str, Predicate] = {
        "gt": lambda record: bool(read(record) > first),
        "gte": lambda record: bool(read(record) >= first),
        "lt": lambda record: bool(read(record) < first),
        "lte": lambda record: bool(read(record) <= last),
    }
    return tests.get(operator) or (lambda record: any(low <= read(record) <= high for low, high in moments))


def _in_info(field: str) -> Callable[[Record], Any]:
    names = field.removeprefix("info.").split(".")

    def read(record: Record) -> Any:
        value = _at(record.metadata, names)
        return _at(record.info, names) if value is None else value

    return read


def _at(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of a dotted name, in so many words or step by step."""
    value: Any = values.get(".".join(names))
    if value is not None:
        return value
    value = values
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _sources(record: Record) -> tuple[str, ...]:
    """Who said it, MemOS' word for where it is from, and what the client said of that."""
    named = {"document": "file", "tool": "system"}.get(record.source, "conversation")
    told = record.metadata.get("source") or record.info.get("source")  # earlier versions kept it there
    return (record.source, named, told) if isinstance(told, str) else (record.source, named)


_IDS: Final = frozenset(("id", "memory_id", "related_id"))
_TIMES: Final = frozenset(("created_at", "updated_at", "create_time", "update_time"))
_FIELDS: Final[Mapping[str, Callable[[Record], Any]]] = {
    "id": lambda record: record.id,
    "memory_id": lambda record: record.id,
    "key": lambda record: record.text[:60],
    "tags": lambda record: record.tags,
    "type": lambda record: record.kind,
    "memory": lambda record: record.text,
    "memory_value": lambda record: record.text,
    "content": lambda record: record.text,
    "memory_type": memory_type,
    "status": lambda record: record.status,
    "source": _sources,
    "sources": _sources,
    "visibility": lambda record: "private",
    "file_ids": file_ids,
    "role": lambda record: record.source,
    "confidence": lambda record: record.confidence,
    "user_id": lambda record: record.user_id,
    "user_name": lambda record: record.cube_id,
    "mem_cube_id": lambda record: record.cube_id,
    "cube_id": lambda record: record.cube_id,
    "knowledgebase_id": lambda record: record.cube_id,
    "session_id": lambda record: record.session_id,
    "conversation_id": lambda record: record.session_id,
    "agent_id": lambda record: record.agent_id,
    "app_id": lambda record: record.app_id,
    "related_id": lambda record: record.links,
    "created_at": lambda record: record.event_time,
    "create_time": lambda record: record.event_time,
    "updated_at": lambda record: record.updated_at,
    "update_time": lambda record: record.updated_at,
}


# names that a client's metadata cannot take: a filter on them means a memory's own fields
BUILT_IN: Final = frozenset(_FIELDS) - {"source", "type", "role", "content", "key"}


def _equals(found: Any, wanted: Any) -> bool:
    if isinstance(found, list | tuple):
        return any(_equals(item, wanted) for item in found)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Numbers with numbers, text with text; anything else is not comparable and does not pass."""

    def test(found: Any, wanted: Any) -> bool:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (found, wanted))
        texts = isinstance(found, str) and isinstance(wanted, str)
        return (numbers or texts) and compare(found, wanted)

    return test


def _contains(found: Any, wanted: Any) -> bool:
    if isinstance(found, str):
        return isinstance(wanted, str) and wanted.casefold() in found.casefold()
    return isinstance(found, list | tuple) and any(_equals(item, wanted) for item in found)


def _plain_ids(wanted: Any) -> Any:
    if isinstance(wanted, list):
        return [_plain_ids(one) for one in wanted]
    return plain_id(wanted) if isinstance(wanted, str) and len(wanted) == 36 else wanted


def _is_in(found: Any, wanted: Any) -> bool:
    if isinstance(found, str):
        return found in wanted
    return any(_equals(found, value) for value in wanted)


def _like(found: Any, wanted: str) -> bool:
    texts: Sequence[Any] = found if isinstance(found, list | tuple) else (found,)
    return any(wanted.casefold() in str(text).casefold() for text in texts)


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": _equals,
    "eq": _equals,
    "gt": _ordered(lambda found, wanted: found > wanted),
    "gte": _ordered(lambda found, wanted: found >= wanted),
    "lt": _ordered(lambda found, wanted: found < wanted),
    "lte": _ordered(lambda found, wanted: found <= wanted),
    "contains": _contains,
    "in": _is_in,
    "like": _like,
    "nolike": lambda found, wanted: not _like(found, wanted),
}
