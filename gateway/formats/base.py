"""The interface between a wire format and the pipeline: read and extend request bodies, parse answers, lay out blocks.

The formats themselves are in `wire/`; everything here is pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gateway.turn import Answer, Memory

__all__ = ["Dialect", "Layout", "Reader", "ToolCall", "UserTurn"]


@dataclass(frozen=True, slots=True)
class UserTurn:
    """The text a user wrote in one message of a request, and the position where text can be inserted before it.

    `path` leads to a string, or, with `index`, to an array that takes a part at that index.
    """

    text: str
    path: tuple[str | int, ...]
    index: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call: its arguments as JSON, and its result, "" if there is none."""

    name: str
    arguments: str
    result: str


class Reader(Protocol):
    """Incremental parser of a streamed answer. Never raises on malformed input: it skips unreadable parts.

    `has_events`: at least one event was read; `has_error`: the upstream reported an error in mid-stream; `id`: the
    upstream's id of the answer, once it is known.
    """

    @property
    def id(self) -> str | None: ...

    @property
    def has_events(self) -> bool: ...

    @property
    def has_error(self) -> bool: ...

    @property
    def is_complete(self) -> bool:
        """True once the end marker that the format requires was read."""
        ...

    @property
    def is_mid_event(self) -> bool:
        """True if the last bytes did not complete an event."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of a stream, cut anywhere."""
        ...

    def end(self) -> None:
        """Signal the end of the bytes: parse a last line without a closing newline."""
        ...

    def answer(self) -> "Answer": ...


class Layout(Protocol):
    """The text form of memories in the prompt. Pure.

    `frame` is the text without any memory, for the budget. `adds_up`: the tokens of frame, headings and lines sum to
    those of the block, which need not be counted again.
    """

    frame: str
    adds_up: bool

    def line(self, memory: "Memory") -> str:
        """The text that one memory adds to the block, with its line break, for the budget."""
        ...

    def heading(self, memory: "Memory") -> str:
        """The heading over all memories of the same group, such as a day; empty if there is none."""
        ...

    def render(self, memories: "Sequence[Memory]") -> str:
        """The block as it is sent; `memories` are in order of relevance."""
        ...


class Dialect(Protocol):
    """A wire format as the pipeline uses it. Pure."""

    @property
    def layout(self) -> Layout | None:
        """The layout of memories in this format; None for the default layout."""
        ...

    @property
    def placement(self) -> str | None:
        """The placement of the block; None: as configured."""
        ...

    @property
    def messages_field(self) -> str:
        """The name of the body field that contains the messages."""
        ...

    def user_turns(self, body: Mapping[str, Any]) -> list[UserTurn]:
        """The messages that the user wrote, oldest first; without those of programs and tools."""
        ...

    def put(self, raw: bytes, turn: UserTurn, block: str) -> bytes:
        """The request body with the block inserted before the text of the user turn."""
        ...

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        """The request body with the block inserted in its system prompt."""
        ...

    def said(self, body: Mapping[str, Any]) -> frozenset[str]:
        """Ids of the messages up to the last user message, which the model sees anyway."""
        ...

    def calls(self, body: Mapping[str, Any]) -> list[ToolCall]:
        """The tool calls since the user's last message."""
        ...

    def reader(self) -> Reader:
        """A parser that reads the text of the answer, and its end."""
        ...

    def end_reader(self) -> Reader:
        """A parser that only detects whether the answer is complete, at a fraction of the cost."""
        ...

    def read_plain(self, body: bytes) -> "Answer | None":
        """The answer in a plain JSON body; None if it is not one."""
        ...

    def error_body(self, status: int, message: str) -> bytes:
        """The body of an upstream error in this format, where the upstream sent no JSON."""
        ...

    def error_event(self, message: str, code: str) -> bytes:
        """The event that reports to the client in mid-stream that the answer was cut."""
        ...
