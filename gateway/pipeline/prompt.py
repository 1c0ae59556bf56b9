"""Builds the prompt of a turn: recalled memories, as a block within the budget, in the request's body."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import orjson

from gateway.config import RecallConfig
from gateway.formats import json_splice
from gateway.frozen_json import thaw
from gateway.memory.recalled import Block, Memory, MemoryStatus, Recalled
from gateway.pipeline.spans import describe_search
from gateway.plugin_host import PluginHost
from gateway.prompt.assemble import DEFAULT_LAYOUT, NO_BLOCK, assemble
from gateway.prompt.cache_monitor import PromptCacheMonitor
from gateway.prompt.explain import Explanations
from gateway.prompt.pinned import PinnedBlocks, turn_keys, with_blocks
from gateway.prompt.tokens import Tokenizer, encoding_of
from gateway.recall.recall import Recall
from gateway.telemetry import Telemetry
from gateway.turn import Identity, Turn
from gateway.upstream.routes import Route

__all__ = ["PromptBuilder", "Refine"]

_UNLIMITED = 2**31
_MAX_BUDGET = 8192  # a larger budget is always counted against the window
_MAX_BYTES_PER_TOKEN = 32  # more than the average of any text
_MAX_COUNTED_INLINE = 4096  # bytes; more are counted in a thread

Refine = Callable[[str, Sequence[Memory]], Awaitable[tuple[Memory, ...]]]
"""Selects and ranks the memories that help with a question, with a model."""


class PromptBuilder:
    """Builds the prompts of turns. Without memories the client's bytes stay as they are."""

    def __init__(
        self,
        *,
        recall: Recall,
        refine: Refine,
        tokenizer: Tokenizer,
        plugins: PluginHost,
        telemetry: Telemetry,
        config: RecallConfig,
        sticky: PinnedBlocks,
        explanations: Explanations,
    ) -> None:
        self._recall = recall
        self._refine = refine
        self._tokenizer = tokenizer
        self._plugins = plugins
        self._telemetry = telemetry
        self._config = config
        self._sticky = sticky
        self._explanations = explanations
        self._prefixes = PromptCacheMonitor()

    async def build(self, turn: Turn, route: Route) -> tuple[Turn, bytes]:
        """The turn with its block, and the body to send."""
        raw = turn.raw
        identity = turn.identity
        pinned: Sequence[str] = ()
        if identity is not None and turn.mode.reads and not turn.ask.is_task:
            if self._placement(turn) == "sticky":
                turn, raw, pinned = await self._build_sticky_prompt(turn, identity, route)
            else:
                turn = await self._add_block(turn, route, raw)
                raw = self._place_block(turn, raw)
            block = turn.block or NO_BLOCK
            self._telemetry.recalled_tokens.observe(block.tokens)
            content = "none" if not block.text else "memories" if len(block.ids) > block.standing else "standing"
            self._telemetry.bound("blocks", content).inc()
            share = self._prefixes.share((identity.reads[0].value, identity.session_id), turn.raw, raw)
            if share is not None:
                self._telemetry.prefix_kept.observe(share)
        raw = await self.apply_hooks(turn, raw)
        self._explanations.keep_prompt(turn, raw, pinned, is_in_system=self._placement(turn) == "system")
        return turn, raw

    async def apply_hooks(self, turn: Turn, raw: bytes) -> bytes:
        """The body as plugins change its messages."""
        if not self._plugins.has("on_messages"):
            return raw
        span = json_splice.find(raw, (turn.wire_format.messages_field,))
        if span is None:
            return raw
        messages = orjson.loads(raw[span[0] : span[1]])
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        changed = await self._plugins.on_messages(turn, messages)
        return raw if changed is None else json_splice.replace(raw, span, orjson.dumps(list(changed), default=thaw))

    async def withdraw_block(self, turn: Turn, bare: bytes) -> Turn:
        """Remove the block from a turn, its explanation and its pin, since it did not reach the model. `bare`: the body
        that was sent instead."""
        turns = turn.ask.user_turns
        if turn.identity is not None and turns and self._placement(turn) == "sticky":
            await self._sticky.discard(turn.identity, turn_keys(turns)[-1])
        self._explanations.withhold(turn.id, bare)
        return replace(turn, recalled=Recalled(MemoryStatus.DEGRADED, reason="context"), block=NO_BLOCK)

    async def _build_sticky_prompt(
        self, turn: Turn, identity: Identity, route: Route
    ) -> tuple[Turn, bytes, Sequence[str]]:
        """Build a prompt with a block before the last user message and the pinned blocks of earlier ones, which are
        returned, too."""
        turns = turn.ask.user_turns
        keys = turn_keys(turns)
        earlier_blocks = await self._sticky.kept(identity) if self._recall.is_usable else {}
        # a mapping: a repeated message gets its block only once
        earlier = {key: turn_ for key, turn_ in zip(keys[:-1], turns[:-1], strict=True) if key in earlier_blocks}
        pinned = [(user_turn, earlier_blocks[key].text) for key, user_turn in earlier.items()]
        raw = with_blocks(turn.raw, turn.wire_format, pinned)
        if await self._context_room(turn, route, raw) < 0:
            raw = turn.raw
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        # the first message of an unnamed conversation may belong to another conversation
        is_opening = len(keys) == 1 and not identity.is_session_named
        block_now = earlier_blocks.get(keys[-1]) if keys and not is_opening else None
        if block_now is not None and block_now.tokens <= budget:
            recalled = self._recall.mark_stale(Recalled(MemoryStatus.HIT, reason="kept"))
            block = Block(block_now.text, (), block_now.tokens, tuple(block_now.memories))
            turn = replace(turn, recalled=recalled, block=block)
            if not self._explanations.has(turn.id):  # the first try of a repeated request is explained better
                self._explanations.keep(turn, recalled, budget=budget, most=0)
        else:
            shown_ids = frozenset(id_ for key in keys if key in earlier_blocks for id_ in earlier_blocks[key].memories)
            turn = await self._add_block(turn, route, raw, shown_ids)
            if keys and turn.block is not None and turn.block.text:
                await self._sticky.keep(identity, keys[-1], turn.block)
        return turn, self._place_block(turn, raw), [text for _, text in pinned]

    async def _add_block(self, turn: Turn, route: Route, raw: bytes, shown_ids: frozenset[str] = frozenset()) -> Turn:
        """Recall memories for a turn and assemble its block, without `shown_ids`, which are in the prompt already."""
        trace, started = turn.trace, time.perf_counter()
        deadline = 0.0 if trace is None or turn.identity is None else self._recall.deadline(turn.identity.reads)
        unfiltered = recalled = await self._recall_memories(turn)
        searched = time.perf_counter()
        if self._plugins.has("on_recall"):
            memories = await self._plugins.on_recall(turn, unfiltered.memories)
            recalled = replace(unfiltered, memories=tuple(memories))
        if shown_ids:
            unseen = tuple(memory for memory in recalled.memories if memory.record.id not in shown_ids)
            recalled = replace(recalled, memories=unseen)
        began = time.perf_counter()
        turn, budget, visible_ids = await self._assemble_block(replace(turn, recalled=recalled), route, raw)
        most = self._max_memories(turn)
        self._explanations.keep(turn, unfiltered, budget=budget, most=most, said=visible_ids, shown=shown_ids)
        self._telemetry.bound("stage", "assemble").observe(time.perf_counter() - began)
        if trace is not None:
            seconds_left = max(0.0, deadline - (searched - started))
            trace.add_child("search_memory", started, searched, describe_search(turn, unfiltered, seconds_left))
        return turn

    def _placement(self, turn: Turn) -> str:
        return turn.wire_format.placement or self._config.placement

    def _place_block(self, turn: Turn, raw: bytes) -> bytes:
        wire_format, block = turn.wire_format, turn.block
        if block is None or not block.text:
            return raw
        if self._placement(turn) == "system":
            return wire_format.put_into_system(raw, turn.body, block.text)
        return raw if turn.ask.place is None else wire_format.put(raw, turn.ask.place, block.text)

    async def _recall_memories(self, turn: Turn) -> Recalled:
        """The memories that a route recalled already, else run recall; re-ranked by a model if the turn asks for it."""
        if turn.recalled.status is not MemoryStatus.OFF:
            return turn.recalled
        recalled = await self._recall.recall(turn)
        if turn.recall_options.is_fine:
            memories = await self._refine(turn.ask.query, recalled.memories)
            recalled = replace(recalled, memories=memories)
        return recalled

    def _max_memories(self, turn: Turn) -> int:
        return self._config.top_k if turn.recall_options.text is None else len(turn.recalled.memories)

    async def _assemble_block(self, turn: Turn, route: Route, raw: bytes) -> tuple[Turn, int, frozenset[str]]:
        """Assemble the block of a turn; returns its budget and the ids of messages that the prompt contains, too."""
        memories = turn.recalled.memories
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        visible_ids = frozenset[str]()
        block = NO_BLOCK
        if memories or turn.recalled.profile:
            encoding = route.upstream.config.encoding or encoding_of(route.model)
            budget = min(budget, await self._context_room(turn, route, raw))
            visible_ids = turn.wire_format.visible_ids(turn.body, turn.ask)
            layout = turn.wire_format.layout or DEFAULT_LAYOUT
            block = assemble(
                memories,
                budget,
                partial(self._tokenizer.count, encoding=encoding),
                visible_ids,
                self._max_memories(turn),
                layout=layout,
                profile=turn.recalled.profile,
                profile_budget=self._config.profile_budget,
            )
        return replace(turn, block=block), budget, visible_ids

    async def _context_room(self, turn: Turn, route: Route, raw: bytes) -> int:
        """Tokens left in the model's context window besides a request; a large number if the window is unknown. A long
        request is counted in a thread."""
        window = route.upstream.config.context_window
        if window is None:
            return _UNLIMITED
        room = window - turn.ask.max_tokens - 64
        if len(raw) + _MAX_BUDGET <= room:  # a token is at least a byte, so this fits without counting
            return _UNLIMITED
        encoding = route.upstream.config.encoding or encoding_of(route.model)
        if len(raw) > _MAX_BYTES_PER_TOKEN * max(room, 0):
            return 0
        text = raw.decode("utf-8", "replace")
        count = partial(self._tokenizer.count, text, encoding)
        return room - (await asyncio.to_thread(count) if len(raw) > _MAX_COUNTED_INLINE else count())
