"""The stages of a request: recall → assemble → forward → tee → remember.

`Pipeline.open` runs the stages before the first byte and returns an `Exchange`; its consumer writes the chunks to the
client as they arrive. The turn is in the journal before the last chunk is handed out. An exchange that is closed
before its end cancels the upstream first and remembers afterwards. A failure of memory never fails a chat.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from gateway.config import RecallConfig
from gateway.errors import GatewayError
from gateway.formats import json_splice
from gateway.formats.base import Answer, Outcome
from gateway.llm.client import Asker
from gateway.llm.questions import refine
from gateway.memory.recalled import Block, MemoryStatus, Recalled
from gateway.pipeline.response import Exchange, Replayed, ReplyBody, read_error
from gateway.plugin_host import PluginHost, thaw
from gateway.prompt.assemble import NO_BLOCK, NOTES, assemble
from gateway.prompt.cache_monitor import PrefixWatch
from gateway.prompt.explain import Explanations
from gateway.prompt.pinned import Sticky, turn_keys, with_blocks
from gateway.prompt.tokens import Tokenizer, encoding_of
from gateway.recall.recall import Recall
from gateway.remember.remember import Remember
from gateway.telemetry import Telemetry, short_digest
from gateway.turn import Identity, Turn
from gateway.upstream.forward import Forwarder, Route, Served
from gateway.upstream.sniff import recognised
from gateway.usage.meter import Meter

__all__ = ["Pipeline"]

_log = logging.getLogger("gateway.turn")
_UNLIMITED = 2**31
_MAX_ERROR_TEXT = 4096  # bytes of an error body that are searched for the pattern
_MAX_BUDGET = 8192  # a larger budget is always counted against the window
_MAX_BYTES_PER_TOKEN = 32  # more than the average of any text
_MAX_COUNTED_INLINE = 4096  # bytes; more are counted in a thread
_REFUSED = (400, 413, 422)
_FAILED = (500,)  # used by some servers for a prompt that is too long
# wordings of OpenAI, Anthropic, Gemini, vLLM, llama.cpp, Ollama, SGLang, Mistral, Bedrock and Chinese providers
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|context (?:length|window|size|limit)|maximum context|contextwindow|"
    r"(?:prompt|input|request|message|conversation)s?(?: is| are| was)? too (?:long|large|big)|"
    r"too many (?:input )?tokens|"
    r"(?:input|prompt|token)s?[ _](?:length|count|limit|size)\b.{0,60}(?:exceed|larger|greater|longer|limit|max)|"
    r"(?:exceed\w*|larger than|greater than|longer than|beyond|more than)\W+(?:[\w'/-]+\W+){0,6}?"
    r"(?:context|n_ctx|max_seq_len|(?:maximum|max) (?:input|prompt|sequence|allowed)|token limit|input tokens)|"
    r"max(?:imum)?[ _](?:model|seq|sequence|input|prompt)[ _]?(?:len|length|tokens)|"
    r"reduce (?:the length|your prompt|the (?:prompt|input|number))|n_ctx|string_above_max_length|"
    r"上下文|(?:输入|提示词|请求|长度).{0,12}(?:过长|超出|超过|太长|限制)|(?:超出|超过).{0,16}(?:长度|限制|上限|tokens?)",
    re.IGNORECASE,
)


class Pipeline:
    """Runs the stages of a turn, and owns tasks that outlive a request (remembering after a hang-up, observers)."""

    def __init__(
        self,
        *,
        recall: Recall,
        remember: Remember,
        forwarder: Forwarder,
        tokenizer: Tokenizer,
        plugins: PluginHost,
        telemetry: Telemetry,
        config: RecallConfig,
        asker: Asker,
        fine_timeout: float,
        sticky: Sticky,
        meter: Meter,
    ) -> None:
        self.recall = recall
        self.remember = remember
        self.forwarder = forwarder
        self.plugins = plugins
        self.telemetry = telemetry
        self.meter = meter
        self.explanations = Explanations(config.explain_turns)
        self._tokenizer = tokenizer
        self._config = config
        self._asker = asker
        self._fine_timeout = fine_timeout
        self._sticky = sticky
        self._prefixes = PrefixWatch()
        self._afterwards: set[asyncio.Task[Any]] = set()

    async def open(self, turn: Turn) -> Exchange:
        """Run all stages before the first byte of the answer. Raises GatewayError if there is no answer to send."""
        route: Route | None = None
        is_sent = False
        try:
            turn, reply = await self.plugins.on_request(turn)
            if reply is not None:
                exchange = Exchange(self, turn, ReplyBody(reply), upstream="plugin")
                exchange.headers |= {name.lower(): value for name, value in reply.headers.items()}
                return exchange
            route = self.forwarder.route(turn.ask.model)
            if turn.ask.upstream:
                route = route.only(turn.ask.upstream)
            turn, raw = await self._build_prompt(turn, route)
            if self.remember.is_late and turn.identity is not None and turn.mode.writes:
                turn = replace(turn, recalled=replace(turn.recalled, status=MemoryStatus.DEGRADED, reason="journal"))
            self.telemetry.bound("recalls", turn.status.value, turn.recalled.reason).inc()
            overhead = time.perf_counter() - turn.started
            self.telemetry.bound("stage", "overhead").observe(overhead)
            is_sent = True
            served, turn = await self._forward(turn, route, raw)
        except asyncio.CancelledError:
            self.afterwards(self._finish_client_gone(turn, route if is_sent else None))
            raise
        except Exception as error:
            self.afterwards(self._finish_failed(turn, error))
            raise
        upstream = served.upstream.config
        return Exchange(
            self,
            turn,
            served.incoming,
            upstream=upstream.name,
            attempts=served.attempts,
            model=served.target.model,
            secrets=self.forwarder.secrets(served.upstream),
            is_stand_in=not upstream.rules.is_language_model,
            overhead=overhead,
        )

    def count(self, text: str) -> int:
        """Count the tokens of a text in the default encoding."""
        return self._tokenizer.count(text)

    def afterwards(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run work in the background, not cancelled with the request."""
        _ = self.owned(work)

    def owned(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task that survives cancellation of its request; `stop` waits for it."""
        task = asyncio.create_task(work, name="afterwards")
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)
        return task

    async def stop(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, for background tasks such as remembering."""
        deadline = time.monotonic() + timeout
        while self._afterwards and (remaining := deadline - time.monotonic()) > 0:  # a task may start another
            await asyncio.wait(self._afterwards, timeout=remaining)

    async def _build_prompt(self, turn: Turn, route: Route) -> tuple[Turn, bytes]:
        raw = turn.raw
        identity = turn.identity
        if identity is not None and turn.mode.reads and not turn.ask.is_task:
            if self._placement(turn) == "sticky":
                turn, raw = await self._build_sticky_prompt(turn, identity, route)
            else:
                turn = await self._add_block(turn, route, raw)
                raw = self._place_block(turn, raw)
            block = turn.block or NO_BLOCK
            self.telemetry.recalled_tokens.observe(block.tokens)
            content = "none" if not block.text else "memories" if len(block.ids) > block.standing else "standing"
            self.telemetry.bound("blocks", content).inc()
            share = self._prefixes.share((identity.reads[0].value, identity.session_id), turn.raw, raw)
            if share is not None:
                self.telemetry.prefix_kept.observe(share)
        return turn, await self._apply_message_hooks(turn, raw)

    async def _build_sticky_prompt(self, turn: Turn, identity: Identity, route: Route) -> tuple[Turn, bytes]:
        """Build a prompt with a block before the last user message and the pinned blocks of earlier ones."""
        turns = turn.dialect.user_turns(turn.body)
        keys = turn_keys(turns)
        earlier_blocks = await self._sticky.kept(identity)
        # a mapping: a repeated message gets its block only once
        earlier = {key: turn_ for key, turn_ in zip(keys[:-1], turns[:-1], strict=True) if key in earlier_blocks}
        raw = with_blocks(
            turn.raw, turn.dialect, [(user_turn, earlier_blocks[key].text) for key, user_turn in earlier.items()]
        )
        if await self._context_room(turn, route, raw) < 0:
            raw = turn.raw
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        # the first message of an unnamed conversation may belong to another conversation
        is_opening = len(keys) == 1 and not identity.is_session_named
        block_now = earlier_blocks.get(keys[-1]) if keys and not is_opening else None
        if block_now is not None and block_now.tokens <= budget:
            recalled = Recalled(MemoryStatus.HIT, reason="kept")
            block = Block(block_now.text, (), block_now.tokens, tuple(block_now.memories))
            turn = replace(turn, recalled=recalled, block=block)
        else:
            shown_ids = frozenset(id_ for key in keys if key in earlier_blocks for id_ in earlier_blocks[key].memories)
            turn = await self._add_block(turn, route, raw, shown_ids)
            if keys and turn.block is not None and turn.block.text:
                await self._sticky.keep(identity, keys[-1], turn.block)
        return turn, self._place_block(turn, raw)

    async def _add_block(self, turn: Turn, route: Route, raw: bytes, shown_ids: frozenset[str] = frozenset()) -> Turn:
        """Recall memories for a turn and assemble its block, without `shown_ids`, which are in the prompt already."""
        unfiltered = recalled = await self._recall_memories(turn)
        if self.plugins.has("on_recall"):
            memories = await self.plugins.on_recall(turn, unfiltered.memories)
            recalled = replace(unfiltered, memories=tuple(memories))
        if shown_ids:
            unseen = tuple(memory for memory in recalled.memories if memory.record.id not in shown_ids)
            recalled = replace(recalled, memories=unseen)
        began = time.perf_counter()
        turn = await self._assemble_block(replace(turn, recalled=recalled), route, unfiltered, raw)
        self.telemetry.bound("stage", "assemble").observe(time.perf_counter() - began)
        return turn

    def _placement(self, turn: Turn) -> str:
        return turn.dialect.placement or self._config.placement

    def _place_block(self, turn: Turn, raw: bytes) -> bytes:
        dialect, block = turn.dialect, turn.block
        if block is None or not block.text:
            return raw
        if self._placement(turn) == "system":
            return dialect.put_into_system(raw, turn.body, block.text)
        return raw if turn.ask.place is None else dialect.put(raw, turn.ask.place, block.text)

    async def _recall_memories(self, turn: Turn) -> Recalled:
        """The memories that a face recalled already, else run recall; re-ranked by a model if the turn asks for it."""
        if turn.recalled.status is not MemoryStatus.OFF:
            return turn.recalled
        recalled = await self.recall.recall(turn)
        if turn.wanted.is_fine:
            memories = await refine(self._asker, turn.ask.query, recalled.memories, self._fine_timeout)
            recalled = replace(recalled, memories=memories)
        return recalled

    async def _assemble_block(self, turn: Turn, route: Route, unfiltered: Recalled, raw: bytes) -> Turn:
        """Assemble the block of a turn, and store the explanation of its recall."""
        memories = turn.recalled.memories
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        max_memories = self._config.top_k if turn.wanted.text is None else len(memories)
        visible_ids = frozenset[str]()
        block = NO_BLOCK
        if memories or turn.recalled.profile:
            encoding = route.upstream.config.encoding or encoding_of(route.model)
            budget, visible_ids = min(budget, await self._context_room(turn, route, raw)), turn.dialect.said(turn.body)
            layout = turn.dialect.layout or NOTES
            block = assemble(
                memories,
                budget,
                partial(self._tokenizer.count, encoding=encoding),
                visible_ids,
                max_memories,
                layout=layout,
                profile=turn.recalled.profile,
                profile_budget=self._config.profile_budget,
            )
        turn = replace(turn, block=block)
        self.explanations.keep(turn, unfiltered, budget=budget, most=max_memories, said=visible_ids)
        return turn

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

    async def _apply_message_hooks(self, turn: Turn, raw: bytes) -> bytes:
        if not self.plugins.has("on_messages"):
            return raw
        span = json_splice.find(raw, (turn.dialect.messages_field,))
        if span is None:
            return raw
        messages = orjson.loads(raw[span[0] : span[1]])
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        changed = await self.plugins.on_messages(turn, messages)
        return raw if changed is None else json_splice.replace(raw, span, orjson.dumps(list(changed), default=thaw))

    async def _forward(self, turn: Turn, route: Route, raw: bytes) -> tuple[Served, Turn]:
        """Send the prompt; if it is too long, retry without the block, or with a larger context window."""
        served, has_block = await self._send(turn, route, raw), True
        if raw is not turn.raw and turn.block is not None and turn.block.text:
            served, is_refused = await self._inspect_refusal(served, has_block=True)
            if is_refused:
                _log.info("retried_without_memory", extra={"turn": turn.id})
                served.incoming.close()
                bare = await self._apply_message_hooks(turn, turn.raw)
                # an upstream may refuse another body under the same idempotency key
                headers = {name: value for name, value in turn.headers.items() if name.lower() != "idempotency-key"}
                bare_turn = replace(turn, headers=headers)
                served, has_block = await self._send(bare_turn, route.only(served.upstream.name), bare), False
        roomier = route.roomier(served.target)
        if roomier is not None:
            served, is_too_long = await self._inspect_refusal(served)
            if is_too_long:
                _log.info("sent_where_there_is_room", extra={"turn": turn.id, "upstream": roomier.upstream.name})
                served.incoming.close()
                served, has_block = await self._send(turn, roomier, raw), True
        return served, turn if has_block else await self._withdraw_block(turn)

    async def _withdraw_block(self, turn: Turn) -> Turn:
        """Remove the block from a turn, its explanation and its pin, since it did not reach the model."""
        turns = turn.dialect.user_turns(turn.body)
        if turn.identity is not None and turns and self._placement(turn) == "sticky":
            await self._sticky.discard(turn.identity, turn_keys(turns)[-1])
        self.explanations.withhold(turn.id)
        return replace(turn, recalled=Recalled(MemoryStatus.DEGRADED, reason="context"), block=NO_BLOCK)

    async def _inspect_refusal(self, served: Served, *, has_block: bool = False) -> tuple[Served, bool]:
        """Read an error answer. Returns it replayable, and True if the prompt is too long for the model. With a block,
        any refusal may mean that, since the wording differs between servers."""
        status = served.incoming.status
        if status not in _REFUSED and status not in _FAILED:
            return served, False
        try:
            body = await read_error(served.incoming)
        except BaseException:
            served.incoming.close()  # no other owner closes it
            raise
        is_too_long = (has_block and status in _REFUSED) or _TOO_LONG.search(_error_text(body)) is not None
        return replace(served, incoming=Replayed(served.incoming, body)), is_too_long

    async def _send(self, turn: Turn, route: Route, raw: bytes) -> Served:
        served = await self.forwarder.send_chat(
            route, path=turn.path, query_string=turn.query_string, client_headers=turn.headers, raw=raw
        )
        return replace(served, incoming=await recognised(served.incoming)) if turn.ask.stream else served

    async def _finish_client_gone(self, turn: Turn, route: Route | None) -> None:
        """Finish a turn whose client disconnected early; `route`: the one it was sent to, None if it was not sent."""
        answer = Answer(None, outcome=Outcome.CLIENT_GONE)
        await self.remember.remember(turn, answer)
        if route is not None:
            counted = await self.meter.counted(turn, answer)
            answer = self.meter.note(turn, counted, upstream=route.upstream.config.name, model=route.model)
        await self.plugins.on_response(turn, answer)
        self.log(turn, Outcome.CLIENT_GONE, 0, "")

    async def _finish_failed(self, turn: Turn, error: Exception) -> None:
        if isinstance(error, GatewayError) and error.status >= 500:
            await self.remember.remember(turn, Answer(None, outcome=Outcome.CUT))
        await self.plugins.on_error(turn, error)
        self.log(turn, Outcome.REFUSED, getattr(error, "status", 500), "")

    def log(self, turn: Turn, outcome: Outcome, status: int, upstream: str) -> None:
        """Write the log line of a turn."""
        self.telemetry.bound("outcomes", outcome.value).inc()
        if not _log.isEnabledFor(logging.INFO):
            return
        _log.info(
            "turn",
            extra={
                "turn": turn.id,
                "tenant": turn.principal.tenant,
                "user": short_digest(turn.identity.user_id) if turn.identity else None,
                "upstream": upstream,
                "status": status,
                "outcome": outcome.value,
                "memory": turn.status.value,
                "memories": len(turn.block.memories) if turn.block else 0,
                "tokens": turn.block.tokens if turn.block else 0,
                "ms": round((time.perf_counter() - turn.started) * 1000, 1),
            },
        )


def _error_text(body: bytes) -> str:
    """The beginning of an error body, with JSON escapes decoded."""
    with contextlib.suppress(orjson.JSONDecodeError):
        body = orjson.dumps(orjson.loads(body))
    return body[:_MAX_ERROR_TEXT].decode("utf-8", "replace")
