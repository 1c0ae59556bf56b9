"""Separates the inline reasoning of a model from its answer: `<think>…</think>` and the like. Pure.

Only a block at the very beginning counts, as reasoning models write it; the same markers later are part of the answer.
Some servers omit the opening marker, since it is part of their prompt: then the first closing marker at the edge of a
line ends the reasoning, which can be detected in complete answers only.
"""

import re
from typing import Final

__all__ = ["ThinkSplitter", "split_think"]

_PAIRS: Final = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think")},
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
_FIRST_CHARACTERS = tuple({marker[0] for marker in _PAIRS})
_OPEN_MARKER = re.compile("|".join(map(re.escape, _PAIRS)))
_LONE_CLOSE = re.compile(r"</(?:think|thinking|thought)>|\[/THINK\]|◁/think▷")


def split_think(text: str) -> tuple[str, str | None]:
    """Return the answer without its reasoning, and the reasoning (None if there is none)."""
    start = text.lstrip("\ufeff \t\r\n")[:20].lower()
    marker = None
    if start.startswith(_FIRST_CHARACTERS):
        marker = next((marker for marker in _PAIRS if start.startswith(marker.lower())), None)
    if marker is not None:
        body = text.lstrip("\ufeff \t\r\n")[len(marker) :]
        reasoning, close, answer = body.partition(_PAIRS[marker])
        if not close:
            close_match = re.search(re.escape(_PAIRS[marker]), body, re.IGNORECASE)
            if close_match is None:  # never closed; the longer names may be words of the answer
                return ("", body.strip() or None) if marker == "<think>" else (text, None)
            reasoning, answer = body[: close_match.start()], body[close_match.end() :]
        return (answer.lstrip() if reasoning.strip() else answer.lstrip("\n")), reasoning.strip() or None
    for lone_close in _LONE_CLOSE.finditer(text):
        if _OPEN_MARKER.search(text, 0, lone_close.start()) is not None:
            break
        before, after = text[: lone_close.start()], text[lone_close.end() :]
        is_on_edge = before.endswith("\n") or (not before.endswith("`") and after.lstrip(" \t")[:1] in ("\n", ""))
        if is_on_edge:
            return after.lstrip(), before.strip() or None
        break
    return text, None


class ThinkSplitter:
    """Incremental `split_think`, for text in arbitrary pieces: yields ("reasoning" | "text", piece)."""

    def __init__(self) -> None:
        self._buffer = ""
        self._close = ""
        self._state = "begin"

    def feed(self, piece: str) -> list[tuple[str, str]]:
        self._buffer += piece
        pieces: list[tuple[str, str]] = []
        if self._state == "begin":
            start = self._buffer.lstrip()
            marker = next((marker for marker in _PAIRS if start.startswith(marker)), None)
            if marker is not None:
                self._buffer, self._state, self._close = start[len(marker) :], "thinking", _PAIRS[marker]
            elif not any(marker.startswith(start) for marker in _PAIRS):
                self._state = "answer"
        if self._state == "thinking":
            reasoning, marker, rest = self._buffer.partition(self._close)
            if marker:
                self._buffer, self._state = rest.lstrip("\n"), "answer"
            else:
                overlap = _overlap(reasoning, self._close)
                reasoning, self._buffer = reasoning[: len(reasoning) - overlap], reasoning[len(reasoning) - overlap :]
            if reasoning:
                pieces.append(("reasoning", reasoning))
        if self._state == "answer" and self._buffer:
            pieces.append(("text", self._buffer))
            self._buffer = ""
        return pieces

    def end(self) -> list[tuple[str, str]]:
        """Return the rest, which was withheld since it might have been part of a marker."""
        rest, self._buffer = self._buffer, ""
        return [("reasoning" if self._state == "thinking" else "text", rest)] if rest else []


def _overlap(text: str, close: str) -> int:
    """Number of final characters that may be the beginning of the closing marker."""
    return next((size for size in range(len(close) - 1, 0, -1) if text.endswith(close[:size])), 0)
