"""The conversation in a request, for all formats: the user's messages, those of the current turn, and whether the
request is a step of a tool loop. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.text.user_text import Author, UserText

__all__ = ["Conversation", "ConversationEntry", "CurrentTurn", "Role", "UserTurn", "read_current_turn", "user_entry"]

_QUERY_MESSAGES = 3  # latest messages of a turn that form the search query
_MAX_MESSAGES = 32  # messages of one turn
_CONTEXT_CHARACTERS = 300  # characters of the preceding answer that belong to the context


@dataclass(frozen=True, slots=True)
class UserTurn:
    """The text a user wrote in one message of a request, and the position where text can be inserted before it.

    `path` leads to a string, or, with `index`, to an array that takes a part at that index.
    """

    text: str
    path: tuple[str | int, ...]
    index: int | None = None


class Role(Enum):
    """The role of a message in a conversation.

    CALL: the model calls tools. OTHER: system prompts, reasoning, and texts that programs generate.
    """

    USER = "user"
    ANSWER = "answer"
    CALL = "call"
    RESULT = "result"
    PROGRAM = "program"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ConversationEntry:
    """One message. `turn` is set if it is written by the user; `answer` is the text of an ANSWER."""

    role: Role
    turn: UserTurn | None = None
    answer: str = ""


_ROLES = {Author.PROGRAM: Role.PROGRAM, Author.TOOL: Role.RESULT}


def user_entry(user_text: UserText, path: tuple[str | int, ...], index: int | None = None) -> ConversationEntry:
    """Build the entry of a message with the role `user`, depending on its actual author."""
    if user_text.author is Author.USER:
        return ConversationEntry(Role.USER, UserTurn(user_text.text, path, index))
    return ConversationEntry(_ROLES[user_text.author])


class Conversation:
    """The messages of a request body. Each is classified by `classify` when it is first needed, and only once."""

    def __init__(
        self, messages: Sequence[Mapping[str, Any]], classify: Callable[[int, Mapping[str, Any]], ConversationEntry]
    ) -> None:
        self._messages = messages
        self._classify = classify
        self._entries: dict[int, ConversationEntry] = {}
        self._user_turns: tuple[UserTurn, ...] | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def entry(self, index: int) -> ConversationEntry:
        """The message at this position."""
        entry = self._entries.get(index)
        if entry is None:
            entry = self._entries[index] = self._classify(index, self._messages[index])
        return entry

    @property
    def user_turns(self) -> tuple[UserTurn, ...]:
        """The messages that the user wrote, oldest first; without those of programs and tools."""
        if self._user_turns is None:
            entries = map(self.entry, range(len(self._messages)))
            self._user_turns = tuple(entry.turn for entry in entries if entry.turn is not None)
        return self._user_turns


@dataclass(frozen=True, slots=True)
class CurrentTurn:
    """The latest turn of a conversation; for the fields see `gateway.turn.ParsedRequest`."""

    messages: tuple[str, ...] = ()
    context: str = ""
    opening: str = ""
    first_answer: str = ""
    is_step: bool = False
    is_repeated: bool = False
    is_unsaid: bool = False
    place: UserTurn | None = None

    @property
    def query(self) -> str:
        return "\n".join(self.messages[-_QUERY_MESSAGES:])


def read_current_turn(conversation: Conversation) -> CurrentTurn:
    """Find the latest turn. Only its messages, the message before it and the first exchange are classified."""
    entry_at = conversation.entry
    end, has_prefill = _strip_prefill(len(conversation), entry_at)
    turns: list[UserTurn] = []
    has_result = is_step = has_program = False
    later_role = Role.OTHER
    index = end - 1
    while index >= 0:
        entry = entry_at(index)
        role = entry.role
        if role is Role.ANSWER:
            if later_role not in (Role.CALL, Role.RESULT):
                break
            role = Role.CALL  # text followed by a call or its result is not yet an answer
        if entry.turn is not None:
            is_step = is_step or (not turns and has_result)
            turns.append(entry.turn)
        has_result = has_result or role is Role.RESULT
        has_program = has_program or (role is Role.PROGRAM and not turns)
        later_role = later_role if role is Role.OTHER else role
        index -= 1
    previous_turn = _latest_turn(index, entry_at)
    previous_answer = entry_at(index).answer[:_CONTEXT_CHARACTERS] if index >= 0 and previous_turn is not None else ""
    opening, answer = _first_exchange(end, entry_at)
    user_messages = tuple(turn.text for turn in reversed(turns[:_MAX_MESSAGES]) if turn.text.strip())
    return CurrentTurn(
        messages=user_messages,
        context=f"{previous_turn.text}\n{previous_answer}".strip() if previous_turn is not None else "",
        opening=opening,
        first_answer=answer,
        is_step=is_step or (not turns and has_result),
        is_repeated=has_prefill,
        is_unsaid=has_program and not turns,
        place=turns[0] if turns else previous_turn,
    )


def _strip_prefill(count: int, entry_at: Callable[[int], ConversationEntry]) -> tuple[int, bool]:
    """Return the end of the messages without a trailing assistant prefill, and whether there is a prefill."""
    end, has_prefill = count, False
    for index in range(count - 1, -1, -1):
        role = entry_at(index).role
        if role is Role.ANSWER:
            end, has_prefill = index, True
        elif role is not Role.OTHER:
            break
    return end, has_prefill


def _latest_turn(last: int, entry_at: Callable[[int], ConversationEntry]) -> UserTurn | None:
    entries = map(entry_at, range(last, -1, -1))
    return next((entry.turn for entry in entries if entry.turn is not None), None)


def _first_exchange(end: int, entry_at: Callable[[int], ConversationEntry]) -> tuple[str, str]:
    """Return the text of the first user message and of the first answer to it."""
    opening: str | None = None
    for entry in map(entry_at, range(end)):
        if opening is None and entry.turn is not None:
            opening = entry.turn.text
        elif opening is not None and entry.role in (Role.ANSWER, Role.CALL):
            return opening, entry.answer
    return opening or "", ""
