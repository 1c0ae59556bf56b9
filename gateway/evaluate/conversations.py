"""What an evaluation reads: conversations of users, with questions and where their answers were said.

    {"dataset": "...", "users": [{"user_id": "...",
       "sessions":  [{"session_id": "...", "turns": [{"id", "role", "speaker", "content", "time"}]}],
       "questions": [{"id", "question", "category", "before": [{"role", "content"}],
                      "evidence": [passages], "outdated": [passages], "headline": true}]}]}

A passage is the id of a turn, `{"turn": id, "quote": "words of it that answer"}`, or a list of such alternatives of
which one is enough. `evidence` names all that is needed; none means that nothing said answers the question, and that
nothing should be injected. `outdated` names what the evidence replaces: it must not be all that is recalled, and not
the last word. `before` are messages of the question's own conversation. Questions that are not `headline` are left out
unless asked for. Unknown fields are passed over.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gateway.remember.pieces import PASSAGE, USER_MESSAGE, pieces

__all__ = ["Alternatives", "Conversations", "Passage", "Person", "Question", "Said", "Unreadable", "read"]


class Unreadable(Exception):
    """A file is not of this form; the message names the place."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Said(_Part):
    id: str
    role: Literal["user", "assistant"]
    content: str = Field(pattern=r"\w")  # letters or digits: what is looked for in the block
    time: datetime
    speaker: str = ""

    @property
    def text(self) -> str:
        """What is remembered: with the speaker's name, where there is one."""
        return f"{self.speaker}: {self.content}" if self.speaker else self.content

    @property
    def chunks(self) -> list[str]:
        """The pieces in which it is stored, without the speaker's name."""
        chunks = pieces(self.text, USER_MESSAGE if self.role == "user" else PASSAGE)
        return [chunks[0].removeprefix(f"{self.speaker}: ") if self.speaker else chunks[0], *chunks[1:]]


class Session(_Part):
    session_id: str
    turns: tuple[Said, ...]


class Passage(_Part):
    """A turn, or the words of it that answer."""

    turn: str
    quote: str = ""


class Earlier(_Part):
    """A message of the conversation in which a question is asked."""

    role: Literal["user", "assistant"]
    content: str


def _as_alternatives(value: Any) -> Any:
    """An id or a passage as a list of one; ids in a list as passages."""
    members = value if isinstance(value, list) else [value]
    return [{"turn": member} if isinstance(member, str) else member for member in members]


Alternatives = Annotated[tuple[Passage, ...], Field(min_length=1), BeforeValidator(_as_alternatives)]


class Question(_Part):
    id: str
    question: str = Field(min_length=1)
    category: str = "all"
    before: tuple[Earlier, ...] = ()
    evidence: tuple[Alternatives, ...] = ()
    outdated: tuple[Alternatives, ...] = ()
    headline: bool = True

    @property
    def passages(self) -> list[Passage]:
        """All that it names."""
        return [passage for group in (*self.evidence, *self.outdated) for passage in group]


class Person(_Part):
    user_id: str
    sessions: tuple[Session, ...]
    questions: tuple[Question, ...]

    @model_validator(mode="after")
    def _evidence_was_said(self) -> Self:
        said = {turn.id for session in self.sessions for turn in session.turns}
        for question in self.questions:
            unknown = [passage.turn for passage in question.passages if passage.turn not in said]
            if question.outdated and not question.evidence:
                raise ValueError(f"question {question.id}: `outdated` needs `evidence`: what it was replaced by")
            if unknown:
                raise ValueError(f"question {question.id}: no turn has the id {unknown[0]!r}")
        return self


class Conversations(_Part):
    dataset: str
    users: tuple[Person, ...] = Field(min_length=1)


def read(path: Path) -> Conversations:
    """Raises Unreadable."""
    try:
        return Conversations.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Unreadable(f"{path}: {place or 'the file'}: {first['msg'].removeprefix('Value error, ')}") from error
