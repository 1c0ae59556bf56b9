"""What a model is shown of a conversation: numbered messages, a window at a time. Pure.

Each message is one line of JSON: nothing in it can pass for another one. What reads like an instruction to a model is
left out; long answers and pastes are cut.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from gateway.fence import SUSPICIOUS
from gateway.store.dates import local_time
from gateway.turn import Record

__all__ = ["Window", "window_of"]

_BEFORE = 2  # messages shown again, so that what follows can be understood
_LONGEST = {"user": 2000}
_LONGEST_OTHER = 800  # characters of what an assistant or a tool said
_MOST = 60  # messages


@dataclass(frozen=True, slots=True)
class Window:
    """Messages by number, from 1; the first `known` were in the window before. `tokens`: of the new ones."""

    records: tuple[Record, ...]
    known: int
    tokens: int

    @property
    def new(self) -> tuple[Record, ...]:
        return self.records[self.known :]

    @property
    def text(self) -> str:
        lines = [
            orjson.dumps(
                {
                    "number": number,
                    "who": record.source,
                    "when": local_time(record.event_time, record.info).strftime("%Y-%m-%d %a"),
                    "said": record.text[: _LONGEST.get(record.source, _LONGEST_OTHER)],
                    **({"seen": True} if number <= self.known else {}),
                }
            ).decode()
            for number, record in enumerate(self.records, start=1)
        ]
        return "\n".join(lines)


def window_of(before: Sequence[Record], waiting: Sequence[Record], most: int, count: Callable[[str], int]) -> Window:
    """The first of the waiting messages that fit into `most` tokens, at least one, after the last of those before."""
    taken: list[Record] = []
    tokens = 0
    for record in waiting:
        cost = count(record.text[: _LONGEST.get(record.source, _LONGEST_OTHER)])
        if taken and (tokens + cost > most or len(taken) == _MOST):
            break
        taken.append(record)
        tokens += cost
    shown = [record for record in before[-_BEFORE:] if SUSPICIOUS not in record.info]
    return Window((*shown, *taken), len(shown), tokens)
