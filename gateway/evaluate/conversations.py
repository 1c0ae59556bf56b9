"""What an evaluation reads: conversations of users, with questions and where their answers were said.

    {"dataset": "...", "users": [{"user_id": "...",
       "sessions":  [{"session_id": "...", "turns": [{"id", "role", "speaker", "content", "time"}]}],
       "questions": [{"id", "question", "category", "evidence": [ids], "outdated": [ids], "headline": true}]}]}

`evidence` names the turns that hold the answer; none means that nothing said answers it, and that nothing should be
injected. `outdated` names turns that an evidence turn replaces: they must not be all that is recalled, and not the
last word. Questions that are not `headline` are left out unless asked for. Unknown fields are passed over.
"""

from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = ["Conversations", "Person", "Question", "Said", "Unreadable", "read"]


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


class Session(_Part):
    session_id: str
    turns: tuple[Said, ...]


class Question(_Part):
    id: str
    question: str = Field(min_length=1)
    category: str = "all"
    evidence: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    headline: bool = True


class Person(_Part):
    user_id: str
    sessions: tuple[Session, ...]
    questions: tuple[Question, ...]

    @model_validator(mode="after")
    def _evidence_was_said(self) -> Self:
        said = {turn.id for session in self.sessions for turn in session.turns}
        for question in self.questions:
            unknown = [id_ for id_ in (*question.evidence, *question.outdated) if id_ not in said]
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
