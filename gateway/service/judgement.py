"""Validates the changes that a model proposes for a user's comment on memories. Pure.

A model may repeat the old text, answer about another note, or forget a note that the user only corrected. Only changes
that the comment supports are applied. If they do not cover the whole comment, the comment itself is stored as well, so
that using a model never loses text that would have been stored without one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.memory.polarity import is_faithful, read_statement
from gateway.memory.record import Record
from gateway.memory.support import content_words, is_supported
from gateway.text.terms import terms

__all__ = ["Judgement", "check_judgement"]

_CHATTER: Final = frozenset(
    terms(
        "no yes not wrong incorrect actually sorry mistake please now anymore instead 不对 错了 不是 应该 现在 其实 请"
    )
)
_ASKS_TO_FORGET: Final = re.compile(
    r"\b(?:forget|delete|erase|remove|drop)\b|忘掉|忘记|删除|删掉|不要再?记", re.IGNORECASE
)
_FREELY_DROPPED = 2  # content words of a note that an update may omit, plus one for each word it adds


@dataclass(frozen=True, slots=True)
class Judgement:
    """The changes that a comment asks for: memories with their new text, new facts, memories to forget. `is_covered`:
    they contain the whole comment; otherwise the comment is stored as well."""

    updates: tuple[tuple[Record, str], ...]
    additions: tuple[str, ...]
    forgotten: tuple[Record, ...]
    is_covered: bool


def check_judgement(
    updates: Iterable[tuple[Record, str]],
    additions: Iterable[str],
    forgotten: Iterable[Record],
    comment: Record,
    shown: Sequence[Record],
) -> Judgement:
    """The part of a model's answer that the comment supports. `shown`: the notes and messages that the model saw.

    An update is faithful to the comment, has a content word of it that the note lacks, and keeps nearly all others of
    the note. An addition is faithful to the comment and says something that no note says. A note is forgotten only if
    the comment asks for that and shares a content word with it.
    """
    comment_words = content_words(comment.text)
    valid = tuple((old, text) for old, text in updates if _is_update(text, comment, old))
    replaced = {old.id for old, _ in valid}
    shown_words = set[str]().union(*(content_words(note.text) for note in shown))
    new = tuple(
        text
        for text in additions
        if content_words(text) & comment_words - shown_words
        and is_supported(text, (comment, *shown))
        and is_faithful(text, comment.text, "\n".join(note.text for note in shown))
    )
    asks_to_forget = _ASKS_TO_FORGET.search(comment.text) is not None
    to_forget = tuple(
        note
        for note in forgotten
        if asks_to_forget and note.id not in replaced and content_words(note.text) & comment_words
    )
    return Judgement(valid, new, to_forget, _is_covered(comment.text, [text for _, text in valid] + list(new), valid))


def _is_update(text: str, comment: Record, old: Record) -> bool:
    old_words, new_words = content_words(old.text), content_words(text)
    added = new_words & content_words(comment.text) - old_words
    missing = old_words - new_words - read_statement(comment.text).denied
    return (
        bool(added)
        and len(missing) <= _FREELY_DROPPED + len(added)
        and is_supported(text, (comment, old))
        and is_faithful(text, comment.text, old.text)
    )


def _is_covered(comment: str, texts: Sequence[str], updates: Sequence[tuple[Record, str]]) -> bool:
    """True if these texts contain all terms that a comment affirms, and all that it denies, which may also be in a note
    that one of them replaces."""
    required, statements = read_statement(comment), [read_statement(text) for text in texts]
    affirmed = set[str]().union(*(statement.affirmed for statement in statements))
    denied = set[str]().union(
        *(statement.denied for statement in statements), *(content_words(old.text) for old, _ in updates)
    )
    return bool(texts) and required.affirmed - _CHATTER <= affirmed and required.denied - _CHATTER <= denied - affirmed
