"""What is searched for: the user's last message, without what is no question. Pure.

Code blocks and long pastes are cut; a message of one or two words borrows words from the message before it.
"""

import re
from dataclasses import dataclass

from gateway.store.dates import Period, periods
from gateway.store.terms import terms

__all__ = ["Query", "make_query"]

_CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)
# said to the assistant, about nothing
_PLEASANTRY = re.compile(
    r"(?:(?:hi|hello|hey|good (?:morning|evening|afternoon|night)|thanks?|thank you|ok(?:ay)?|yes|no|great|bye"
    r"|there|so much|very much|a lot|again|please"
    r"|你好|您好|谢谢|多谢|早上好|下午好|晚上好|晚安|再见|好的?|嗨|是的?|不是|啊|呀|了)"
    r"[\s,.!?，。！？~～]*)+",
    re.IGNORECASE,
)
# "give me" and "帮我" ask for something, and are not about the user
_PERSONAL = re.compile(r"\b(?:i|my|mine|myself|we|our|ours)\b|(?<![帮给告诉教让替为])我", re.IGNORECASE)
# what Chinese asks with; English question words are stop words anyway
_ASKING = frozenset(
    "多少 是多 少钱 哪里 在哪 是哪 哪儿 哪个 哪家 哪些 是谁 怎么 么样 怎样 如何 请问 一下 是什 为什 有什 么时 几点 "
    "告诉 诉我".split()
)
_HEAD, _TAIL = 600, 300
_FEW_TERMS = 3
_READ = 20_000  # characters at either end of a message in which code blocks are looked for


@dataclass(frozen=True, slots=True)
class Query:
    """`text` is embedded, `terms` are looked up. `is_personal`: it speaks of the user, so memory is likely wanted.
    `periods`: the time that it asks about."""

    text: str
    terms: tuple[str, ...]
    is_personal: bool = False
    periods: tuple[Period, ...] = ()


def make_query(message: str, context: str, now: float, offset: float = 0) -> Query:
    """The query of a turn that is said `now` (seconds since 1970) in a zone so many seconds east of UTC; an empty one
    if there is nothing to look for."""
    text = _short(message)
    if _PLEASANTRY.fullmatch(text):
        return Query("", ())
    words = [term for term in terms(text) if term not in _ASKING]
    if words and len(words) < _FEW_TERMS and context:
        words = words + terms(_short(context))
    return Query(text, tuple(words), _PERSONAL.search(text) is not None, periods(text, now, offset))


def _short(message: str) -> str:
    if len(message) > 2 * _READ:
        message = message[:_READ] + "\n" + message[-_READ:]
    if "```" in message:
        message = _CODE.sub(" ", message)
    message = message.strip()
    if len(message) > _HEAD + _TAIL:
        message = message[:_HEAD] + "\n" + message[-_TAIL:]
    return message
