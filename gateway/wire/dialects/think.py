"""Splits the thoughts of a model from its answer: `<think>…</think>` and the like. Pure.

Only a block at the very beginning counts, as reasoning models write it; the same marks later are part of the answer.
Some servers leave out the opening mark, since it is part of their prompt: then the first closing mark that stands on a
line's edge ends the thoughts, which can be seen in a whole answer only.
"""

import re
from typing import Final

__all__ = ["ThinkSplitter", "split_think"]

_PAIRS: Final = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think")},
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
_OPEN = re.compile("|".join(map(re.escape, _PAIRS)))
_CLOSE_ALONE = re.compile(r"</(?:think|thinking|thought)>|\[/THINK\]|◁/think▷")


def split_think(text: str) -> tuple[str, str | None]:
    """The answer without its thinking, and the thinking (None if there is none)."""
    begin = text.lstrip("\ufeff \t\r\n")[:20].lower()
    mark = next((mark for mark in _PAIRS if begin.startswith(mark.lower())), None)
    if mark is not None:
        whole = text.lstrip("\ufeff \t\r\n")[len(mark) :]
        thought, close, answer = whole.partition(_PAIRS[mark])
        if not close:
            close_match = re.search(re.escape(_PAIRS[mark]), whole, re.IGNORECASE)
            if close_match is None:  # it never ended; the longer names may be words of the answer
                return ("", whole.strip() or None) if mark == "<think>" else (text, None)
            thought, answer = whole[: close_match.start()], whole[close_match.end() :]
        return (answer.lstrip() if thought.strip() else answer.lstrip("\n")), thought.strip() or None
    for close_alone in _CLOSE_ALONE.finditer(text):
        if _OPEN.search(text, 0, close_alone.start()) is not None:
            break
        before, behind = text[: close_alone.start()], text[close_alone.end() :]
        is_on_edge = before.endswith("\n") or (not before.endswith("`") and behind.lstrip(" \t")[:1] in ("\n", ""))
        if is_on_edge:
            return behind.lstrip(), before.strip() or None
        break
    return text, None


class ThinkSplitter:
    """The same for text that comes in pieces cut anywhere: ("reasoning" | "text", piece)."""

    def __init__(self) -> None:
        self._held = ""
        self._close = ""
        self._state = "begin"

    def feed(self, piece: str) -> list[tuple[str, str]]:
        self._held += piece
        said: list[tuple[str, str]] = []
        if self._state == "begin":
            start = self._held.lstrip()
            mark = next((mark for mark in _PAIRS if start.startswith(mark)), None)
            if mark is not None:
                self._held, self._state, self._close = start[len(mark) :], "thinking", _PAIRS[mark]
            elif not any(mark.startswith(start) for mark in _PAIRS):
                self._state = "answer"
        if self._state == "thinking":
            thought, mark, rest = self._held.partition(self._close)
            if mark:
                self._held, self._state = rest.lstrip("\n"), "answer"
            else:
                overlap = _overlap(thought, self._close)
                thought, self._held = thought[: len(thought) - overlap], thought[len(thought) - overlap :]
            if thought:
                said.append(("reasoning", thought))
        if self._state == "answer" and self._held:
            said.append(("text", self._held))
            self._held = ""
        return said

    def end(self) -> list[tuple[str, str]]:
        """What was held back because it might have been a mark."""
        held, self._held = self._held, ""
        return [("reasoning" if self._state == "thinking" else "text", held)] if held else []


def _overlap(text: str, close: str) -> int:
    """How many of the last characters may be the beginning of the closing mark."""
    return next((size for size in range(len(close) - 1, 0, -1) if text.endswith(close[:size])), 0)
