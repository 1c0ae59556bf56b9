"""Long messages into pieces that are worth recalling one by one. Pure.

A message up to `PIECE_CHARACTERS` stays whole. A longer one is cut at paragraph ends, else at sentence ends, else at
spaces, else anywhere. Joined in order the pieces are the message again, to the character.
"""

import re

__all__ = ["PIECE_CHARACTERS", "pieces", "weight"]

PIECE_CHARACTERS = 720  # about 180 tokens of English
_CJK_WEIGHT = 3  # a CJK character weighs about three Latin ones in tokens
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ENDS = (
    re.compile(r"\n\s*\n+"),
    re.compile(r"\n|(?<=[.!?;])\s+|[。！？；]"),
    re.compile(r"\s+|[，、,]"),
)


def pieces(text: str) -> list[str]:
    """The pieces of a message, in order; their concatenation is `text`."""
    if weight(text) <= PIECE_CHARACTERS:
        return [text] if text else []
    return _cut(text, 0)


def weight(text: str) -> int:
    """About how long a text is in Latin characters, by the tokens it takes."""
    return len(text) + (_CJK_WEIGHT - 1) * len(_CJK.findall(text))


def _cut(text: str, level: int) -> list[str]:
    if weight(text) <= PIECE_CHARACTERS:
        return [text]
    if level == len(_ENDS):
        size = PIECE_CHARACTERS // _CJK_WEIGHT
        return [text[begin : begin + size] for begin in range(0, len(text), size)]
    found: list[str] = []
    current, filled = "", 0
    for part in _parts(text, level):
        heavy = weight(part)
        if current and filled + heavy > PIECE_CHARACTERS:
            found.append(current)
            current, filled = "", 0
        if heavy > PIECE_CHARACTERS:
            found.extend(_cut(part, level + 1))
        else:
            current, filled = current + part, filled + heavy
    if current:
        found.append(current)
    return found


def _parts(text: str, level: int) -> list[str]:
    ends = [match.end() for match in _ENDS[level].finditer(text)]
    begins = [0, *ends]
    return [text[begin:end] for begin, end in zip(begins, [*ends, len(text)], strict=True) if begin < end]
