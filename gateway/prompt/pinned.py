"""Placement `sticky`: a block that was injected for a user's message is injected again unchanged when that message
comes back as history. So the prompt only grows at its end, and a provider's prompt cache stays valid over a
conversation.

A block is dropped when a memory in it was changed or deleted, and after a day. Failures count as no stored block.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from gateway.errors import MemoryUnavailable
from gateway.formats import json_splice
from gateway.formats.base import UserTurn, WireFormat
from gateway.memory.recalled import Block
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Blocks
from gateway.storage.values import KeptBlock
from gateway.turn import Identity

__all__ = ["PinnedBlocks", "turn_keys", "with_blocks"]

_log = logging.getLogger("gateway.recall")
_SESSIONS = 2000  # conversations whose blocks are in RAM
_OF_A_SESSION = 256  # blocks, the newest
_MAX_BLOCKS = 20_000  # blocks in all

Versions = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
"""Returns the current versions of memories, without deleted ones. Raises MemoryUnavailable."""


class PinnedBlocks:
    """The blocks of conversations, in RAM and in the store. `deadline`: seconds that a turn may wait for the store.

    `on_keep` are called with a conversation, a turn key and the turn's new block (None: it was dropped), for processes
    that may have the conversation in RAM, too. With `is_shared` other gateways write to the store, and conversations
    are read from it each time.
    """

    def __init__(self, blocks: Blocks, versions: Versions, deadline: float, *, is_shared: bool = False) -> None:
        self._blocks = blocks
        self._versions = versions
        self._deadline = deadline
        self._is_shared = is_shared
        self._sessions: OrderedDict[tuple[str, str], dict[str, KeptBlock]] = OrderedDict()
        self.on_keep: list[Callable[[tuple[str, str], str, KeptBlock | None], None]] = []
        self._changes = 0  # count of changes to memories: blocks read before a change may be outdated

    async def kept(self, identity: Identity) -> Mapping[str, KeptBlock]:
        """The blocks of a conversation by turn key, without outdated ones."""
        place = (identity.reads[0].value, identity.session_id)
        blocks = self._sessions.get(place)
        if blocks is None or self._is_shared:
            changes = self._changes
            try:
                async with asyncio.timeout(self._deadline):
                    blocks = await self._load_current(place)
            except (StorageError, MemoryUnavailable, TimeoutError) as error:
                _log.warning("blocks_read_failed", extra={"cause": str(error)})
                return blocks or {}
            if changes != self._changes:
                return {}
            self._sessions[place] = blocks
            self._evict()
        self._sessions.move_to_end(place)
        return blocks

    async def keep(self, identity: Identity, key: str, block: Block) -> None:
        """Store the block that was injected for a turn."""
        place = (identity.reads[0].value, identity.session_id)
        versions = {memory.record.id: memory.record.version for memory in block.memories}
        entry = KeptBlock(block.text, block.tokens, versions)
        self.note(place, key, entry)
        for listener in self.on_keep:
            listener(place, key, entry)
        try:
            await self._blocks.put(*place, key, entry)
        except StorageError as error:
            _log.warning("block_write_failed", extra={"cause": str(error)})

    def note(self, place: tuple[str, str], key: str, block: KeptBlock | None) -> None:
        """Set or drop (None) a turn's block in RAM, if its conversation is there."""
        blocks = self._sessions.get(place)
        if blocks is None:
            return
        if block is None:
            blocks.pop(key, None)
            return
        blocks[key] = block
        if len(blocks) > _OF_A_SESSION:
            del blocks[next(iter(blocks))]
        self._evict()

    async def discard(self, identity: Identity, key: str) -> None:
        """Drop a block that did not reach the model."""
        place = (identity.reads[0].value, identity.session_id)
        self.note(place, key, None)
        for listener in self.on_keep:
            listener(place, key, None)
        try:
            await self._blocks.drop(*place, [key])
        except StorageError as error:
            _log.warning("block_delete_failed", extra={"cause": str(error)})

    def forget(self, scopes: Collection[str]) -> None:
        """Drop the blocks in RAM, since memories were changed or deleted; they are checked when read again."""
        self._changes += 1
        self._sessions.clear()

    def _evict(self) -> None:
        """Drop the least recently used conversations from RAM; their blocks remain on disk."""
        blocks = sum(map(len, self._sessions.values())) if len(self._sessions) * _OF_A_SESSION > _MAX_BLOCKS else 0
        while len(self._sessions) > _SESSIONS or (blocks > _MAX_BLOCKS and len(self._sessions) > 1):
            blocks -= len(self._sessions.popitem(last=False)[1])

    async def _load_current(self, place: tuple[str, str]) -> dict[str, KeptBlock]:
        """The stored blocks of a conversation; outdated ones are dropped from the store."""
        stored = await self._blocks.of(*place)
        ids = {id_ for block in stored.values() for id_ in block.memories}
        now = await self._versions(sorted(ids)) if ids else {}
        outdated = [
            key
            for key, block in stored.items()
            if any(now.get(id_) != version for id_, version in block.memories.items())
        ]
        if outdated:
            await self._blocks.drop(*place, outdated)
        return {key: block for key, block in stored.items() if key not in outdated}


def with_blocks(raw: bytes, wire_format: WireFormat, blocks: Sequence[tuple[UserTurn, str]]) -> bytes:
    """A request with a block in each of these messages of the user; in one pass over its bytes."""
    span = json_splice.find(raw, (wire_format.messages_field,)) if blocks else None
    if span is None:
        return raw
    spans = json_splice.elements(raw, span)
    pieces, place = [], 0
    for turn, text in sorted(blocks, key=lambda pair: pair[0].path[1]):
        field, index, *rest = turn.path
        begin, end = spans[int(index)]
        alone = b'{"' + str(field).encode() + b'":[' + raw[begin:end] + b"]}"
        head, tail = alone.index(b"[") + 1, 2
        put = wire_format.put(alone, replace(turn, path=(field, 0, *rest)), text)
        pieces += [raw[place:begin], put[head : len(put) - tail]]
        place = end
    return b"".join([*pieces, raw[place:]])


def turn_keys(turns: Sequence[UserTurn]) -> list[str]:
    """A key for each message of the user: a hash of its text and of the user's message before it. A history that a
    client has truncated at its beginning has the same keys, except for its first."""
    before = ["", *(turn.text for turn in turns)]
    return [_digest(f"{earlier}\0{turn.text}") for earlier, turn in zip(before, turns, strict=False)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
