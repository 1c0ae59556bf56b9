"""Long messages into pieces that are worth recalling one by one. Pure.

A text up to the size of a piece stays whole. A longer one is cut at paragraph ends, else at sentence ends, else at
spaces, else anywhere. Joined in order the pieces are the text again, to the character. What a user says is cut late:
half a message is half a thought, and a long one costs its place only where it is worth it. Answers and documents are
cut early: they are long by nature, and a passage of them is what is wanted.
"""

import re

__all__ = ["PASSAGE", "USER_MESSAGE", "pieces", "weight"]

PASSAGE = 720  # characters; about 180 tokens of English
USER_MESSAGE = 3000
_CJK_WEIGHT = 3  # a CJK character weighs about three Latin ones in tokens
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ENDS = (
    re.compile(r"\n\s*\n+"),
    re.compile(r"\n|(?<=[.!?;])\s+|[。！？；]"),
    re.compile(r"\s+|[，、,]"),
)


def pieces(text: str, most: int = PASSAGE) -> list[str]:
    """The pieces of a text of a weight of `most` at most, in order; their concatenation is `text`."""
    return _cut(text, most, 0) if text else []


def weight(text: str) -> int:
    """About how long a text is in Latin characters, by the tokens it takes."""
    return len(text) + (0 if text.isascii() else (_CJK_WEIGHT - 1) * len(_CJK.findall(text)))


def _cut(text: str, most: int, level: int) -> list[str]:
    if weight(text) <= most:
        return [text]
    if level == len(_ENDS):
        size = most // _CJK_WEIGHT
        return [text[begin : begin + size] for begin in range(0, len(text), size)]
    found: list[str] = []
    current, filled = "", 0
    for part in _parts(text, level):
        heavy = weight(part)
        if current and filled + heavy > most:
            found.append(current)
            current, filled = "", 0
        if heavy > most:
            found.extend(_cut(part, most, level + 1))
        else:
            current, filled = current + part, filled + heavy
    if current:
        found.append(current)
    return found


def _parts(text: str, level: int) -> list[str]:
    ends = [match.end() for match in _ENDS[level].finditer(text)]
    begins = [0, *ends]
    return [text[begin:end] for begin, end in zip(begins, [*ends, len(text)], strict=True) if begin < end]
