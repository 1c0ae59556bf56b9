"""Derives ids for conversations without one, from their opening and start time.

The format has no ids, so two chats of a user with the same opening look alike in their first request. A first request
opens a new conversation, unless the same opening arrived shortly before and was not continued (a retry); later requests
are matched by the first answer, which they repeat. After a restart a conversation continues under an id derived from
its opening and first answer.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.identity import derived_session

__all__ = ["SessionChange", "Sessions"]

SessionChange = tuple[tuple[str, str], str, float, str, bool]
"""Scope and digest of the opening, name, start, digest of the first answer, and True if it was continued."""

_RETRY = 120.0  # seconds
_MAX_OPENINGS = 10_000  # of all users
_MAX_ALIKE = 32  # conversations of a user with the same opening


@dataclass(slots=True)
class _Session:
    name: str
    began: float
    answer: str = ""  # digest of the first answer, once it is known
    is_continued: bool = False


class Sessions:
    """Bounded in-memory index of conversations; an evicted one gets its id from its opening again.

    `on_change` are called with a conversation that is new or has changed, for `note` in other processes.
    """

    def __init__(self) -> None:
        self._openings: OrderedDict[tuple[str, str], list[_Session]] = OrderedDict()
        self.on_change: list[Callable[[SessionChange], None]] = []

    @property
    def count(self) -> int:
        """The number of conversations in the index."""
        return sum(map(len, self._openings.values()))

    def name(self, scope: str, opening: str, first_answer: str, now: float) -> str:
        """Return the id of the conversation that a request belongs to; `now` in seconds since 1970."""
        key = (scope, _digest(opening))
        candidates = self._candidates(key)
        session = _find_continued(candidates, _digest(first_answer)) if first_answer else _find_retried(candidates, now)
        if session is None:
            name = derived_session(opening, first_answer or repr(now))
            session = _Session(name, now, _digest(first_answer) if first_answer else "", bool(first_answer))
            candidates.append(session)
            del candidates[:-_MAX_ALIKE]
            self._publish(key, session)
        elif first_answer:
            self._publish(key, session)
        return session.name

    @staticmethod
    def key(scope: str, opening: str) -> tuple[str, str]:
        """The key of conversations of a user with an opening."""
        return scope, _digest(opening)

    def knows(self, scope: str, opening: str, first_answer: str) -> bool:
        """True if a conversation with this first answer is in the index."""
        answer = _digest(first_answer)
        return any(session.answer == answer for session in self._openings.get(self.key(scope, opening), ()))

    def note(self, change: SessionChange) -> None:
        """Add or update a conversation that another process has seen."""
        key, name, began, answer, is_continued = change
        candidates = self._candidates(key)
        session = next((session for session in candidates if session.name == name), None)
        if session is None:
            candidates.append(_Session(name, began, answer, is_continued))
            candidates.sort(key=lambda session: session.began)
            del candidates[:-_MAX_ALIKE]
        else:
            session.answer, session.is_continued = answer or session.answer, is_continued or session.is_continued

    def _candidates(self, key: tuple[str, str]) -> list[_Session]:
        """The conversations of a user with an opening; they become the most recently used."""
        candidates = self._openings.setdefault(key, [])
        self._openings.move_to_end(key)
        if len(self._openings) > _MAX_OPENINGS:
            self._openings.popitem(last=False)
        return candidates

    def _publish(self, key: tuple[str, str], session: _Session) -> None:
        for listener in self.on_change:
            listener((key, session.name, session.began, session.answer, session.is_continued))

    def answered(self, scope: str, opening: str, name: str, answer: str) -> None:
        """Record the first answer of a conversation."""
        key = (scope, _digest(opening))
        for session in self._openings.get(key, ()):
            if session.name == name and not session.answer:
                session.answer = _digest(answer)
                self._publish(key, session)


def _find_continued(candidates: list[_Session], answer: str) -> _Session | None:
    """Return the newest conversation with this first answer, else the newest without a known answer; mark it."""
    for session in reversed(candidates):
        if session.answer == answer:
            session.is_continued = True
            return session
    for session in reversed(candidates):
        if not session.answer:
            session.answer, session.is_continued = answer, True
            return session
    return None


def _find_retried(candidates: list[_Session], now: float) -> _Session | None:
    """Return the newest conversation if the request may be a retry of its first one."""
    newest = candidates[-1] if candidates else None
    return newest if newest is not None and not newest.is_continued and 0 <= now - newest.began < _RETRY else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:24]
