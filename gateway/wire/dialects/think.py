"""`<think>…</think>` out of an answer: what a model thought is not what it said. Pure.

Only a block at the very beginning counts, as reasoning models write it; the same words later are part of the answer.
"""

__all__ = ["ThinkSplitter", "split_think"]

_OPEN, _CLOSE = "<think>", "</think>"


def split_think(text: str) -> tuple[str, str | None]:
    """The answer without its thinking, and the thinking (None if there is none)."""
    if _OPEN not in text:
        return text, None
    splitter = ThinkSplitter()
    said = splitter.feed(text) + splitter.end()
    thought = "".join(piece for kind, piece in said if kind == "reasoning")
    answer = "".join(piece for kind, piece in said if kind == "text")
    return (answer.lstrip() if thought else answer), thought.strip() or None


class ThinkSplitter:
    """The same for text that comes in pieces cut anywhere: ("reasoning" | "text", piece)."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "begin"

    def feed(self, piece: str) -> list[tuple[str, str]]:
        self._held += piece
        said: list[tuple[str, str]] = []
        if self._state == "begin":
            start = self._held.lstrip()
            if start.startswith(_OPEN):
                self._held, self._state = start[len(_OPEN) :], "thinking"
            elif not _OPEN.startswith(start):
                self._state = "answer"
        if self._state == "thinking":
            thought, mark, rest = self._held.partition(_CLOSE)
            if mark:
                self._held, self._state = rest.lstrip("\n"), "answer"
            else:
                kept = _overlap(thought)
                thought, self._held = thought[: len(thought) - kept], thought[len(thought) - kept :]
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


def _overlap(text: str) -> int:
    """How many of the last characters may be the beginning of the closing mark."""
    return next((size for size in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:size])), 0)
