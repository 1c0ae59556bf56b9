"""Polarity of sentences: the terms that a text affirms and denies, and whether another text agrees. Pure.

The analysis is rough and cautious: it is only used to reject text written by a model.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from gateway.memory.support import content_words
from gateway.text.terms import terms

__all__ = ["Statement", "is_faithful", "read_statement"]

_CLAUSE_END: Final = re.compile(r"[.,;:!?\n。，；：！？—–]|\b(?:but|instead|rather)\b|而是", re.IGNORECASE)
_NEGATION: Final = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|stopped|quit)\b|n['’]t\b|[不没沒别別无無非]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Statement:
    """The content terms of a text: in order, those that it only denies, and those that it affirms somewhere."""

    order: tuple[str, ...]
    denied: frozenset[str]
    affirmed: frozenset[str]

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(pairwise(self.order))


def read_statement(text: str) -> Statement:
    """Terms after a negation are denied up to the end of their clause."""
    order: list[str] = []
    denied: set[str] = set()
    affirmed: set[str] = set()
    for clause in _CLAUSE_END.split(text):
        negation = _NEGATION.search(clause)
        affirmed_part = clause if negation is None else clause[: negation.start()]
        denied_part = "" if negation is None else clause[negation.end() :]
        content = content_words(clause)
        order += [term for term in terms(affirmed_part) + terms(denied_part) if term in content]
        affirmed |= content_words(affirmed_part)
        denied |= content_words(denied_part)
    return Statement(tuple(order), frozenset(denied - affirmed), frozenset(affirmed))


def is_faithful(text: str, comment: str, note: str = "") -> bool:
    """True if a text agrees with the comment that it replaces, or with which it changes a note.

    It denies nothing that the comment affirms and affirms nothing that it denies, and words of the comment follow each
    other as they do there: "my boss is Bob and my assistant is Anna" does not say that the boss is Anna.
    """
    comment_statement, statement, note_statement = read_statement(comment), read_statement(text), read_statement(note)
    if statement.affirmed & comment_statement.denied or statement.denied & comment_statement.affirmed:
        return False
    comment_words, comment_pairs, note_pairs = (
        set(comment_statement.order),
        comment_statement.pairs,
        note_statement.pairs,
    )
    for first, second in statement.pairs:
        if first in comment_words and second in comment_words and (first, second) not in comment_pairs:
            return False
        if first not in comment_words and second not in comment_words and (first, second) not in note_pairs:
            return False
    return True
