"""Input of an evaluation: conversations of users, with questions and the passages that answer them.

    {"dataset": "...", "users": [{"user_id": "...",
       "sessions":  [{"session_id": "...", "turns": [{"id", "role", "speaker", "content", "time"}]}],
       "questions": [{"id", "question", "category", "before": [{"role", "content"}],
                      "evidence": [passages], "outdated": [passages], "headline": true}]}]}

A passage is the id of a turn, `{"turn": id, "quote": "words of it that answer"}`, or a list of such alternatives of
which one is enough. `evidence` lists all passages needed for the answer; empty means that no turn answers the question,
and that nothing should be injected. `outdated` lists the passages that the evidence supersedes: they must not be
recalled alone, or after it. `before` are earlier messages of the question's own conversation. Questions that are not
`headline` are skipped by default. Unknown fields are ignored.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gateway.remember.chunks import PASSAGE, USER_MESSAGE, pieces

__all__ = ["Alternatives", "Conversations", "InvalidConversations", "Message", "Passage", "Person", "Question", "read"]


class InvalidConversations(Exception):
    """A file cannot be read or has another format; the message names the place."""


class _TextPart(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Message(_TextPart):
    id: str
    role: Literal["user", "assistant"]
    content: str = Field(pattern=r"\w")  # letters or digits, which are searched for in the block
    time: datetime
    speaker: str = ""

    @property
    def text(self) -> str:
        """The text to remember: with the speaker's name, if there is one."""
        return f"{self.speaker}: {self.content}" if self.speaker else self.content

    @property
    def chunks(self) -> list[str]:
        """The chunks in which it is stored, without the speaker's name."""
        chunks = pieces(self.text, USER_MESSAGE if self.role == "user" else PASSAGE)
        return [chunks[0].removeprefix(f"{self.speaker}: ") if self.speaker else chunks[0], *chunks[1:]]


class Session(_TextPart):
    session_id: str
    turns: tuple[Message, ...]


class Passage(_TextPart):
    """A turn, or a quote from it, that answers the question."""

    turn: str
    quote: str = ""


class Earlier(_TextPart):
    """An earlier message in the conversation of a question."""

    role: Literal["user", "assistant"]
    content: str


def _as_alternatives(value: Any) -> Any:
    """Normalise an id, a passage, or a list of them to a list of passages."""
    members = value if isinstance(value, list) else [value]
    return [{"turn": member} if isinstance(member, str) else member for member in members]


Alternatives = Annotated[tuple[Passage, ...], Field(min_length=1), BeforeValidator(_as_alternatives)]


class Question(_TextPart):
    id: str
    question: str = Field(min_length=1)
    category: str = "all"
    before: tuple[Earlier, ...] = ()
    evidence: tuple[Alternatives, ...] = ()
    outdated: tuple[Alternatives, ...] = ()
    headline: bool = True

    @property
    def passages(self) -> list[Passage]:
        """All passages of the evidence and the outdated evidence."""
        return [passage for group in (*self.evidence, *self.outdated) for passage in group]


class Person(_TextPart):
    user_id: str
    sessions: tuple[Session, ...]
    questions: tuple[Question, ...]

    @model_validator(mode="after")
    def _check_turn_ids(self) -> Self:
        turn_ids = {turn.id for session in self.sessions for turn in session.turns}
        for question in self.questions:
            unknown = [passage.turn for passage in question.passages if passage.turn not in turn_ids]
            if question.outdated and not question.evidence:
                raise ValueError(f"question {question.id}: `outdated` needs `evidence`: what it was replaced by")
            if unknown:
                raise ValueError(f"question {question.id}: no turn has the id {unknown[0]!r}")
        return self


class Conversations(_TextPart):
    dataset: str
    users: tuple[Person, ...] = Field(min_length=1)


def read(path: Path) -> Conversations:
    """Read and validate a file. Raises Unreadable."""
    try:
        return Conversations.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidConversations(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidConversations(
            f"{path}: {place or 'the file'}: {first['msg'].removeprefix('Value error, ')}"
        ) from error
