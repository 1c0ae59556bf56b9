"""Search terms of a text: the same for stored texts and queries, and for both search paths.

English and other spaced scripts: lower-case words, stop words out, light stemming. Chinese, Japanese, Korean:
character bigrams (better than a word segmenter on our sets, and no dictionary). A lone CJK character is
a term of its own. Pure; terms contain no white space, so a text's terms can be stored joined by spaces.
"""

import itertools
import re
import unicodedata
from collections.abc import Set
from datetime import date, timedelta
from functools import lru_cache

__all__ = ["TERMS_VERSION", "is_cjk", "is_question", "stored_terms", "terms", "word_similarity"]

TERMS_VERSION = 3  # increase it with each change of the data stored beside a text's vector: rows are updated then

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_PIECE = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:['’][^\W\d_]{{1,3}}\b)?")
_IS_CJK = re.compile(rf"[{_CJK}]")
_EPOCH = date(1970, 1, 1)
_CJK_MONTHS = "一 二 三 四 五 六 七 八 九 十 十一 十二".split()
_MONTHS = "January February March April May June July August September October November December".split()

# Few: in one person's memory "would" and "over" still tell texts apart; only words of nearly all texts are dropped.
_STOP_WORDS = frozenset(
    """
    a an the and or but if of at by for with about to from in on is are was were be been am do does did has have had i
    you he she it we they me him her us them my your his its our their this that these those what which who whom when
    where why how not no so as s t like know get got go
    """.split()
)
_VOWEL = re.compile(r"[aeiouy]")
_CLITIC = re.compile(r"n?['’](?:s|m|d|t|re|ve|ll)\Z")
# Function characters that tell nothing about a Chinese sentence's subject; a bigram made of two of them is dropped.
_CJK_STOP = frozenset("的了是在我你他她它们這这那哪和与就都也很吗嗎呢吧啊有没沒不要会會什么麼怎谁誰几幾个個之一")


def is_cjk(text: str) -> bool:
    """True if `text` has a Chinese, Japanese or Korean character."""
    return _IS_CJK.search(text) is not None


def is_question(text: str) -> bool:
    """True if a text ends like a question, in English or Chinese. Reads only the end of the text."""
    end = text.rstrip()
    return end.endswith(("?", "？")) or end.removesuffix("。").rstrip().endswith(("吗", "呢"))


def terms(text: str) -> list[str]:
    """The search terms of a text, in order, with repetitions."""
    result: list[str] = []
    for match in _PIECE.finditer(unicodedata.normalize("NFKC", text).casefold()):
        piece = match.group()
        if _IS_CJK.match(piece):
            _add_bigrams(piece, result)
        elif _CLITIC.sub("", piece) not in _STOP_WORDS:
            result.append(_stem(piece))
    return result


def word_similarity(one: Set[str], other: Set[str]) -> float:
    """Similarity of two texts' terms, 0 to 1 (Dice's coefficient): twice the common terms, divided by all terms."""
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else 0.0


def stored_terms(text: str, event_time: float) -> list[str]:
    """The search terms of a memory: those of its text, then those of its day, so that "in May" finds it. `event_time`:
    local time of the message, in seconds since 1970."""
    return terms(text) + _day_terms(int(event_time // 86_400), is_cjk(text))


@lru_cache(maxsize=4096)
def _day_terms(day: int, in_cjk: bool) -> list[str]:
    at = _EPOCH + timedelta(days=day)
    return terms(
        f"{at.year}年{at.month}月{at.day}日 {_CJK_MONTHS[at.month - 1]}月"
        if in_cjk
        else f"{at.day} {_MONTHS[at.month - 1]} {at.year}"
    )


def _add_bigrams(run: str, result: list[str]) -> None:
    if len(run) == 1:
        if run not in _CJK_STOP:
            result.append(run)
        return
    for first, second in itertools.pairwise(run):
        if not (first in _CJK_STOP and second in _CJK_STOP):
            result.append(first + second)


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """Strip the commonest English endings; a rough form of Porter's steps 1a, 1b and 5a."""
    if len(word) > 2 and word[-2] in "'’":
        word = word[:-2]
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    word = _singular(word)
    for ending in ("ing", "ed"):
        stem = word[: -len(ending)]
        if word.endswith(ending) and len(stem) > 2 and _VOWEL.search(stem):
            word = stem[:-1] if stem[-1] == stem[-2] and stem[-1] not in "lsz" else stem
            break
    if len(word) > 4 and word.endswith("ly"):
        word = word[:-2]
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word.endswith("y") else word


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
