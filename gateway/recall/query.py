"""What is searched for: the user's last message, without what is no question. Pure.

Code blocks and long pastes are cut; a message of one or two words borrows words from the message before it.
"""

import re
from dataclasses import dataclass

from gateway.store.terms import terms

__all__ = ["Query", "make_query"]

_CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)
_HEAD, _TAIL = 600, 300
_FEW_TERMS = 3


@dataclass(frozen=True, slots=True)
class Query:
    """`text` is embedded, `terms` are looked up."""

    text: str
    terms: tuple[str, ...]


def make_query(message: str, context: str) -> Query:
    """The query of a turn; an empty one if there is nothing to look for."""
    text = _short(message)
    words = terms(text)
    if words and len(words) < _FEW_TERMS and context:
        words = words + terms(_short(context))
    return Query(text, tuple(words))


def _short(message: str) -> str:
    if "```" in message:
        message = _CODE.sub(" ", message)
    message = message.strip()
    if len(message) > _HEAD + _TAIL:
        message = message[:_HEAD] + "\n" + message[-_TAIL:]
    return message
