"""Reads the conversation of a request, for all formats: which messages are the user's, which of them are of this turn,
and whether it is a step of a tool loop. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.dialect import UserTurn
from gateway.text.user_text import Author, UserText

__all__ = ["Conversation", "Entry", "Role", "read_conversation", "user_entry"]


_QUERY = 3  # latest messages of a turn that are searched with
_MOST = 32  # messages of one turn
_ANSWER_READ = 300  # characters of the answer before a message that belong to its context


class Role(Enum):
    """What a message is to a conversation. CALL: the model calls tools; OTHER: system prompts, thoughts, and what
    programs write on their own account."""

    USER = "user"
    ANSWER = "answer"
    CALL = "call"
    RESULT = "result"
    PROGRAM = "program"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message. `turn` is set where the user said something; `answer` is the text of an ANSWER."""

    role: Role
    turn: UserTurn | None = None
    answer: str = ""


_ROLES = {Author.PROGRAM: Role.PROGRAM, Author.TOOL: Role.RESULT}


def user_entry(said: UserText, path: tuple[str | int, ...], index: int | None = None) -> Entry:
    """The entry of a message with the role `user`, by who wrote it."""
    if said.author is Author.USER:
        return Entry(Role.USER, UserTurn(said.text, path, index))
    return Entry(_ROLES[said.author])


@dataclass(frozen=True, slots=True)
class Conversation:
    """See `gateway.turn.Ask`."""

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
        return "\n".join(self.messages[-_QUERY:])


def read_conversation(
    messages: Sequence[Mapping[str, Any]], entry_of: Callable[[int, Mapping[str, Any]], Entry]
) -> Conversation:
    """The conversation in the messages of a body. Only the latest turn, the message before it and the first exchange
    are read."""
    entries: dict[int, Entry] = {}

    def entry_at(index: int) -> Entry:
        entry = entries.get(index)
        if entry is None:
            entry = entries[index] = entry_of(index, messages[index])
        return entry

    end, has_prefill = _without_prefill(len(messages), entry_at)
    turns: list[UserTurn] = []
    has_result = is_step = has_program = False
    later = Role.OTHER
    index = end - 1
    while index >= 0:
        entry = entry_at(index)
        role = entry.role
        if role is Role.ANSWER:
            if later not in (Role.CALL, Role.RESULT):
                break
            role = Role.CALL  # words that a call or its result follows are no answer yet
        if entry.turn is not None:
            is_step = is_step or (not turns and has_result)
            turns.append(entry.turn)
        has_result = has_result or role is Role.RESULT
        has_program = has_program or (role is Role.PROGRAM and not turns)
        later = later if role is Role.OTHER else role
        index -= 1
    before = _latest_turn(index, entry_at)
    answered = entry_at(index).answer[:_ANSWER_READ] if index >= 0 and before is not None else ""
    opening, answer = _first_exchange(end, entry_at)
    said = tuple(turn.text for turn in reversed(turns[:_MOST]) if turn.text.strip())
    return Conversation(
        messages=said,
        context=f"{before.text}\n{answered}".strip() if before is not None else "",
        opening=opening,
        first_answer=answer,
        is_step=is_step or (not turns and has_result),
        is_repeated=has_prefill,
        is_unsaid=has_program and not turns,
        place=turns[0] if turns else before,
    )


def _without_prefill(count: int, entry_at: Callable[[int], Entry]) -> tuple[int, bool]:
    """The end of the messages without words that are put into the model's mouth, and whether there were any."""
    end, has_prefill = count, False
    for index in range(count - 1, -1, -1):
        role = entry_at(index).role
        if role is Role.ANSWER:
            end, has_prefill = index, True
        elif role is not Role.OTHER:
            break
    return end, has_prefill


def _latest_turn(last: int, entry_at: Callable[[int], Entry]) -> UserTurn | None:
    entries = map(entry_at, range(last, -1, -1))
    return next((entry.turn for entry in entries if entry.turn is not None), None)


def _first_exchange(end: int, entry_at: Callable[[int], Entry]) -> tuple[str, str]:
    """The user's first words, and the text of the first answer to them."""
    opening: str | None = None
    for entry in map(entry_at, range(end)):
        if opening is None and entry.turn is not None:
            opening = entry.turn.text
        elif opening is not None and entry.role in (Role.ANSWER, Role.CALL):
            return opening, entry.answer
    return opening or "", ""
