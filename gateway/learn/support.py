"""Does an item that a model made rest on what was said? Pure.

Its words must stand in the messages that it names, most of them, and each of its numbers and names. What a model adds
of its own is no memory of anybody.
"""

import re
from collections.abc import Sequence
from datetime import timedelta

from gateway.store.dates import local_time
from gateway.store.terms import is_cjk, terms
from gateway.turn import Record

__all__ = ["SHARE", "bears", "content_words", "givers", "is_supported", "wishes"]

SHARE = 0.5
"""Of the words of an item, the part that must have been said."""

_MORE_CJK = 0.1  # so much more of its characters, where they are Chinese, Japanese or Korean
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"\d+")
_NAME = re.compile(r"(?<![.!?。！？:：]\s)(?<!^)\b[A-ZÀ-Þ][\w'-]{2,}")
_WISHING = re.compile(
    r"\b(?:always|never|from now on|in (?:the )?future|going forward|every time|whenever|only|instead|prefer\w*|want"
    r"|wish|would like|i'd like|like|love|hate|dislike|need|must|should|avoid|use|stop|don['’]?t|do not|not|no|without"
    r"|keep|call me|my|i['’]?m|i am|answer|reply|respond|write|speak|make sure|remember|everything|rather|better)\b"
    r"|以后|今后|从现在|总是|永远|一直|每次|都|不要|别|请|希望|想要|要|喜欢|讨厌|偏好|只|用|叫我|我是|我叫|回答|回复|记住",
    re.IGNORECASE,
)
_STARTS_LIKE_A_NAME = re.compile(
    r"(?:^|(?<=[.!?]\s))(?!(?:The|This|That|They|She|He|There|Their|His|Her|Its|It|User|Users|Both|All|Some|One|Who|What|When"
    r"|Where|Each|Every|Everyone|Everything|Nothing|Nobody|Today|Yesterday|Tomorrow)\b)"
    r"([A-ZÀ-Þ][\w-]{2,})(?=['’]s\b|,|\s+(?:is|are|was|were|has|had|lives|works|likes|and\s+[A-ZÀ-Þ])\b)"
)
# what a summary is written with, whoever speaks
_SPEAKING = frozenset(
    terms(
        "user users person someone said says mentioned states prefers prefer preference likes like wants want would "
        "currently recently named called name has having being their them always never should assistant answer answers"
    )
)
_NEUTRAL = _SPEAKING | frozenset(
    terms(
        "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
        "september october november december"
    )
)
_NEUTRAL_CJK = frozenset(
    "用户户喜欢表示提到希望偏好目前现在名叫为使用者想要的了是在我你他她它们这那和与就都也很有没不会"
)


def is_supported(text: str, sources: Sequence[Record], share: float = SHARE) -> bool:
    """True if an item's words were said in these messages: this share of them, and all numbers and names."""
    said = "\n".join(record.text for record in sources)
    if not _has_all_numbers(text, said, sources) or not _has_all_names(text, said):
        return False
    own, found = _words(text, said)
    return bool(own) and len(found) >= (share + _MORE_CJK if is_cjk(text) and is_cjk(said) else share) * len(own)


def bears(text: str, record: Record) -> bool:
    """True if a message has any of an item's words."""
    return bool(_words(text, record.text)[1])


def givers(text: str, sources: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Those of the others that have a word of a text which its sources do not have: it may be theirs."""
    own, said = _words(text, "\n".join(record.text for record in sources))
    left = own - said
    known = {record.id for record in sources}
    return [one for one in others if left and one.id not in known and left & _words(text, one.text)[1]]


def content_words(text: str) -> set[str]:
    """The search terms of a text that tell something: pairs of characters in Chinese, Japanese and Korean."""
    return set(terms(text)) - _SPEAKING


def wishes(text: str) -> bool:
    """True if a message has a word with which people say how things should be, or who they are."""
    return _WISHING.search(text) is not None


def _words(text: str, said: str) -> tuple[set[str], set[str]]:
    """The words of a text that tell something, and those of them that were said; characters where both are Chinese,
    Japanese or Korean."""
    if is_cjk(text) and is_cjk(said):
        own = set(_HAN.findall(text)) - _NEUTRAL_CJK
        return own, own & set(_HAN.findall(said))
    own = set(terms(text)) - _NEUTRAL
    return own, own & set(terms(said))


def _has_all_numbers(text: str, said: str, sources: Sequence[Record]) -> bool:
    known = set(_NUMBER.findall(said))
    for record in sources:  # a date may be worked out of "yesterday"
        at = local_time(record.event_time, record.info)
        for days in (-2, -1, 0, 1):
            day = at + timedelta(days=days)
            known |= {str(day.year), str(day.month), f"{day.month:02}", str(day.day), f"{day.day:02}"}
        known.add(str(at.year - 1))
    return known.issuperset(_NUMBER.findall(text))


def _has_all_names(text: str, said: str) -> bool:
    """Names in Latin letters: words with a capital that do not begin a sentence, or begin one as names do."""
    known = set(terms(said)) | _NEUTRAL
    return all(known.issuperset(terms(name)) for name in (*_NAME.findall(text), *_STARTS_LIKE_A_NAME.findall(text)))
