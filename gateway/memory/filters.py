"""Filters on memories: MemOS' tree of conditions, validated on input and evaluated on records. Pure.

A tree never becomes query text: it is compiled to a predicate, which is applied both to the working set and to rows
from LanceDB. Field names are those of MemOS' two vocabularies; any other name is looked up in the client's metadata,
then in the gateway's own notes on a memory (`info`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.memory.annotations import annotation
from gateway.memory.kinds import kind_of
from gateway.memory.record import Record

__all__ = ["BUILT_IN", "BadFilter", "MemoryFilter", "memory_type", "parse_filter", "parse_time", "plain_id"]

_MAX_DEPTH = 8
_MAX_CONDITIONS = 200
_MAX_LIST = 1000
_MAX_VALUES = 2000  # in all lists together
_JOINS: Final = ("and", "or")
_OPERATORS: Final = frozenset(("=", "eq", "gt", "gte", "lt", "lte", "contains", "in", "like", "nolike"))
_BARE_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_DAY = timedelta(days=1).total_seconds()

Predicate = Callable[[Record], bool]


def plain_id(memory_id: str) -> str:
    """Normalise a memory id to its stored form: clients may write it as a UUID with hyphens."""
    return memory_id.strip().lower().replace("-", "") if len(memory_id) == 36 else memory_id.strip()


def memory_type(record: Record) -> str:
    """MemOS' name for the type of a memory."""
    return kind_of(record.kind).memos_type or ("UserMemory" if record.source == "user" else "LongTermMemory")


class BadFilter(ValueError):
    """A filter is invalid; the message names the path of the faulty part."""


@dataclass(frozen=True, slots=True)
class MemoryFilter:
    """A compiled filter: one predicate for all sources, or `by_source` with those of single cubes or kinds of source. A
    missing predicate allows everything."""

    everywhere: Predicate | None = None
    by_source: Mapping[str, Predicate] | None = None

    def of(self, cube_id: str, source: str) -> Predicate | None:
        """The predicate that applies to a cube; `source` is one of user, agent, public, knowledgebase."""
        if self.by_source is None:
            return self.everywhere
        return self.by_source.get(cube_id, self.by_source.get(source))


def parse_filter(data: Any, path: str = "filter") -> MemoryFilter:
    """Parse a filter from a client's JSON; None and `{}` allow everything. Raises BadFilter."""
    if data is None or data == {}:
        return MemoryFilter()
    if not isinstance(data, dict):
        raise BadFilter(f"{path}: must be an object")
    budget = _Budget()
    if not any(key not in _JOINS and _is_tree(value) for key, value in data.items()):
        return MemoryFilter(_compile_tree(data, path, 1, budget))
    if not all(key not in _JOINS and (_is_tree(value) or value == {}) for key, value in data.items()):
        raise BadFilter(f"{path}: conditions and filters of single cubes cannot stand side by side")
    trees = {key: _compile_tree(value, f"{path}.{key}", 2, budget) for key, value in data.items() if value}
    return MemoryFilter(by_source=trees)


def parse_time(value: Any) -> float | None:
    """Parse a time to seconds since 1970: ISO 8601 (UTC if it has no zone), or seconds, or milliseconds."""
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
        self._conditions = _MAX_CONDITIONS
        self._values = _MAX_VALUES

    def take(self, path: str, values: int = 0) -> None:
        """Spend one condition, or the `values` of a list. Raises BadFilter if the budget is exceeded."""
        self._conditions -= not values
        self._values -= values
        if self._conditions < 0:
            raise BadFilter(f"{path}: a filter has at most {_MAX_CONDITIONS} conditions")
        if self._values < 0:
            raise BadFilter(f"{path}: the lists of a filter have at most {_MAX_VALUES} values together")


def _is_tree(value: Any) -> bool:
    """True for `{"and": …}` and `{"or": …}`: under a name, such a tree is the filter of one cube, not a condition."""
    return isinstance(value, dict) and any(key in _JOINS for key in value)


def _compile_tree(data: Any, path: str, depth: int, budget: _Budget) -> Predicate:
    if not isinstance(data, dict) or not data:
        raise BadFilter(f"{path}: must be an object with at least one condition")
    if depth > _MAX_DEPTH:
        raise BadFilter(f"{path}: nested deeper than {_MAX_DEPTH} levels")
    parts = [
        _compile_join(key, value, f"{path}.{key}", depth, budget)
        if key in _JOINS
        else _compile_condition(str(key), value, f"{path}.{key}", budget)
        for key, value in data.items()
    ]
    return parts[0] if len(parts) == 1 else lambda record: all(part(record) for part in parts)


def _compile_join(kind: str, data: Any, path: str, depth: int, budget: _Budget) -> Predicate:
    if not isinstance(data, list) or not data:
        raise BadFilter(f"{path}: must be a list with at least one condition")
    parts = [_compile_tree(item, f"{path}[{index}]", depth + 1, budget) for index, item in enumerate(data)]
    if kind == "and":
        return lambda record: all(part(record) for part in parts)
    return lambda record: any(part(record) for part in parts)


def _compile_condition(field: str, data: Any, path: str, budget: _Budget) -> Predicate:
    if not isinstance(data, dict):
        if isinstance(data, list):  # a list is "any of", as `related_id` has it
            return _compile_test(field, "in", data, path, budget)
        return _compile_test(field, "=", data, path, budget)
    if not data:
        raise BadFilter(f"{path}: needs an operator: {', '.join(sorted(_OPERATORS))}")
    tests = [_compile_test(field, operator, value, f"{path}.{operator}", budget) for operator, value in data.items()]
    return lambda record: all(test(record) for test in tests)


def _compile_test(field: str, operator: str, operand: Any, path: str, budget: _Budget) -> Predicate:
    budget.take(path)
    if operator not in _OPERATORS:
        raise BadFilter(f"{path}: unknown operator; known are {', '.join(sorted(_OPERATORS))}")
    _check_operand(operator, operand, path, budget)
    read = _FIELDS.get(field) or _read_from_info(field)
    if field in _TIMES:
        return _compile_time_test(read, operator, operand, path)
    if field in _IDS:
        operand = _plain_ids(operand)
    compare = _COMPARISONS[operator]

    def test(record: Record) -> bool:
        value = read(record)
        return value is not None and compare(value, operand)

    if operator == "nolike":
        return lambda record: not _like(read(record) or "", operand)
    return test


def _check_operand(operator: str, operand: Any, path: str, budget: _Budget) -> None:
    if operator == "in":
        if not isinstance(operand, list) or not operand or len(operand) > _MAX_LIST:
            raise BadFilter(f"{path}: must be a list of 1 to {_MAX_LIST} values")
        budget.take(path, len(operand))
        if any(isinstance(value, dict | list) for value in operand):
            raise BadFilter(f"{path}: must be a list of plain values")
    elif isinstance(operand, dict | list) or operand is None:
        raise BadFilter(f"{path}: must be a string, a number or a boolean")
    elif operator in ("like", "nolike") and not isinstance(operand, str):
        raise BadFilter(f"{path}: must be a string")


def _compile_time_test(read: Callable[[Record], Any], operator: str, operand: Any, path: str) -> Predicate:
    """Compile a comparison of times. A bare date is its first moment; for `lte` its last, for `=` the whole day."""
    if operator in ("contains", "like", "nolike"):
        raise BadFilter(f"{path}: a time is compared with =, in, gt, gte, lt or lte")
    moments = []
    for value in operand if operator == "in" else [operand]:
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


def _read_from_info(field: str) -> Callable[[Record], Any]:
    names = field.removeprefix("info.").split(".")

    def read(record: Record) -> Any:
        value = _resolve(record.metadata, names)
        return annotation(record, ".".join(names)) if value is None else value

    return read


def _resolve(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Look up a dotted name: as one key, else step by step through nested objects."""
    value: Any = values.get(".".join(names))
    if value is not None:
        return value
    value = values
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _sources(record: Record) -> tuple[str, ...]:
    """The author's role, MemOS' word for the origin, and the client's own `source` if it sent one."""
    origin = {"document": "file", "tool": "system"}.get(record.source, "conversation")
    label = record.metadata.get("source")
    return (record.source, origin, label) if isinstance(label, str) else (record.source, origin)


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
    "file_ids": lambda record: record.origin.file_ids,
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


# reserved names: a filter on them reads a memory's own fields, never the client's metadata
BUILT_IN: Final = frozenset(_FIELDS) - {"source", "type", "role", "content", "key"}


def _equals(value: Any, operand: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_equals(item, operand) for item in value)
    if isinstance(value, bool) or isinstance(operand, bool):
        return value is operand
    return bool(value == operand)


def _compare_ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Compare numbers with numbers and text with text; anything else is not comparable and does not pass."""

    def test(value: Any, operand: Any) -> bool:
        numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (value, operand))
        texts = isinstance(value, str) and isinstance(operand, str)
        return (numbers or texts) and compare(value, operand)

    return test


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, str):
        return isinstance(operand, str) and operand.casefold() in value.casefold()
    return isinstance(value, list | tuple) and any(_equals(item, operand) for item in value)


def _plain_ids(operand: Any) -> Any:
    if isinstance(operand, list):
        return [_plain_ids(item) for item in operand]
    return plain_id(operand) if isinstance(operand, str) and len(operand) == 36 else operand


def _is_in(value: Any, operand: Any) -> bool:
    if isinstance(value, str):
        return value in operand
    return any(_equals(value, item) for item in operand)


def _like(value: Any, operand: str) -> bool:
    texts: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
    return any(operand.casefold() in str(text).casefold() for text in texts)


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": _equals,
    "eq": _equals,
    "gt": _compare_ordered(lambda value, operand: value > operand),
    "gte": _compare_ordered(lambda value, operand: value >= operand),
    "lt": _compare_ordered(lambda value, operand: value < operand),
    "lte": _compare_ordered(lambda value, operand: value <= operand),
    "contains": _contains,
    "in": _is_in,
    "like": _like,
    "nolike": lambda value, operand: not _like(value, operand),
}
