"""Checks what a model made of a user's comment on memories. Pure.

A model may repeat the old text, answer about another note, or forget what the user only corrected. What holds is kept;
where the comment is not contained in that, the comment is to be kept as it stands, so that no answer of a model leaves
less than no model would.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.learn.support import content_words, is_supported
from gateway.store.terms import terms
from gateway.turn import Record

__all__ = ["Judgement", "check_judgement"]

_CHATTER: Final = frozenset(
    terms(
        "no yes not wrong right correct actually sorry mistake please remember said say meant mean instead now anymore "
        "any more longer still just only really well thing that's isn't it's note memory update change correction "
        "forget delete remove erase drop 不对 错了 不是 应该 现在 其实 更正 纠正 请 记住 忘记 忘掉 删除 不再 而是 "
        "对的 说错"
    )
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a comment changes: memories with their new text, new facts, memories that hold no more. `is_covered`: all
    that the comment says stands in them; else the comment itself is to be kept beside them."""

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

    An update rests on comment and note, and has a content word of the comment that the note lacks. An addition rests on
    comment and what was shown, and has such a word of the comment. A note is forgotten only if it shares a content word
    with the comment, and if what replaces it, or the comment, is kept.
    """
    said = content_words(comment.text)
    held = tuple(
        (old, text)
        for old, text in updates
        if is_supported(text, (comment, old)) and content_words(text) & said - content_words(old.text)
    )
    replaced = {old.id for old, _ in held}
    new = tuple(text for text in additions if content_words(text) & said and is_supported(text, (comment, *shown)))
    gone = tuple(one for one in forgotten if one.id not in replaced and content_words(one.text) & said)
    kept = [text for _, text in held] + list(new)
    known = set[str]().union(*(content_words(text) for text in (*kept, *(one.text for one in shown))))
    is_covered = bool(kept) and said - _CHATTER <= known
    return Judgement(held, new, gone, is_covered)
