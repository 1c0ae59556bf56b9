"""Chunking of long messages into parts that can be recalled one by one. Pure.

A text up to the size of a chunk stays whole. A longer one is split at paragraph ends, else at sentence ends, else at
spaces, else anywhere. The concatenation of the chunks is exactly the text. The limit for users' messages is high: half
a message is half a thought, and a long one takes its tokens only if it is relevant. The limit for answers and documents
is low: they are long by nature, and usually one passage is relevant.
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
    """The chunks of a text, each of a weight of at most `most`, in order; their concatenation is `text`."""
    return _cut(text, most, 0) if text else []


def weight(text: str) -> int:
    """Approximate length of a text in tokens, expressed in Latin characters."""
    return len(text) + (0 if text.isascii() else (_CJK_WEIGHT - 1) * len(_CJK.findall(text)))


def _cut(text: str, most: int, level: int) -> list[str]:
    if weight(text) <= most:
        return [text]
    if level == len(_ENDS):
        size = most // _CJK_WEIGHT
        return [text[begin : begin + size] for begin in range(0, len(text), size)]
    chunks: list[str] = []
    current, current_weight = "", 0
    for part in _parts(text, level):
        part_weight = weight(part)
        if current and current_weight + part_weight > most:
            chunks.append(current)
            current, current_weight = "", 0
        if part_weight > most:
            chunks.extend(_cut(part, most, level + 1))
        else:
            current, current_weight = current + part, current_weight + part_weight
    if current:
        chunks.append(current)
    return chunks


def _parts(text: str, level: int) -> list[str]:
    ends = [match.end() for match in _ENDS[level].finditer(text)]
    begins = [0, *ends]
    return [text[begin:end] for begin, end in zip(begins, [*ends, len(text)], strict=True) if begin < end]
