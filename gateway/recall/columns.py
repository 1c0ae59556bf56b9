"""The columns of a working set: the values of each row that filters and ranking need, as growing arrays."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EXTRACTED_PREFERENCE",
    "GROUP_CODES",
    "PROFILE_CODES",
    "Columns",
    "grow_columns",
    "is_of",
    "make_columns",
]

Columns = dict[str, NDArray[Any]]

GROUP_CODES: Final = {
    "text": (0,),
    "preference": (1, 4),
    "tool": (2,),
    "skill": (3,),
    "chat": (0, 4),
    "profile": (5,),
}
"""The codes of the rows that are searched together. A preference that a model extracted (4) competes with the messages
of a chat; one that is a sentence of a message (1) does not, since its message does."""
EXTRACTED_PREFERENCE: Final = 4
PROFILE_CODES: Final = (*GROUP_CODES["preference"], *GROUP_CODES["profile"])
_FIRST_CAPACITY: Final = 64
_TYPES: Final = {
    "tokens": np.int32,
    "at": np.float64,
    "segment": np.int32,
    "before": np.int32,
    "after": np.int32,
    "length": np.float32,
    "doubt": np.float32,
    "from_user": np.float32,
    "price": np.float32,
    "is_long": np.bool_,
    "group": np.int8,
    "form": np.int64,
    "worth": np.float32,
    "is_extracted": np.bool_,
    "is_empty_talk": np.bool_,
    "alive": np.bool_,
}
_NEIGHBOURS: Final = ("before", "after")  # row numbers; -1 where there is none


def make_columns() -> Columns:
    """Empty columns."""
    return {name: _empty(name, _FIRST_CAPACITY) for name in _TYPES}


def grow_columns(columns: Columns, count: int, used: int) -> None:
    """Make room for `count` rows; the first `used` are copied."""
    capacity = len(columns["tokens"])
    if count <= capacity:
        return
    for name, column in columns.items():
        columns[name] = _empty(name, max(count, capacity + capacity // 2))
        columns[name][:used] = column[:used]


def is_of(groups: NDArray[np.int8], name: str) -> NDArray[np.bool_]:
    """True for the rows that are searched together under this name."""
    members: NDArray[np.bool_] = groups == GROUP_CODES[name][0]
    for code in GROUP_CODES[name][1:]:
        members |= groups == code
    return members


def _empty(name: str, capacity: int) -> NDArray[Any]:
    return np.full(capacity, -1 if name in _NEIGHBOURS else 0, _TYPES[name])
