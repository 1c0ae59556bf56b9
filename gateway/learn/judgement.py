"""Checks what a model made of a user's comment on memories. Pure.

A model may repeat the old text, answer about another note, or forget what the user only corrected. Only the changes
that the comment supports are made. If they do not contain the whole comment, the comment itself is stored as well, so
that a model's answer never loses what would have been stored without a model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.learn.polarity import is_faithful, read_statement
from gateway.learn.support import content_words, is_supported
from gateway.store.terms import terms
from gateway.turn import Record

__all__ = ["Judgement", "check_judgement"]

_CHATTER: Final = frozenset(
    terms(
        "no yes not wrong incorrect actually sorry mistake please now anymore instead 不对 错了 不是 应该 现在 其实 请"
    )
)
_ASKS_TO_FORGET: Final = re.compile(
    r"\b(?:forget|delete|erase|remove|drop)\b|忘掉|忘记|删除|删掉|不要再?记", re.IGNORECASE
)
_FREELY_DROPPED = 2  # content words of a note that an update may lack, beside one for each that it adds


@dataclass(frozen=True, slots=True)
class Judgement:
    """The changes that a comment asks for: memories with their new text, new facts, memories to forget. `is_covered`:
    they contain the whole comment; else the comment is stored beside them."""

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
    """The part of a model's answer that rests on the comment. `shown`: the notes and messages that the model saw.

    An update is faithful to the comment, has a content word of it that the note lacks, and keeps nearly all others of
    the note. An addition is faithful to the comment and says something that no note says. A note is forgotten only if
    the comment asks for that and shares a content word with it.
    """
    said = content_words(comment.text)
    valid = tuple((old, text) for old, text in updates if _is_update(text, comment, old))
    replaced = {old.id for old, _ in valid}
    known = set[str]().union(*(content_words(note.text) for note in shown))
    new = tuple(
        text
        for text in additions
        if content_words(text) & said - known
        and is_supported(text, (comment, *shown))
        and is_faithful(text, comment.text, "\n".join(note.text for note in shown))
    )
    asks = _ASKS_TO_FORGET.search(comment.text) is not None
    dropped = tuple(note for note in forgotten if asks and note.id not in replaced and content_words(note.text) & said)
    return Judgement(valid, new, dropped, _is_covered(comment.text, [text for _, text in valid] + list(new), valid))


def _is_update(text: str, comment: Record, old: Record) -> bool:
    before, after = content_words(old.text), content_words(text)
    new = after & content_words(comment.text) - before
    lost = before - after - read_statement(comment.text).denied
    return (
        bool(new)
        and len(lost) <= _FREELY_DROPPED + len(new)
        and is_supported(text, (comment, old))
        and is_faithful(text, comment.text, old.text)
    )


def _is_covered(comment: str, texts: Sequence[str], updates: Sequence[tuple[Record, str]]) -> bool:
    """True if all that a comment affirms stands in these texts, and all that it denies too, or in a note that one of
    them replaces."""
    wanted, statements = read_statement(comment), [read_statement(text) for text in texts]
    affirmed = set[str]().union(*(statement.affirmed for statement in statements))
    denied = set[str]().union(
        *(statement.denied for statement in statements), *(content_words(old.text) for old, _ in updates)
    )
    return bool(texts) and wanted.affirmed - _CHATTER <= affirmed and wanted.denied - _CHATTER <= denied - affirmed
