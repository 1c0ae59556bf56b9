"""Checks that an extracted item is supported by its source messages. Pure.

Most of its words must occur in the messages it cites, and all of its numbers and names. Content that a model adds by
itself is not remembered.
"""

import re
from collections.abc import Sequence
from datetime import timedelta

from gateway.memory.record import Record
from gateway.text.dates import local_time
from gateway.text.terms import is_cjk, terms

__all__ = ["SHARE", "bears", "content_words", "find_contributors", "is_supported", "wishes"]

SHARE = 0.5
"""Minimum share of an item's words that must occur in its sources."""

_MORE_CJK = 0.1  # added to the share for Chinese, Japanese and Korean, which are compared by character
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
# words that summaries add, independent of the speaker
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
    """True if this share of an item's words, and all its numbers and names, occur in these messages."""
    source_text = "\n".join(record.text for record in sources)
    if not _has_all_numbers(text, source_text, sources) or not _has_all_names(text, source_text):
        return False
    words, matches = _words(text, source_text)
    return bool(words) and len(matches) >= (share + _MORE_CJK if is_cjk(text) and is_cjk(source_text) else share) * len(
        words
    )


def bears(text: str, record: Record) -> bool:
    """True if a message contains any word of an item."""
    return bool(_words(text, record.text)[1])


def find_contributors(text: str, sources: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Other messages that may have contributed to a text: they contain a word of it that its sources lack."""
    words, source_words = _words(text, "\n".join(record.text for record in sources))
    unexplained = words - source_words
    source_ids = {record.id for record in sources}
    return [
        record
        for record in others
        if unexplained and record.id not in source_ids and unexplained & _words(text, record.text)[1]
    ]


def content_words(text: str) -> set[str]:
    """The search terms of a text that carry content: pairs of characters in Chinese, Japanese and Korean."""
    return set(terms(text)) - _SPEAKING


def wishes(text: str) -> bool:
    """True if a message contains a word that people use to state wishes or who they are."""
    return _WISHING.search(text) is not None


def _words(text: str, source_text: str) -> tuple[set[str], set[str]]:
    """The content words of a text, and those of them that occur in its sources; characters if both are Chinese,
    Japanese or Korean."""
    if is_cjk(text) and is_cjk(source_text):
        words = set(_HAN.findall(text)) - _NEUTRAL_CJK
        return words, words & set(_HAN.findall(source_text))
    words = set(terms(text)) - _NEUTRAL
    return words, words & set(terms(source_text))


def _has_all_numbers(text: str, source_text: str, sources: Sequence[Record]) -> bool:
    allowed = set(_NUMBER.findall(source_text))
    for record in sources:  # a date may be derived from "yesterday"
        at = local_time(record.event_time, record.utc_offset)
        for days in (-2, -1, 0, 1):
            day = at + timedelta(days=days)
            allowed |= {str(day.year), str(day.month), f"{day.month:02}", str(day.day), f"{day.day:02}"}
        allowed.add(str(at.year - 1))
    return allowed.issuperset(_NUMBER.findall(text))


def _has_all_names(text: str, source_text: str) -> bool:
    """True if all names in Latin letters occur: capitalised words within a sentence, or beginning one as names do."""
    allowed = set(terms(source_text)) | _NEUTRAL
    return all(allowed.issuperset(terms(name)) for name in (*_NAME.findall(text), *_STARTS_LIKE_A_NAME.findall(text)))
