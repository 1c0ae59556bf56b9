"""Text to search terms: the same for what is stored, what is asked, and both search ways.

English and other spaced scripts: lower-case words, stop words out, light stemming. Chinese, Japanese, Korean:
character bigrams (better than a word segmenter on our sets, and no dictionary). A lone CJK character stands for
itself. Pure; terms hold no white space, so a text's terms can be stored joined by spaces.
"""

import itertools
import re
import unicodedata
from functools import lru_cache

__all__ = ["is_cjk", "terms"]

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_PIECE = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:['’][^\W\d_]{{1,3}}\b)?")
_IS_CJK = re.compile(rf"[{_CJK}]")
_VOWEL = re.compile(r"[aeiouy]")

_STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are aren't as at be because been before being below
    between both but by can can't cannot could couldn't d did didn't do does doesn't doing don't down during each
    few for from further get got had hadn't has hasn't have haven't having he he'd he'll he's her here here's hers
    herself him himself his how how's i i'd i'll i'm i've if in into is isn't it it's its itself just let's ll me
    more most mustn't my myself no nor not of off on once only or other ought our ours ourselves out over own re s
    same shan't she she'd she'll she's should shouldn't so some such t than that that's the their theirs them
    themselves then there there's these they they'd they'll they're they've this those through to too under until up
    ve very was wasn't we we'd we'll we're we've were weren't what what's when when's where where's which while who
    who's whom why why's will with won't would wouldn't you you'd you'll you're you've your yours yourself
    yourselves
    """.split()
)
# Function characters that tell nothing about a Chinese sentence's subject; a bigram made of two of them is dropped.
_CJK_STOP = frozenset("的了是在我你他她它们這这那哪和与就都也很吗嗎呢吧啊有没沒不要会會什么麼怎谁誰几幾个個之一")


def is_cjk(text: str) -> bool:
    """True if `text` has a Chinese, Japanese or Korean character."""
    return _IS_CJK.search(text) is not None


def terms(text: str) -> list[str]:
    """The search terms of a text, in order, with repetitions."""
    found: list[str] = []
    for match in _PIECE.finditer(unicodedata.normalize("NFKC", text).casefold()):
        piece = match.group()
        if _IS_CJK.match(piece):
            _add_bigrams(piece, found)
        elif piece not in _STOP_WORDS:
            found.append(_stem(piece))
    return found


def _add_bigrams(run: str, found: list[str]) -> None:
    if len(run) == 1:
        if run not in _CJK_STOP:
            found.append(run)
        return
    for first, second in itertools.pairwise(run):
        if not (first in _CJK_STOP and second in _CJK_STOP):
            found.append(first + second)


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """Bring the commonest English endings together; a rough form of Porter's steps 1a, 1b and 5a."""
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
