"""What a wire format is to the pipeline: how a body is read and extended, an answer read along, a block laid out.

The formats themselves stand in `wire/`; everything here is pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gateway.turn import Answer, Memory

__all__ = ["Dialect", "Layout", "Reader", "ToolCall", "UserTurn"]


@dataclass(frozen=True, slots=True)
class UserTurn:
    """The user's own words in a message of a request, and where text can be put before it: `path` leads to a string,
    or, with `index`, to an array that takes a part there."""

    text: str
    path: tuple[str | int, ...]
    index: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool: its arguments as JSON, and what came of it, "" if nothing did."""

    name: str
    arguments: str
    result: str


class Reader(Protocol):
    """Reads along a stream. Never raises on odd input: what it cannot read it skips.

    `has_events`: something was said at all; `has_error`: the upstream reported one in mid-stream; `id`: its own name
    for the answer, once it is known.
    """

    @property
    def id(self) -> str | None: ...

    @property
    def has_events(self) -> bool: ...

    @property
    def has_error(self) -> bool: ...

    @property
    def is_complete(self) -> bool:
        """True when the end that the format promises was seen."""
        ...

    @property
    def is_mid_event(self) -> bool:
        """True if the last bytes were not the end of an event."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of a stream, cut anywhere."""
        ...

    def end(self) -> None:
        """The bytes are over: read what is left without a closing newline."""
        ...

    def answer(self) -> "Answer": ...


class Layout(Protocol):
    """How memories look in the prompt. `frame` is the text without any memory, for the budget. `adds_up`: the tokens of
    frame, headings and lines are those of the block, which need not be counted again. Pure."""

    frame: str
    adds_up: bool

    def line(self, memory: "Memory") -> str:
        """What one memory adds to the block, its line break included, for the budget."""
        ...

    def heading(self, memory: "Memory") -> str:
        """What stands once over all memories of its kind, say of a day; empty if nothing does."""
        ...

    def render(self, memories: "Sequence[Memory]") -> str:
        """The block as it is sent, for memories in the order of their worth."""
        ...


class Dialect(Protocol):
    """One wire format, as the pipeline sees it. Pure."""

    @property
    def layout(self) -> Layout | None:
        """How memories look in this format; None for the house's own way."""
        ...

    @property
    def placement(self) -> str | None:
        """Where the block goes; None: where the configuration says."""
        ...

    @property
    def messages_field(self) -> str:
        """The field of a body that holds its messages."""
        ...

    def user_turns(self, body: Mapping[str, Any]) -> list[UserTurn]:
        """The messages with words of the user, oldest first; not those of programs and tools."""
        ...

    def put(self, raw: bytes, turn: UserTurn, block: str) -> bytes:
        """The request body with the block before what the user said there."""
        ...

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        """The request body with the block in its system prompt."""
        ...

    def said(self, body: Mapping[str, Any]) -> frozenset[str]:
        """Ids of the messages up to the last user message: what the model sees anyway."""
        ...

    def calls(self, body: Mapping[str, Any]) -> list[ToolCall]:
        """The calls of tools since the user last spoke."""
        ...

    def reader(self) -> Reader:
        """Reads what the answer says, and its end."""
        ...

    def end_reader(self) -> Reader:
        """Reads only whether it ended well, at a fraction of the cost."""
        ...

    def read_plain(self, body: bytes) -> "Answer | None":
        """The answer in a plain JSON body; None if it is not one."""
        ...

    def error_body(self, status: int, message: str) -> bytes:
        """An error of an upstream's that was no JSON, as this format writes one."""
        ...

    def error_event(self, message: str, code: str) -> bytes:
        """The event that tells a client in mid-stream that the answer was cut."""
        ...
