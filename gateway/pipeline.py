"""One request on its way: recall → assemble → forward → tee → remember.

`Pipeline.open` does what comes before the first byte and returns an `Exchange`; whoever iterates its chunks writes
them out as they come. The turn is in the journal before the last chunk is handed out. An exchange that is closed
before its end cancels the upstream first and remembers afterwards. Memory never takes a chat down.
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

from gateway import splice
from gateway.asking import refine
from gateway.config import RecallConfig
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Replayed, ReplyBody, read_error
from gateway.plugin_host import PluginHost, thaw
from gateway.recall.assemble import NO_BLOCK, NOTES, assemble
from gateway.recall.explain import Explanations
from gateway.recall.prefix import PrefixWatch
from gateway.recall.recall import Recall
from gateway.recall.sticky import Sticky, turn_keys, with_blocks
from gateway.recall.tokens import Tokenizer, encoding_of
from gateway.remember.remember import Remember
from gateway.telemetry import Telemetry, short_digest
from gateway.turn import Answer, Block, Identity, MemoryStatus, Outcome, Recalled, Turn
from gateway.upstream.asker import Asker
from gateway.upstream.forward import Forwarder, Route, Served
from gateway.upstream.recognise import recognised
from gateway.usage import Meter

__all__ = ["Pipeline"]

_log = logging.getLogger("gateway.turn")
_PLENTY = 2**31
_ERROR_READ = 4096  # bytes of an error in which its words are looked for
_MAX_BUDGET = 8192  # a larger one is counted against the window in any case
_BYTES_OF_A_TOKEN = 32  # more than a text's tokens have on average
_COUNTED_AT_ONCE = 4096  # bytes
_REFUSED = (400, 413, 422)
_FAILED = (500,)  # with this some servers say that a prompt is too long
# as OpenAI, Anthropic, Gemini, vLLM, llama.cpp, Ollama, SGLang, Mistral, Bedrock and Chinese providers say it
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
    """Joins the stages. Tasks that outlive a request (remembering after a hang-up, observers) are owned here."""

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
        """Everything before the first byte of the answer. Raises GatewayError; then nobody was answered."""
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
            turn, raw = await self._prompt(turn, route)
            if self.remember.is_late and turn.identity is not None and turn.mode.writes:
                turn = replace(turn, recalled=replace(turn.recalled, status=MemoryStatus.DEGRADED, reason="journal"))
            self.telemetry.bound("recalls", turn.status.value, turn.recalled.reason).inc()
            overhead = time.perf_counter() - turn.started
            self.telemetry.bound("stage", "overhead").observe(overhead)
            is_sent = True
            served, turn = await self._forward(turn, route, raw)
        except asyncio.CancelledError:
            self.afterwards(self._left(turn, route if is_sent else None))
            raise
        except Exception as error:
            self.afterwards(self._lost(turn, error))
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
            is_stand_in=upstream.kind == "offline",
            overhead=overhead,
        )

    def count(self, text: str) -> int:
        """Tokens of a text in the default encoding."""
        return self._tokenizer.count(text)

    def afterwards(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that a request's end must not cut off."""
        _ = self.owned(work)

    def owned(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """A task that lives on when its request is cancelled; `stop` waits for it."""
        task = asyncio.create_task(work, name="afterwards")
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)
        return task

    async def stop(self, timeout: float) -> None:
        """Wait for what still has to be remembered."""
        deadline = time.monotonic() + timeout
        while self._afterwards and (left := deadline - time.monotonic()) > 0:  # one thing brings the next
            await asyncio.wait(self._afterwards, timeout=left)

    async def _prompt(self, turn: Turn, route: Route) -> tuple[Turn, bytes]:
        raw = turn.raw
        identity = turn.identity
        if identity is not None and turn.mode.reads and not turn.ask.is_task:
            if self._placement(turn) == "sticky":
                turn, raw = await self._prompt_with_history(turn, identity, route)
            else:
                turn = await self._with_block(turn, route, raw)
                raw = self._placed(turn, raw)
            block = turn.block or NO_BLOCK
            self.telemetry.recalled_tokens.observe(block.tokens)
            content = "none" if not block.text else "memories" if len(block.ids) > block.standing else "standing"
            self.telemetry.bound("blocks", content).inc()
            kept = self._prefixes.share((identity.reads[0].value, identity.session_id), turn.raw, raw)
            if kept is not None:
                self.telemetry.prefix_kept.observe(kept)
        return turn, await self._changed_by_plugins(turn, raw)

    async def _prompt_with_history(self, turn: Turn, identity: Identity, route: Route) -> tuple[Turn, bytes]:
        """The block before what the user says now, and those of earlier messages where they stood before."""
        turns = turn.dialect.user_turns(turn.body)
        keys = turn_keys(turns)
        kept = await self._sticky.kept(identity)
        earlier = {key: said for key, said in zip(keys[:-1], turns[:-1], strict=True) if key in kept}  # each once
        raw = with_blocks(turn.raw, turn.dialect, [(said, kept[key].text) for key, said in earlier.items()])
        if await self._room(turn, route, raw) < 0:
            raw = turn.raw
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        # an opening without a name may be that of another conversation
        is_opening = len(keys) == 1 and not identity.is_session_named
        same = kept.get(keys[-1]) if keys and not is_opening else None
        if same is not None and same.tokens <= budget:
            recalled = Recalled(MemoryStatus.HIT, reason="kept")
            block = Block(same.text, (), same.tokens, tuple(same.memories))
            turn = replace(turn, recalled=recalled, block=block)
        else:
            shown = frozenset(id_ for key in keys if key in kept for id_ in kept[key].memories)
            turn = await self._with_block(turn, route, raw, shown)
            if keys and turn.block is not None and turn.block.text:
                await self._sticky.keep(identity, keys[-1], turn.block)
        return turn, self._placed(turn, raw)

    async def _with_block(self, turn: Turn, route: Route, raw: bytes, shown: frozenset[str] = frozenset()) -> Turn:
        """What is recalled for a turn, as it will stand in the prompt; `shown` stands there already."""
        found = recalled = await self._recalled(turn)
        if self.plugins.has("on_recall"):
            memories = await self.plugins.on_recall(turn, found.memories)
            recalled = replace(found, memories=tuple(memories))
        if shown:
            left = tuple(memory for memory in recalled.memories if memory.record.id not in shown)
            recalled = replace(recalled, memories=left)
        began = time.perf_counter()
        turn = await self._assembled(replace(turn, recalled=recalled), route, found, raw)
        self.telemetry.bound("stage", "assemble").observe(time.perf_counter() - began)
        return turn

    def _placement(self, turn: Turn) -> str:
        return turn.dialect.placement or self._config.placement

    def _placed(self, turn: Turn, raw: bytes) -> bytes:
        dialect, block = turn.dialect, turn.block
        if block is None or not block.text:
            return raw
        if self._placement(turn) == "system":
            return dialect.put_into_system(raw, turn.body, block.text)
        return raw if turn.ask.place is None else dialect.put(raw, turn.ask.place, block.text)

    async def _recalled(self, turn: Turn) -> Recalled:
        """What a face found already, else what recall finds; as a model picks it, where that is asked for."""
        if turn.recalled.status is not MemoryStatus.OFF:
            return turn.recalled
        recalled = await self.recall.recall(turn)
        if turn.wanted.is_fine:
            memories = await refine(self._asker, turn.ask.query, recalled.memories, self._fine_timeout)
            recalled = replace(recalled, memories=memories)
        return recalled

    async def _assembled(self, turn: Turn, route: Route, found: Recalled, raw: bytes) -> Turn:
        """The turn with its block, and how it came about."""
        memories = turn.recalled.memories
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        most = self._config.top_k if turn.wanted.text is None else len(memories)
        said = frozenset[str]()
        block = NO_BLOCK
        if memories or turn.recalled.profile:
            encoding = route.upstream.config.encoding or encoding_of(route.model)
            budget, said = min(budget, await self._room(turn, route, raw)), turn.dialect.said(turn.body)
            layout = turn.dialect.layout or NOTES
            block = assemble(
                memories,
                budget,
                partial(self._tokenizer.count, encoding=encoding),
                said,
                most,
                layout=layout,
                profile=turn.recalled.profile,
                profile_budget=self._config.profile_budget,
            )
        turn = replace(turn, block=block)
        self.explanations.keep(turn, found, budget=budget, most=most, said=said)
        return turn

    async def _room(self, turn: Turn, route: Route, raw: bytes) -> int:
        """Tokens that the model's context window leaves beside a request; many where it is not known. A long request is
        counted in a thread."""
        window = route.upstream.config.context_window
        if window is None:
            return _PLENTY
        room = window - turn.ask.max_tokens - 64
        if len(raw) + _MAX_BUDGET <= room:  # a token is a byte at least: only else is counting worth it
            return _PLENTY
        encoding = route.upstream.config.encoding or encoding_of(route.model)
        if len(raw) > _BYTES_OF_A_TOKEN * max(room, 0):
            return 0
        text = raw.decode("utf-8", "replace")
        count = partial(self._tokenizer.count, text, encoding)
        return room - (await asyncio.to_thread(count) if len(raw) > _COUNTED_AT_ONCE else count())

    async def _changed_by_plugins(self, turn: Turn, raw: bytes) -> bytes:
        if not self.plugins.has("on_messages"):
            return raw
        span = splice.find(raw, (turn.dialect.messages_field,))
        if span is None:
            return raw
        messages = orjson.loads(raw[span[0] : span[1]])
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        changed = await self.plugins.on_messages(turn, messages)
        return raw if changed is None else splice.replace(raw, span, orjson.dumps(list(changed), default=thaw))

    async def _forward(self, turn: Turn, route: Route, raw: bytes) -> tuple[Served, Turn]:
        """The answer, and the turn as it was answered: without its block where the prompt was too long with it."""
        served, has_block = await self._send(turn, route, raw), True
        if raw is not turn.raw and turn.block is not None and turn.block.text:
            served, is_refused = await self._looked_at(served, has_block=True)
            if is_refused:
                _log.info("retried_without_memory", extra={"turn": turn.id})
                served.incoming.close()
                bare = await self._changed_by_plugins(turn, turn.raw)
                # another body: under the same key an upstream may refuse it
                others = {name: value for name, value in turn.headers.items() if name.lower() != "idempotency-key"}
                again = replace(turn, headers=others)
                served, has_block = await self._send(again, route.only(served.upstream.name), bare), False
        roomier = route.roomier(served.target)
        if roomier is not None:
            served, is_too_long = await self._looked_at(served)
            if is_too_long:
                _log.info("sent_where_there_is_room", extra={"turn": turn.id, "upstream": roomier.upstream.name})
                served.incoming.close()
                served, has_block = await self._send(turn, roomier, raw), True
        return served, turn if has_block else await self._withheld(turn)

    async def _withheld(self, turn: Turn) -> Turn:
        """A turn whose block did not reach the model; nothing says afterwards that it did."""
        turns = turn.dialect.user_turns(turn.body)
        if turn.identity is not None and turns and self._placement(turn) == "sticky":
            await self._sticky.discard(turn.identity, turn_keys(turns)[-1])
        self.explanations.withhold(turn.id)
        return replace(turn, recalled=Recalled(MemoryStatus.DEGRADED, reason="context"), block=NO_BLOCK)

    async def _looked_at(self, served: Served, *, has_block: bool = False) -> tuple[Served, bool]:
        """The same answer, still whole, and whether it says that the prompt is too long for the model. With a block of
        ours any refusal may mean that: each server has words of its own."""
        status = served.incoming.status
        if status not in _REFUSED and status not in _FAILED:
            return served, False
        try:
            body = await read_error(served.incoming)
        except BaseException:
            served.incoming.close()  # nobody else will
            raise
        is_too_long = (has_block and status in _REFUSED) or _TOO_LONG.search(_error_text(body)) is not None
        return replace(served, incoming=Replayed(served.incoming, body)), is_too_long

    async def _send(self, turn: Turn, route: Route, raw: bytes) -> Served:
        served = await self.forwarder.send_chat(
            route, path=turn.path, query_string=turn.query_string, client_headers=turn.headers, raw=raw
        )
        return replace(served, incoming=await recognised(served.incoming)) if turn.ask.stream else served

    async def _left(self, turn: Turn, route: Route | None) -> None:
        """The client is gone before an answer began; `route`: the model has read the prompt, perhaps."""
        answer = Answer(None, outcome=Outcome.CLIENT_GONE)
        await self.remember.remember(turn, answer)
        if route is not None:
            counted = await self.meter.counted(turn, answer)
            answer = self.meter.note(turn, counted, upstream=route.upstream.config.name, model=route.model)
        await self.plugins.on_response(turn, answer)
        self.log(turn, Outcome.CLIENT_GONE, 0, "")

    async def _lost(self, turn: Turn, error: Exception) -> None:
        if isinstance(error, GatewayError) and error.status >= 500:
            await self.remember.remember(turn, Answer(None, outcome=Outcome.CUT))
        await self.plugins.on_error(turn, error)
        self.log(turn, Outcome.REFUSED, getattr(error, "status", 500), "")

    def log(self, turn: Turn, outcome: Outcome, status: int, upstream: str) -> None:
        """The one line of a turn."""
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
    """The beginning of an error, its escapes undone where it is JSON."""
    with contextlib.suppress(orjson.JSONDecodeError):
        body = orjson.dumps(orjson.loads(body))
    return body[:_ERROR_READ].decode("utf-8", "replace")
