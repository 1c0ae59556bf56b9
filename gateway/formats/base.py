"""The interface between a wire format and the pipeline: read and extend request bodies, parse answers, lay out blocks.

The formats are the other modules of this folder. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.formats.conversation import Conversation, UserTurn
from gateway.memory.recalled import Memory

__all__ = ["Answer", "Layout", "Outcome", "ParsedRequest", "Reader", "ToolCall", "UserTurn", "WireFormat"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call: its arguments as JSON, and its result, "" if there is none."""

    name: str
    arguments: str
    result: str


class Outcome(StrEnum):
    """The end state of a turn."""

    COMPLETE = "complete"
    CUT = "cut"
    CLIENT_GONE = "client_gone"
    REFUSED = "refused"


class _Deferred:
    """The slot for the reader of the fields that a deferred request does not have yet."""

    __slots__ = ("_read_rest",)
    _read_rest: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest(_Deferred):
    """A request body as parsed by its wire format.

    `messages` are the user's messages of this turn: all since the last answer; `query` is the same as one text,
    `context` the message before them with the beginning of its answer. `opening` is the first user message of the
    conversation, and `first_answer` the answer to it, empty if there is none yet; together they identify conversations
    without an id.
    `is_step` marks a step of a tool loop, with results of tools and no new message; `is_repeated` another request
    without a new message, such as one that continues an answer; `is_task` a request that a program makes for itself
    (titles and the like); `is_unsaid` a turn in which only a program wrote. `user_hint` and `session_hint` are the ids
    in the body. `upstream` is set if only one upstream can answer, since it stores the conversation. `place` is the
    position for a block that is inserted into a message. `conversation` are all messages of the body.
    """

    model: str
    stream: bool
    messages: tuple[str, ...] = ()
    query: str = ""
    context: str = ""
    opening: str = ""
    first_answer: str = ""
    is_step: bool = False
    is_repeated: bool = False
    is_task: bool = False
    is_unsaid: bool = False
    user_hint: str | None = None
    session_hint: str | None = None
    max_tokens: int = 0
    upstream: str = ""
    place: UserTurn | None = None
    conversation: Conversation | None = field(default=None, repr=False, compare=False)

    @classmethod
    def deferred(cls, read_rest: Callable[[], Mapping[str, Any]], **fields: Any) -> "ParsedRequest":
        """A request of these fields. Those that take reading messages are set by `read_rest` at their first use, so
        that requests without memory do not pay for them."""
        request = object.__new__(cls)
        for name, value in {**_DEFAULTS, **fields, "_read_rest": read_rest}.items():
            object.__setattr__(request, name, value)
        return request

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in _DEFERRED:
                raise AttributeError(name)
            for key, value in self._read_rest().items():
                object.__setattr__(self, key, value)
            return object.__getattribute__(self, name)

    @property
    def user_turns(self) -> tuple[UserTurn, ...]:
        """The messages that the user wrote, oldest first; without those of programs and tools. Read only once."""
        return () if self.conversation is None else self.conversation.user_turns


_DEFAULTS: Final = {"user_hint": None, "session_hint": None, "max_tokens": 0, "upstream": "", "conversation": None}
_DEFERRED: Final = frozenset(
    "messages query context opening first_answer is_step is_repeated is_task is_unsaid place".split()
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model. `text` is choice 0 without reasoning; None when it only called tools. `id` is the
    upstream's id. `cached_tokens` (read from a cache) and `written_tokens` (into one) are part of `prompt_tokens`.
    `body` are the bytes of a plain answer, and of a stream if a plugin asks for them.

    For a stream without reported usage, `size` is the number of characters of all choices, with reasoning and
    arguments of tools; `events` the number of events, if the stream was not parsed. `is_reply`: made by a plugin, not a
    model. Before observers get it, tokens that no upstream reported are counted (`estimated_tokens`), and `cost` is set
    to its price in US dollars, None if unknown.
    """

    text: str | None
    finish_reason: str | None = None
    reasoning: str | None = None
    has_tool_calls: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    outcome: Outcome = Outcome.COMPLETE
    cached_tokens: int | None = None
    id: str | None = None
    body: bytes | None = None
    events: int = 0
    size: int = 0
    written_tokens: int | None = None
    is_reply: bool = False
    estimated_tokens: int = 0
    cost: float | None = None


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

    def answer(self) -> Answer: ...


class Layout(Protocol):
    """The text form of memories in the prompt. Pure.

    `frame` is the text without any memory, for the budget. `adds_up`: the tokens of frame, headings and lines sum to
    those of the block, which need not be counted again.
    """

    frame: str
    adds_up: bool

    def line(self, memory: Memory) -> str:
        """The text that one memory adds to the block, with its line break, for the budget."""
        ...

    def heading(self, memory: Memory) -> str:
        """The heading over all memories of the same group, such as a day; empty if there is none."""
        ...

    def render(self, memories: Sequence[Memory]) -> str:
        """The block as it is sent; `memories` are in order of relevance."""
        ...


class WireFormat(Protocol):
    """A wire format as the pipeline uses it. Pure."""

    @property
    def layout(self) -> Layout | None:
        """The layout of memories in this format; None for the default layout."""
        ...

    @property
    def has_own_prompt(self) -> bool:
        """True if the format composes the prompt itself, as MemOS chats do: it lays out each kind of memory apart,
        without the profile, and the body does not contain all options of the client's request."""
        ...

    @property
    def placement(self) -> str | None:
        """The placement of the block; None: as configured."""
        ...

    @property
    def messages_field(self) -> str:
        """The name of the body field that contains the messages."""
        ...

    def put(self, raw: bytes, turn: UserTurn, block: str) -> bytes:
        """The request body with the block inserted before the text of the user turn."""
        ...

    def put_into_system(self, raw: bytes, body: Mapping[str, Any], block: str) -> bytes:
        """The request body with the block inserted in its system prompt."""
        ...

    def visible_ids(self, body: Mapping[str, Any], request: ParsedRequest) -> frozenset[str]:
        """Ids of the messages up to the last user message, which the model sees anyway."""
        ...

    def reader(self) -> Reader:
        """A parser that reads the text of the answer, and its end."""
        ...

    def end_reader(self) -> Reader:
        """A parser that only detects whether the answer is complete, at a fraction of the cost."""
        ...

    def read_plain(self, body: bytes) -> Answer | None:
        """The answer in a plain JSON body; None if it is not one."""
        ...

    def error_body(self, status: int, message: str) -> bytes:
        """The body of an upstream error in this format, where the upstream sent no JSON."""
        ...

    def error_event(self, message: str, code: str) -> bytes:
        """The event that reports to the client in mid-stream that the answer was cut."""
        ...
