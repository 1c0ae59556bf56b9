"""The stages of a request: recall → assemble → forward → stream → remember.

`Pipeline.open` runs the stages before the first byte and returns a `TurnResponse`; its consumer writes the chunks to
the client as they arrive. The turn is in the journal before the last chunk is handed out. A response that is closed
before its end cancels the upstream first and remembers afterwards. A failure of memory never fails a chat.
"""

import asyncio
import contextlib
import logging
import re
import time
from dataclasses import replace

import orjson

from gateway.hooks import Reply
from gateway.memory.recalled import MemoryStatus
from gateway.pipeline.prompt import PromptBuilder
from gateway.pipeline.recorder import AnswerOrigin, AnswerSource, Timing, TurnRecorder
from gateway.pipeline.response import ReplyBody, TurnResponse
from gateway.turn import Turn
from gateway.upstream.forward import Forwarder, Route, UpstreamAnswer
from gateway.upstream.replay import Replayed, read_error
from gateway.upstream.sniff import recognised

__all__ = ["Pipeline"]

_log = logging.getLogger("gateway.turn")
_MAX_ERROR_TEXT = 4096  # bytes of an error body that are searched for the pattern
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
    """Runs the stages of a turn."""

    def __init__(self, prompts: PromptBuilder, forwarder: Forwarder, recorder: TurnRecorder) -> None:
        self.forwarder = forwarder
        self._prompts = prompts
        self._recorder = recorder

    async def open(self, turn: Turn) -> TurnResponse:
        """Run all stages before the first byte of the answer. Raises GatewayError if there is no answer to send."""
        recorder = self._recorder
        route: Route | None = None
        is_sent = False
        if recorder.spans is not None:
            turn = recorder.spans.begin(turn)
        try:
            turn, reply = await recorder.plugins.on_request(turn)
            if reply is not None:
                return self._reply(turn, reply)
            route = self.forwarder.route(turn.ask.model)
            if turn.ask.upstream:
                route = route.only(turn.ask.upstream)
            turn, raw = await self._prompts.build(turn, route)
            if recorder.is_late and turn.identity is not None and turn.mode.writes:
                turn = replace(turn, recalled=replace(turn.recalled, status=MemoryStatus.DEGRADED, reason="journal"))
            recorder.telemetry.bound("recalls", str(turn.status), turn.recalled.reason).inc()
            overhead = time.perf_counter() - turn.started
            recorder.telemetry.bound("stage", "overhead").observe(overhead)
            is_sent = True
            served, turn = await self._forward(turn, route, raw)
        except asyncio.CancelledError:
            recorder.record_early_hang_up(turn, _source_of(route) if route is not None and is_sent else None)
            raise
        except Exception as error:
            is_only = is_sent and route is not None and len(route.targets) == 1
            recorder.record_failure(turn, error, _source_of(route) if route is not None and is_only else None)
            raise
        timing = Timing(overhead, time.perf_counter() - turn.started - overhead)
        source = _source_of(served, served.attempts)
        secrets = self.forwarder.secrets(served.upstream)
        return TurnResponse(turn, served.incoming, source, recorder, secrets=secrets, timing=timing)

    def _reply(self, turn: Turn, reply: Reply) -> TurnResponse:
        """The response with a plugin's reply."""
        source = AnswerSource(AnswerOrigin.PLUGIN, "plugin")
        response = TurnResponse(turn, ReplyBody(reply), source, self._recorder)
        response.headers |= {name.lower(): value for name, value in reply.headers.items()}
        return response

    async def _forward(self, turn: Turn, route: Route, raw: bytes) -> tuple[UpstreamAnswer, Turn]:
        """Send the prompt; if it is too long, retry without the block, or with a larger context window."""
        served, bare = await self._send(turn, route, raw), None
        if raw is not turn.raw and turn.block is not None and turn.block.text:
            served, is_refused = await self._inspect_refusal(served, has_block=True)
            if is_refused:
                _log.info("retried_without_memory", extra={"turn": turn.id})
                served.incoming.close()
                bare = await self._prompts.apply_hooks(turn, turn.raw)
                # an upstream may refuse another body under the same idempotency key
                headers = {name: value for name, value in turn.headers.items() if name.lower() != "idempotency-key"}
                bare_turn = replace(turn, headers=headers)
                served = await self._send(bare_turn, route.only(served.upstream.name), bare)
        roomier = route.roomier(served.target)
        if roomier is not None:
            served, is_too_long = await self._inspect_refusal(served)
            if is_too_long:
                _log.info("context_overflow_rerouted", extra={"turn": turn.id, "upstream": roomier.upstream.name})
                served.incoming.close()
                served, bare = await self._send(turn, roomier, raw), None
        return served, turn if bare is None else await self._prompts.withdraw_block(turn, bare)

    async def _inspect_refusal(self, served: UpstreamAnswer, *, has_block: bool = False) -> tuple[UpstreamAnswer, bool]:
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

    async def _send(self, turn: Turn, route: Route, raw: bytes) -> UpstreamAnswer:
        if turn.trace is not None:
            turn.trace.note_sent()
        served = await self.forwarder.send_chat(
            route,
            path=turn.path,
            query_string=turn.query_string,
            client_headers=turn.headers,
            raw=raw,
            trace=turn.trace,
        )
        return replace(served, incoming=await recognised(served.incoming)) if turn.ask.stream else served


def _source_of(target: Route | UpstreamAnswer, attempts: int = 0) -> AnswerSource:
    """The source of the answer of a route's first target, or of the target that answered."""
    upstream = target.upstream.config
    origin = AnswerOrigin.MODEL if upstream.rules.is_language_model else AnswerOrigin.STAND_IN
    model = target.model if isinstance(target, Route) else target.target.model
    return AnswerSource(origin, upstream.name, model, attempts)


def _error_text(body: bytes) -> str:
    """The beginning of an error body, with JSON escapes decoded."""
    with contextlib.suppress(orjson.JSONDecodeError):
        body = orjson.dumps(orjson.loads(body))
    return body[:_MAX_ERROR_TEXT].decode("utf-8", "replace")
