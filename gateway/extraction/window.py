"""Windows of a conversation as a model reads them: numbered messages. Pure.

Each message is one line of JSON, so that its content cannot pass for another message. Context messages that read like
instructions to a model are left out; long answers and pastes are truncated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from gateway.memory.record import Record
from gateway.text.dates import local_time

__all__ = ["Window", "window_of"]

_BEFORE = 2  # messages repeated as context for the new ones
_MAX_MESSAGE_CHARACTERS = {"user": 2000}
_LONGEST_OTHER = 800  # characters of a message of an assistant or a tool
_MAX_MESSAGES = 60  # messages


@dataclass(frozen=True, slots=True)
class Window:
    """Messages numbered from 1; the first `known` were in an earlier window. `tokens`: the size of the new ones."""

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
                    "when": local_time(record.event_time, record.utc_offset).strftime("%Y-%m-%d %a"),
                    "said": record.text[: _MAX_MESSAGE_CHARACTERS.get(record.source, _LONGEST_OTHER)],
                    **({"seen": True} if number <= self.known else {}),
                }
            ).decode()
            for number, record in enumerate(self.records, start=1)
        ]
        return "\n".join(lines)


def window_of(before: Sequence[Record], waiting: Sequence[Record], most: int, count: Callable[[str], int]) -> Window:
    """The first waiting messages that fit into `most` tokens, at least one, preceded by the last of those before."""
    new: list[Record] = []
    tokens = 0
    for record in waiting:
        cost = count(record.text[: _MAX_MESSAGE_CHARACTERS.get(record.source, _LONGEST_OTHER)])
        if new and (tokens + cost > most or len(new) == _MAX_MESSAGES):
            break
        new.append(record)
        tokens += cost
    context = [record for record in before[-_BEFORE:] if not record.suspicious]
    return Window((*context, *new), len(context), tokens)
