"""The profile of a user: the wishes that hold whatever is asked (how to call them, what they must not eat, how answers
should be) and who they are, only what is in force, in a fixed order. Pure.

A newer wish about the same thing replaces an older one: the same words, the same condition, or a subject that can have
one value only (the language of answers, say). What is replaced stays a memory; it is only not in force.
"""

import re
from collections.abc import Iterable
from typing import Final

from gateway.fence import SUSPICIOUS
from gateway.store.terms import likeness, terms
from gateway.turn import Record

__all__ = ["PROFILE_KINDS", "in_force", "is_about_oneself", "of_profile"]

PROFILE_KINDS: Final = ("preference", "profile")
"""Kinds of memories that may be of a profile."""
_ABOUT: Final = "about"  # who the user is
_TOPICS: Final = ("address", "health", "style", _ABOUT)
# said of oneself and of nothing else: what is told by the way is recalled where it matters
_OWN_HEALTH: Final = re.compile(
    r"^(?:\W*(?:\w+:\s*)?(?:I'm|I am|Remember)\b[^,;:]{3,50}|.{0,6}我[^，；：,]{2,24})$", re.IGNORECASE
)
_SAME: Final = 0.6  # likeness of words from which on two wishes are about the same thing
_ADDRESS: Final = re.compile(r"\b(?:call(?:ing)?|address(?:ing)?)\s+me\b|叫我|称呼我", re.IGNORECASE)
_HARM: Final = re.compile(
    r"\b(?:allerg|intoleran|diabet|coeliac|celiac|epilep|asthma)|过敏|不耐|糖尿病|哮喘", re.IGNORECASE
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
    """True for what says who the user is, and wishes for nothing."""
    return record.info.get("topic") == _ABOUT


def of_profile(record: Record) -> bool:
    """True for a wish that the user said in so many words and that holds whatever is asked."""
    return (
        record.status == "activated"
        and record.kind in PROFILE_KINDS
        and record.source == "user"
        and record.info.get("topic") in _TOPICS
        and SUSPICIOUS not in record.info
        and record.info.get("standing", True)
        and (record.info["topic"] != "health" or _OWN_HEALTH.search(record.text) is not None)
    )


def in_force(records: Iterable[Record]) -> list[Record]:
    """The wishes that nothing newer replaces: by topic, and within one the newest first."""
    newest_first = sorted(filter(of_profile, records), key=lambda record: (record.event_time, record.id), reverse=True)
    kept: list[Record] = []
    for record in newest_first:
        if not any(_replaces(newer, record) for newer in kept):
            kept.append(record)
    return sorted(kept, key=lambda record: _TOPICS.index(record.info["topic"]))


def _replaces(newer: Record, older: Record) -> bool:
    if is_about_oneself(newer) or is_about_oneself(older):
        return bool(newer.info.get("trait") == older.info.get("trait"))  # each has one value
    if _HARM.search(older.text) and not _HARM.search(newer.text):
        return False  # a new diet does not end an allergy
    if _ADDRESS.search(newer.text) and _ADDRESS.search(older.text):
        return True
    conditions = _condition(newer.text), _condition(older.text)
    if any(conditions) and likeness(*conditions) < _SAME:
        return False  # each holds where its condition does
    is_same_topic = newer.info["topic"] == older.info["topic"]
    if is_same_topic and any(subject.search(newer.text) and subject.search(older.text) for subject in _SUBJECTS):
        return True
    return likeness(set(terms(newer.text)), set(terms(older.text))) >= _SAME


def _condition(text: str) -> set[str]:
    found = _CONDITION.search(text)
    return set(terms(found.group())) if found else set()
