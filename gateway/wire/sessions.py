"""Names of conversations that have none: by how they began, and when.

The format has no ids, so two chats of a user that open with the same words look alike in their first request. A first
request opens a conversation of its own, unless the same words came a moment ago and nothing followed (a retry);
the following ones are recognised by the first answer, which they repeat. After a restart a conversation goes on under a
name that follows from its opening and its first answer.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from gateway.identity import derived_session

__all__ = ["Sessions"]

_RETRY = 120.0  # seconds
_OPENINGS = 10_000  # of all users
_ALIKE = 32  # conversations of a user that open with the same words


@dataclass(slots=True)
class _Session:
    name: str
    began: float
    answer: str = ""  # digest of the first answer, once it is known
    is_continued: bool = False


class Sessions:
    """The known conversations, in memory and bounded; a dropped one is named again from its opening."""

    def __init__(self) -> None:
        self._openings: OrderedDict[tuple[str, str], list[_Session]] = OrderedDict()

    def name(self, scope: str, opening: str, first_answer: str, now: float) -> str:
        """The name of the conversation that a request belongs to; `now` in seconds since 1970."""
        key = (scope, _digest(opening))
        alike = self._openings.setdefault(key, [])
        self._openings.move_to_end(key)
        if len(self._openings) > _OPENINGS:
            self._openings.popitem(last=False)
        session = _continued(alike, _digest(first_answer)) if first_answer else _retried(alike, now)
        if session is None:
            name = derived_session(opening, first_answer or repr(now))
            session = _Session(name, now, _digest(first_answer) if first_answer else "", bool(first_answer))
            alike.append(session)
            del alike[:-_ALIKE]
        return session.name

    def answered(self, scope: str, opening: str, name: str, answer: str) -> None:
        """Note how a conversation went on: what the client was answered first."""
        for session in self._openings.get((scope, _digest(opening)), ()):
            if session.name == name and not session.answer:
                session.answer = _digest(answer)


def _continued(alike: list[_Session], answer: str) -> _Session | None:
    """The newest conversation with this first answer; else the newest whose answer is not known yet."""
    for session in reversed(alike):
        if session.answer == answer:
            session.is_continued = True
            return session
    for session in reversed(alike):
        if not session.answer:
            session.answer, session.is_continued = answer, True
            return session
    return None


def _retried(alike: list[_Session], now: float) -> _Session | None:
    """The newest conversation, if it may be the same request once more."""
    newest = alike[-1] if alike else None
    return newest if newest is not None and not newest.is_continued and 0 <= now - newest.began < _RETRY else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:24]
