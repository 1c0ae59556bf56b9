"""Builds the search query from the user's last message. Pure.

Code blocks and long pastes are cut. For a message that makes sense only after another ("and for her?"), the query
includes the message before; for one that only reacts ("thanks, that works"), it is empty.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.text.dates import Period, periods
from gateway.text.form import CODE_BLOCK, Form, read_form
from gateway.text.terms import terms

__all__ = ["Query", "make_query"]

# said to the assistant, without content
_PLEASANTRY = re.compile(
    r"(?:(?:hi|hello|hey|good (?:morning|evening|afternoon|night)|thanks?|thank you|ok(?:ay)?|yes|no|great|bye"
    r"|there|so much|very much|a lot|again|please"
    r"|你好|您好|谢谢|多谢|早上好|下午好|晚上好|晚安|再见|好的?|嗨|是的?|不是|啊|呀|了)"
    r"[\s,.!?，。！？~～]*)+",
    re.IGNORECASE,
)
# "give me" and "帮我" ask for something, and are not about the user
_PERSONAL = re.compile(r"\b(?:i|my|mine|myself|we|our|ours)\b|(?<![帮给告诉教让替为])我", re.IGNORECASE)
# question words of Chinese; English ones are stop words anyway
_ASKING = frozenset(
    "多少 是多 少钱 哪里 在哪 是哪 哪儿 哪个 哪家 哪些 是谁 怎么 么样 怎样 如何 请问 一下 是什 为什 有什 么时 几点 "
    "告诉 诉我".split()
)
_HEAD, _TAIL = 600, 300
_FEW_TERMS = 3
_SHORT_MESSAGE = 80  # characters of one that may depend on the message before it
_CHARACTERS_OF_A_TOKEN = 4
_OF_QUESTIONS = re.compile(
    r"\b(?:i (?:ever )?ask(?:ed)?|my (?:last |earlier |first )?questions?)\b|问过|问了|问的|我的问题", re.I
)
_DEPENDENT = re.compile(
    r"^\W*(?:and|what about|how about|also|or|but|then|so|same)\b|\b(?:he|she|it|they|him|her|hers|them|his|their"
    r"|theirs|that one|there|the others?|one|er|sie|ihn|ihm|ihre?[nmrs]?|seine?[nmrs]?|él|ella|ellos|ellas|su|sus"
    r"|il|elle|ils|elles|lui|leur|sa|ses)\b|^\W*(?:und|wie wär|y|et|e)\b"
    r"|^\W*(?:那|还有|另外|再|同样|也)|[他她它]|[那这]个"
    r"|另一|呢[？?\s]*$",
    re.IGNORECASE,
)
# of the memory itself, or of the conversations in it
_OF_MEMORY = re.compile(
    r"\bour (?:\w+ )?(?:conversations?|chats?|discussions?|talks|sessions?)\b"
    r"|\b(?:know|remember|learn(?:ed|t)?|recall|stored?|saved?) (?:\w+ )?about (?:me|us|my|our)\b"
    r"|\bwhat (?:have|did|were) (?:we|i) (?:talk|discuss|tell|told|mention|chat|ask|say|said|bring|brought)\w*"
    r"|\bi(?:'ve| have)? (?:brought up|told you|mentioned to you)\b|\b(?:where )?we (?:left|leave) off\b"
    r"|我们(?:之前|上次|都)?(?:聊|谈|讨论|说)过?(?:了)?(?:什么|哪些|啥)|(?:知道|记得|了解)(?:关于)?我(?:的|什么|哪些|啥|多少)"
    r"|我(?:跟|和|对)你(?:说|提|讲|聊)过|我们的(?:对话|聊天|谈话)"
    r"|\bunsere[nrms]? (?:gespräch|unterhaltung|chat)\w*|\b(?:weißt|erinnerst) du\b[^.?!]{0,20}\b(?:über|an) mich\b"
    r"|\bsabes (?:de|sobre) mí\b|\bnuestras? conversaci\w+|\b(?:sais|souviens)\b[^.?!]{0,12}\b(?:de|sur) moi\b"
    r"|\bnos conversations\b|私(?:のこと|について)[^。？?]{0,8}(?:知|覚え)",
    re.IGNORECASE,
)
# of an answer that the assistant gave
_OF_ANSWERS = re.compile(
    r"\bdid you (?:\w+ )?(?:say|tell|give|write|suggest|recommend|mention|call|name|propose|send|make|come up|pick"
    r"|choose|explain|describe|draft|list|show)\b"
    r"|\byou (?:gave|told|wrote|suggested|recommended|mentioned|proposed|sent|drafted|showed|explained|came up with"
    r"|picked|named|listed)\b"
    r"|你(?:之前|上次|上回|当时|那次|以前)(?:给|说|写|推荐|建议|起|编|列|做|讲|帮)|你(?:给|推荐|建议|写|编|起|列)过"
    r"|\bhast du\b[^.?!]{0,30}\b(?:gesagt|geschrieben|vorgeschlagen|empfohlen|genannt)\b"
    r"|\b(?:dijiste|recomendaste|escribiste|sugeriste)\b|\btu (?:as|m'as|m’as) (?:dit|écrit|conseillé|recommandé)\b",
    re.IGNORECASE,
)
_NO_FORM = Form()
_READ = 20_000  # characters at either end of a message in which code blocks are looked for


@dataclass(frozen=True, slots=True)
class Query:
    """`text` is embedded, `terms` are looked up. `is_personal`: it speaks of the user, so memory is likely wanted.
    `periods`: the time that it asks about; `form`: of the message; `tokens`: about how many it has.
    `is_about_questions`: it asks for earlier questions of the user; `is_about_memory`: for facts about the user, or
    for topics of earlier conversations; `is_about_answers`: for an earlier answer of the assistant."""

    text: str
    terms: tuple[str, ...]
    is_personal: bool = False
    periods: tuple[Period, ...] = ()
    form: Form = _NO_FORM
    tokens: int = 0
    is_about_questions: bool = False
    is_about_memory: bool = False
    is_about_answers: bool = False

    @property
    def is_self_contained(self) -> bool:
        """True if it refers neither to the user nor to earlier messages."""
        return not (self.form.has_self or self.form.refers_back)


def make_query(message: str, context: str, now: float, offset: float = 0) -> Query:
    """The query of a message that is sent `now` (seconds since 1970); empty if there is nothing to search for.
    `offset`: of the time zone, in seconds east of UTC."""
    text = _shorten(message)
    if _PLEASANTRY.fullmatch(text):
        return Query("", ())
    form = read_form(message)
    if form.reaction == 1:
        return Query("", ())
    words = [term for term in terms(text) if term not in _ASKING]
    named_periods = periods(text, now, offset)
    if context and _needs_context(text, words):
        before = _shorten(context)
        text = f"{before}\n{text}"
        words, form = words + terms(before), read_form(text)
    is_personal = _PERSONAL.search(text) is not None
    tokens = len(text) // _CHARACTERS_OF_A_TOKEN + 1
    is_about_questions = _OF_QUESTIONS.search(text) is not None
    return Query(
        text,
        tuple(words),
        is_personal,
        named_periods,
        form,
        tokens,
        is_about_questions,
        is_about_memory=_OF_MEMORY.search(text) is not None,
        is_about_answers=_OF_ANSWERS.search(text) is not None,
    )


def _needs_context(text: str, words: Sequence[str]) -> bool:
    """True for a message that needs the one before it to make sense."""
    return len(words) < _FEW_TERMS or (len(text) <= _SHORT_MESSAGE and _DEPENDENT.search(text) is not None)


def _shorten(message: str) -> str:
    if len(message) > 2 * _READ:
        message = message[:_READ] + "\n" + message[-_READ:]
    if "```" in message:
        message = CODE_BLOCK.sub(" ", message)
    message = message.strip()
    if len(message) > _HEAD + _TAIL:
        message = message[:_HEAD] + "\n" + message[-_TAIL:]
    return message
