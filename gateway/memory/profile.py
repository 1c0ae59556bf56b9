"""The profile of a user: standing preferences, which apply to every request (form of address, allergies, style of
answers), and facts about the user, only those in force, in a fixed order. Pure.

A newer preference about the same subject replaces an older one: the same words, the same condition, or a subject that
can have one value only (such as the language of answers). A replaced preference remains a memory, but is not in force.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.memory.kinds import kind_of
from gateway.memory.record import Record
from gateway.text.terms import terms

__all__ = ["MAX_STANDING_OF_TOPIC", "beyond_cap", "in_force", "is_about_oneself", "of_profile"]

MAX_STANDING_OF_TOPIC: Final = 100
"""Standing preferences of one topic that can be in force; older ones are archived."""
_ABOUT: Final = "about"  # facts about the user
_TOPICS: Final = ("address", "health", "style", _ABOUT)
# about oneself and nothing else: a fact mentioned in passing is recalled where it matters
_OWN_HEALTH: Final = re.compile(
    r"^(?:\W*(?:\w+:\s*)?(?:I['’]m|I am|I (?:also )?have|I['’]ve|I can['’]?t|I cannot|I can not|I can no longer"
    r"|I suffer from|I was diagnosed with|I must not|I mustn['’]t"
    r"|I may not|Remember)\b[^,;:]{3,50}|.{0,6}我[^，；：,]{2,24})$",
    re.IGNORECASE,
)
_SAME: Final = 0.6  # likeness of words from which on two preferences are about the same subject
_ADDRESS: Final = re.compile(r"\b(?:call(?:ing)?|address(?:ing)?)\s+me\b|叫我|称呼我", re.IGNORECASE)
_HARM: Final = re.compile(
    r"\b(?:allerg|intoleran|diabet|coeliac|celiac|epilep|asthma)"
    r"|\b(?:can['’]?t|cannot|can not|can no longer|must not|mustn['’]t|may not|able to|allowed to)\s+"
    r"(?:eat|drink|tolerate|have)\b"
    r"|过敏|不耐|糖尿病|哮喘|癫痫|乳糜泻|不能[吃喝]|不可以[吃喝]",
    re.IGNORECASE,
)
_CONDITION: Final = re.compile(
    r"\b(?:when(?:ever)?|if|unless|while)\b.*$|(?:当|如果|在).{2,}?(?:时|的时候)", re.IGNORECASE
)
_SUBJECTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:in|use|speak|into)\s+(?:simple\s+|plain\s+)?(?:english|german|french|spanish|italian|portuguese|dutch|russian"
        r"|polish|turkish|arabic|hindi|japanese|korean|chinese|mandarin|cantonese)\b|(?:中|英|法|德|日|俄|韩|西班牙)[文语]",
        r"\b(?:short|shorter|brief|concise|long|longer|detailed|lengthy|one sentence|tl;?dr)\b"
        r"|简短|简洁|详细|一句话|长一点|短一点",
        r"\b(?:bullet(?:s| points?)?|numbered lists?|prose|paragraphs?)\b|列表|要点|段落",
        r"\b(?:metric|imperial|celsius|fahrenheit|kilomet(?:er|re)s|miles|kilograms?|pounds)\b|公制|英制|摄氏|华氏|公里|英里",
        r"\b(?:formal(?:ly)?|informal(?:ly)?|casual(?:ly)?|polite(?:ly)?)\b|正式|随意|口语|礼貌",
        r"\bemojis?\b|表情(?:符号)?",
        r"\b(?:24|12)[- ]hour\b|(?:24|12)小时制",
        r"\b(?:dd|mm|yyyy)[/.-](?:dd|mm|yyyy)\b",
        r"\b(?:vegetarian|vegan|pescatarian)\b|吃素|素食|纯素",
        r"\b(?:my (?:full )?name is|i am called|i'm called)\b|我叫|我的名字",
    )
)  # fmt: skip


def is_about_oneself(record: Record) -> bool:
    """True for a fact about the user, False for a preference."""
    return record.details.topic == _ABOUT


def of_profile(record: Record) -> bool:
    """True for a standing preference or fact that the user stated literally and that applies to every request."""
    return (
        record.status == "activated"
        and kind_of(record.kind).is_of_profile
        and record.source == "user"
        and record.details.topic in _TOPICS
        and not record.suspicious
        and record.details.is_standing is not False
        and (record.details.topic != "health" or _OWN_HEALTH.search(record.text) is not None)
    )


def in_force(records: Iterable[Record]) -> list[Record]:
    """The entries that no newer one replaces: by topic, and within a topic the newest first. Of each topic the newest
    `MAX_STANDING_OF_TOPIC` are compared, which bounds the time."""
    marks = _Marks()
    valid: list[tuple[Record, _Traits]] = []
    for record in _newest(records)[0]:
        traits = marks.traits_of(record)
        if not any(_replaces(newer, record, newer_traits, traits) for newer, newer_traits in valid):
            valid.append((record, traits))
    return sorted((record for record, _ in valid), key=lambda record: _TOPICS.index(record.details.topic))


def beyond_cap(records: Iterable[Record]) -> list[Record]:
    """The standing preferences of a scope over `MAX_STANDING_OF_TOPIC`, the oldest of their topic: never in force."""
    return _newest(records)[1]


def _newest(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """The newest of each topic, newest first, and the others."""
    counts = Counter[str]()
    newest: list[Record] = []
    others: list[Record] = []
    for record in sorted(filter(of_profile, records), key=lambda record: (record.event_time, record.id), reverse=True):
        topic = record.details.topic
        counts[topic] += 1
        (newest if counts[topic] <= MAX_STANDING_OF_TOPIC else others).append(record)
    return newest, others


class _Traits(NamedTuple):
    """The traits by which one entry replaces another; sets are bits of integers, which compare fast."""

    is_harm: bool
    is_address: bool
    subjects: int
    condition: int
    terms: int


class _Marks:
    """Assigns a bit to each term."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}

    def traits_of(self, record: Record) -> _Traits:
        is_harm, is_address, subjects, condition, words = _read(record.text)
        return _Traits(is_harm, is_address, subjects, self._to_bits(condition), self._to_bits(words))

    def _to_bits(self, words: Iterable[str]) -> int:
        bits = 0
        for word in words:
            bits |= 1 << self._bits.setdefault(word, len(self._bits))
        return bits


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[bool, bool, int, frozenset[str], frozenset[str]]:
    """The traits of a text before they become bits. Cached: all entries of a user are compared after each new one."""
    subjects = sum(1 << bit for bit, subject in enumerate(_SUBJECTS) if subject.search(text))
    condition = _CONDITION.search(text)
    return (
        _HARM.search(text) is not None,
        _ADDRESS.search(text) is not None,
        subjects,
        frozenset(terms(condition.group())) if condition else frozenset(),
        frozenset(terms(text)),
    )


def _replaces(newer: Record, older: Record, of_newer: _Traits, of_older: _Traits) -> bool:
    if is_about_oneself(newer) or is_about_oneself(older):
        return bool(newer.details.trait == older.details.trait)  # each has one value
    if of_older.is_harm and not of_newer.is_harm:
        return False  # a new diet does not end an allergy
    if of_older.is_harm and of_older.terms & ~of_newer.terms:
        return False  # nor does another allergy
    if of_newer.is_address and of_older.is_address:
        return True
    if (of_newer.condition or of_older.condition) and _similarity(of_newer.condition, of_older.condition) < _SAME:
        return False  # each applies under its own condition
    if newer.details.topic == older.details.topic and of_newer.subjects & of_older.subjects:
        return True
    return _similarity(of_newer.terms, of_older.terms) >= _SAME


def _similarity(first: int, second: int) -> float:
    """Dice's coefficient of two sets of terms, as `word_similarity`."""
    common = (first & second).bit_count()
    return 2 * common / (first.bit_count() + second.bit_count()) if common else 0.0
