"""The bodies of the latest turns, as the client sent them and as they went to the upstream, for explanations.

Bodies are referred to and not copied, and are parsed when an explanation is read.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from gateway.concurrency.offload import offload
from gateway.prompt.block_places import find_blocks
from gateway.turn import Turn

__all__ = ["KeptPrompts"]

_MAX_BODY = 256 * 1024  # bytes
_MAX_BYTES = 16 * 2**20  # bytes of all bodies


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptPrompt:
    """A body as the client sent it (`request`) and as it went to the upstream (`prompt`; None: too large), and the
    blocks in it. `is_in_system`: the block of the turn is in the system prompt."""

    request_path: str
    request: bytes
    path: str
    prompt: bytes
    block: str
    earlier: tuple[str, ...]
    is_in_system: bool

    @property
    def size(self) -> int:
        shared = 0 if self.prompt is self.request else len(self.request)
        return len(self.prompt) + shared + sum(map(len, self.earlier))


class KeptPrompts:
    """The bodies by turn, 16 MiB at most. `is_on` False: nothing is kept, since content may not be shown."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self._prompts: OrderedDict[str, _KeptPrompt | None] = OrderedDict()  # None: too large
        self._size = 0

    def keep(self, turn: Turn, prompt: bytes, earlier: Sequence[str], *, is_in_system: bool) -> None:
        """Keep the bodies of a turn. `earlier`: blocks of earlier turns that were injected again."""
        if not self.is_on:
            return
        self.drop(turn.id)
        if max(len(prompt), len(turn.raw)) > _MAX_BODY:
            self._prompts[turn.id] = None
            return
        path = f"/v1{turn.path}"
        kept = _KeptPrompt(
            request_path=turn.client_path or path,
            request=turn.raw,
            path=path,
            prompt=prompt,
            block="" if turn.block is None else turn.block.text,
            earlier=tuple(earlier),
            is_in_system=is_in_system,
        )
        self._prompts[turn.id] = kept
        self._size += kept.size
        while self._size > _MAX_BYTES:
            self.drop(next(iter(self._prompts)))

    def withhold(self, turn_id: str, prompt: bytes) -> None:
        """Note that a turn was sent with another body, which has no block."""
        kept = self._prompts.get(turn_id)
        if kept is not None:
            bare = replace(kept, prompt=prompt, block="", earlier=())
            self._prompts[turn_id] = bare
            self._size += bare.size - kept.size

    def drop(self, turn_id: str) -> None:
        """Drop the bodies of a turn, if there are any."""
        kept = self._prompts.pop(turn_id, None)
        if kept is not None:
            self._size -= kept.size

    async def serialize(self, turn_id: str) -> dict[str, Any]:
        """The bodies of a turn as a part of its explanation; large ones are parsed in a thread."""
        omitted: dict[str, Any] = {"content": self.is_on, "prompt": None, "request": None}
        if not self.is_on:
            return omitted
        kept = self._prompts.get(turn_id)
        if kept is None:
            return {**omitted, "prompt_omitted": "too_large" if turn_id in self._prompts else "not_kept"}
        places = await offload(
            partial(find_blocks, kept.prompt, kept.block, kept.earlier, is_first=kept.is_in_system), len(kept.prompt)
        )
        blocks = [
            {"pointer": place.pointer, "start": place.start, "end": place.end, "is_current": place.is_current}
            for place in places
        ]
        # fragments: the bytes as they were sent, with duplicate names and long numbers
        prompt = {"path": kept.path, "body": orjson.Fragment(kept.prompt), "blocks": blocks}
        return {
            "content": True,
            "prompt": prompt,
            "request": {"path": kept.request_path, "body": orjson.Fragment(kept.request)},
        }
