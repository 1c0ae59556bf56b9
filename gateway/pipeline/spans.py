"""The spans of turns: their attributes by the GenAI conventions of OpenTelemetry, and by names of the gateway's own.

Without opting in they contain no text of a user, an answer or a memory, and ids of users and conversations only as
digests. Texts are redacted by the store hooks of plugins, as those of memories are, and cut.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from gateway.config import UpstreamConfig
from gateway.errors import GatewayError
from gateway.formats.base import Answer, Outcome
from gateway.memory.recalled import Recalled
from gateway.memory.record import Record
from gateway.pipeline.turn_end import TurnEnd
from gateway.telemetry import short_digest
from gateway.turn import Turn

if TYPE_CHECKING:
    from gateway.tracing.otel import Tracing

__all__ = ["TurnSpans", "describe_search"]

_log = logging.getLogger("gateway.tracing")
_MAX_NAME = 100  # characters of a model's name
_MAX_MODELS = 100  # names of models in metrics; others are `other`
_MAX_TEXT = 8192  # characters of a text that are exported
_MAX_REDACTED_TEXT = 65_536  # characters of a text that are redacted; the rest is left out
_MAX_TEXTS = 20  # messages, and memories
_SEARCH, _OWN = "search_memory", "memory_gateway."
_PROVIDERS: Final = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
}
"""Hosts, or the ends of their names, and `gen_ai.provider.name`."""

_Attributes = dict[str, Any]
Redact = Callable[[Turn, Sequence[Record]], Awaitable[Sequence[Record]]]
"""The records as the plugins' store hook changes them. Raises PluginUnavailable."""


class TurnSpans:
    """Begins and ends the trace of each turn. `redact`: texts are exported, as it changes them; None: no texts."""

    def __init__(self, tracing: "Tracing", upstreams: Sequence[UpstreamConfig], redact: Redact | None) -> None:
        self._tracing = tracing
        self._servers = {upstream.name: _describe_server(upstream) for upstream in upstreams}
        self._redact = redact
        self._models: set[str] = set()

    @property
    def has_content(self) -> bool:
        """True if texts are exported, which takes time."""
        return self._redact is not None

    def begin(self, turn: Turn) -> Turn:
        """The turn with a new trace, whose parent is the client's span. Never raises."""
        try:
            return replace(turn, trace=self._tracing.begin("chat", turn.started, turn.headers))
        except Exception:  # noqa: BLE001 — a fault of tracing must not fail a chat; it is logged whole
            _log.exception("trace_failed")
            return turn

    async def end(self, turn: Turn, answer: Answer, end: TurnEnd) -> None:
        """End the trace of a turn, with its texts if they are exported. Never raises."""
        texts: dict[str, _Attributes] = {}
        try:
            if self._redact is not None and turn.trace is not None and turn.trace.is_recorded:
                texts = await self._describe_texts(turn, answer, self._redact)
        except Exception:  # noqa: BLE001 — without texts, then: nothing is exported that was not redacted
            _log.exception("trace_content_failed")
        self.end_at_once(turn, answer, end, texts)

    def end_at_once(
        self, turn: Turn, answer: Answer, end: TurnEnd, texts: Mapping[str, _Attributes] | None = None
    ) -> None:
        """End the trace of a turn. Never raises."""
        trace = turn.trace
        if trace is None:
            return
        try:
            model = turn.ask.model[:_MAX_NAME]
            base = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
            if end.model:
                base["gen_ai.response.model"] = end.model[:_MAX_NAME]
            base |= self._servers.get(end.upstream, {})
            error = _error_type(answer, end)
            if trace.is_recorded:
                attributes = base | _describe_turn(turn) | _describe_end(answer, end) | _first_chunk(turn)
                name = f"chat {model}" if model else "chat"
                trace.finish(name, end.ended, attributes | (texts or {}).get("chat", {}), error=error, more=texts)
            if trace.sent_at is not None and not answer.is_reply:
                self._record_metrics(turn, answer, end, base | ({"error.type": error} if error else {}))
        except Exception:  # noqa: BLE001 — a fault of tracing must not fail a chat; it is logged whole
            _log.exception("trace_failed")

    def _record_metrics(self, turn: Turn, answer: Answer, end: TurnEnd, attributes: _Attributes) -> None:
        trace = turn.trace
        assert trace is not None and trace.sent_at is not None  # noqa: S101, PT018 — the caller has asked
        for name in ("gen_ai.request.model", "gen_ai.response.model"):
            if name in attributes:
                attributes[name] = self._limit(attributes[name])
        first = None if trace.first_chunk_at is None else trace.first_chunk_at - trace.sent_at
        tokens = {"input": answer.prompt_tokens, "output": answer.completion_tokens}
        self._tracing.record(attributes, end.ended - trace.sent_at, first, tokens)

    def _limit(self, model: str) -> str:
        """The name of a model in metrics: a client can name any."""
        if model not in self._models:
            if len(self._models) >= _MAX_MODELS:
                return "other"
            self._models.add(model)
        return model

    async def _describe_texts(self, turn: Turn, answer: Answer, redact: Redact) -> dict[str, _Attributes]:
        """_Attributes with redacted texts, by the name of their span."""
        records = {f"user {number}": text for number, text in enumerate(turn.ask.messages[-_MAX_TEXTS:])}
        if answer.text:
            records["answer"] = answer.text
        memories = turn.block.memories[:_MAX_TEXTS] if turn.block else ()
        texts = [_as_record(turn, name, text) for name, text in records.items()]
        texts += [replace(memory.record, text=memory.record.text[:_MAX_REDACTED_TEXT]) for memory in memories]
        redacted = {record.id: record.text[:_MAX_TEXT] for record in await redact(turn, texts)}
        chat: _Attributes = {}
        messages = [_message("user", redacted[name]) for name in records if name != "answer" and name in redacted]
        if messages:
            chat["gen_ai.input.messages"] = orjson.dumps(messages).decode()
        if "answer" in redacted:
            output = {**_message("assistant", redacted["answer"]), "finish_reason": answer.finish_reason or "unknown"}
            chat["gen_ai.output.messages"] = orjson.dumps([output]).decode()
        shown = [
            {"id": memory.record.id, "score": memory.relativity, "content": redacted[memory.record.id]}
            for memory in memories
            if memory.record.id in redacted
        ]
        return {"chat": chat, _SEARCH: {"gen_ai.memory.records": orjson.dumps(shown).decode()} if shown else {}}


def describe_search(turn: Turn, recalled: Recalled, seconds_left: float) -> _Attributes:
    """The attributes of a search for memories; the turn has its block."""
    block = turn.block
    return {
        "gen_ai.operation.name": _SEARCH,
        "gen_ai.memory.record.count": len(recalled.memories) + len(recalled.profile),
        f"{_OWN}memory.status": str(recalled.status),
        f"{_OWN}memory.reason": recalled.reason,
        f"{_OWN}memory.injected": len(block.memories) if block else 0,
        f"{_OWN}memory.tokens": block.tokens if block else 0,
        f"{_OWN}memory.deadline_left_ms": round(seconds_left * 1000, 3),
    }


def _describe_turn(turn: Turn) -> _Attributes:
    attributes: _Attributes = {
        "gen_ai.request.stream": turn.ask.stream,
        "url.path": turn.path,
        f"{_OWN}turn.id": turn.id,
        f"{_OWN}tenant": turn.principal.tenant,
        f"{_OWN}key": turn.principal.name,
        f"{_OWN}memory.mode": str(turn.mode),
        f"{_OWN}memory.status": str(turn.status),
        f"{_OWN}memory.reason": turn.recalled.reason,
        f"{_OWN}memory.injected": len(turn.block.ids) if turn.block else 0,
        f"{_OWN}memory.tokens": turn.block.tokens if turn.block else 0,
    }
    if turn.user:
        attributes["enduser.pseudo.id"] = short_digest(turn.user)
    if turn.identity is not None:
        attributes["gen_ai.conversation.id"] = short_digest(turn.identity.session_id)
    if turn.ask.max_tokens:
        attributes["gen_ai.request.max_tokens"] = turn.ask.max_tokens
    return attributes


def _describe_end(answer: Answer, end: TurnEnd) -> _Attributes:
    finish_reason = answer.finish_reason
    values: _Attributes = {
        "gen_ai.response.id": answer.id and answer.id[:_MAX_NAME],
        "gen_ai.response.finish_reasons": finish_reason and [finish_reason[:_MAX_NAME]],
        "gen_ai.usage.input_tokens": answer.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": answer.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": answer.written_tokens,
        "http.response.status_code": end.status or None,
        f"{_OWN}outcome": str(answer.outcome),
        f"{_OWN}upstream": end.upstream or None,
        f"{_OWN}attempts": end.attempts or None,
        f"{_OWN}estimated_tokens": answer.estimated_tokens or None,
        f"{_OWN}cost_dollars": answer.cost,
    }
    return {name: value for name, value in values.items() if value is not None}


def _first_chunk(turn: Turn) -> _Attributes:
    trace = turn.trace
    if trace is None or trace.sent_at is None or trace.first_chunk_at is None:
        return {}
    return {"gen_ai.response.time_to_first_chunk": trace.first_chunk_at - trace.sent_at}


def _error_type(answer: Answer, end: TurnEnd) -> str:
    """The `error.type` of a turn; a client that disconnects makes no error."""
    if end.error is not None:
        return (isinstance(end.error, GatewayError) and end.error.code) or type(end.error).__name__
    if end.status >= 400:
        return str(end.status)
    return "stream_interrupted" if answer.outcome is Outcome.CUT else ""


def _describe_server(upstream: UpstreamConfig) -> _Attributes:
    """The provider and the address of an upstream."""
    address = urlsplit(upstream.base_url)
    host = address.hostname or ""
    known = (name for end, name in _PROVIDERS.items() if host == end or host.endswith(f".{end}"))
    provider = next(known, None) or upstream.provider or ("" if upstream.kind == "openai" else upstream.kind)
    attributes: _Attributes = {"gen_ai.provider.name": provider or upstream.name}
    if host:
        attributes["server.address"] = host
        attributes["server.port"] = address.port or (443 if address.scheme == "https" else 80)
    return attributes


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _as_record(turn: Turn, name: str, text: str) -> Record:
    """A text of a turn in the form that store hooks take."""
    now = time.time()
    scope = turn.identity.writes[0] if turn.identity is not None and turn.identity.writes else None
    return Record(
        id=name,
        scope=scope.value if scope else "",
        cube_id=scope.cube_id if scope else "",
        user_id=turn.user,
        session_id=turn.identity.session_id if turn.identity else "",
        kind="turn",
        source="assistant" if name == "answer" else "user",
        text=text[:_MAX_REDACTED_TEXT],
        event_time=now,
        created_at=now,
        updated_at=now,
    )
