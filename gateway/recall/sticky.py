"""Placement `sticky`: a block that was injected for a user's message is injected again, the same, when that message
comes back as history. So the prompt only grows at its end, and a provider's prompt cache holds over a conversation.

A block goes when a memory in it was changed or deleted, and after a day. What fails here is as if nothing were kept.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from gateway import splice
from gateway.dialect import Dialect, UserTurn
from gateway.errors import MemoryUnavailable
from gateway.store.blocks import Blocks, BlocksFailed, KeptBlock
from gateway.turn import Block, Identity

__all__ = ["Sticky", "turn_keys", "with_blocks"]

_log = logging.getLogger("gateway.recall")
_SESSIONS = 2000  # conversations whose blocks are in RAM
_OF_A_SESSION = 256  # blocks, the newest
_MOST = 20_000  # blocks in all

Versions = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""The versions of memories as they are now; what is deleted is left out. Raises MemoryUnavailable."""


class Sticky:
    """`deadline`: seconds that a turn may wait for what was kept."""

    def __init__(self, blocks: Blocks, versions: Versions, deadline: float) -> None:
        self._blocks = blocks
        self._versions = versions
        self._deadline = deadline
        self._sessions: OrderedDict[tuple[str, str], dict[str, KeptBlock]] = OrderedDict()
        self._changes = 0  # of memories: what was read before one may tell what is no more

    async def kept(self, identity: Identity) -> Mapping[str, KeptBlock]:
        """The blocks of a conversation by turn key, none of which tells what is no more."""
        place = (identity.reads[0].value, identity.session_id)
        held = self._sessions.get(place)
        if held is None:
            changes = self._changes
            try:
                async with asyncio.timeout(self._deadline):
                    held = await self._current(place)
            except (BlocksFailed, MemoryUnavailable, TimeoutError) as error:
                _log.warning("blocks_not_read", extra={"cause": str(error)})
                return {}
            if changes != self._changes:
                return {}
            self._sessions[place] = held
            self._bound()
        self._sessions.move_to_end(place)
        return held

    async def keep(self, identity: Identity, key: str, block: Block) -> None:
        """What was injected for a turn just now."""
        place = (identity.reads[0].value, identity.session_id)
        kept = KeptBlock(block.text, block.tokens, {one.record.id: one.record.version for one in block.memories})
        held = self._sessions.get(place)
        if held is not None:
            held[key] = kept
            if len(held) > _OF_A_SESSION:
                del held[next(iter(held))]
            self._bound()
        try:
            await self._blocks.put(*place, key, kept)
        except BlocksFailed as error:
            _log.warning("block_not_kept", extra={"cause": str(error)})

    async def discard(self, identity: Identity, key: str) -> None:
        """A block did not reach the model."""
        place = (identity.reads[0].value, identity.session_id)
        self._sessions.get(place, {}).pop(key, None)
        try:
            await self._blocks.drop(*place, [key])
        except BlocksFailed as error:
            _log.warning("block_not_dropped", extra={"cause": str(error)})

    def forget(self, scopes: Collection[str]) -> None:
        """Memories were changed or deleted: look again which blocks still hold."""
        self._changes += 1
        self._sessions.clear()

    def _bound(self) -> None:
        """Whose conversation rests for longest leaves RAM; the disk still knows."""
        blocks = sum(map(len, self._sessions.values())) if len(self._sessions) * _OF_A_SESSION > _MOST else 0
        while len(self._sessions) > _SESSIONS or (blocks > _MOST and len(self._sessions) > 1):
            blocks -= len(self._sessions.popitem(last=False)[1])

    async def _current(self, place: tuple[str, str]) -> dict[str, KeptBlock]:
        found = await self._blocks.of(*place)
        ids = {id_ for block in found.values() for id_ in block.memories}
        now = await self._versions(sorted(ids)) if ids else {}
        gone = [key for key, one in found.items() if any(now.get(id_) != at for id_, at in one.memories.items())]
        if gone:
            await self._blocks.drop(*place, gone)
        return {key: block for key, block in found.items() if key not in gone}


def with_blocks(raw: bytes, dialect: Dialect, blocks: Sequence[tuple[UserTurn, str]]) -> bytes:
    """A request with a block in each of these messages of the user; in one pass over its bytes."""
    span = splice.find(raw, (dialect.messages_field,)) if blocks else None
    if span is None:
        return raw
    spans = splice.elements(raw, span)
    pieces, place = [], 0
    for said, text in sorted(blocks, key=lambda pair: pair[0].path[1]):
        field, index, *rest = said.path
        begin, end = spans[int(index)]
        alone = b'{"' + str(field).encode() + b'":[' + raw[begin:end] + b"]}"
        head, tail = alone.index(b"[") + 1, 2
        put = dialect.put(alone, replace(said, path=(field, 0, *rest)), text)
        pieces += [raw[place:begin], put[head : len(put) - tail]]
        place = end
    return b"".join([*pieces, raw[place:]])


def turn_keys(turns: Sequence[UserTurn]) -> list[str]:
    """A key for each message of the user: what it says, after what was said before. A history that a client has cut
    at its beginning has the same keys, but for its first."""
    before = ["", *(turn.text for turn in turns)]
    return [_digest(f"{earlier}\0{turn.text}") for earlier, turn in zip(before, turns, strict=False)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
