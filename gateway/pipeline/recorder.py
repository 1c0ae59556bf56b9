"""What is done when a turn ends: remember it, count its usage, notify plugins, write its log line."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from enum import Enum

from gateway.errors import GatewayError
from gateway.formats.base import Answer, Outcome
from gateway.pipeline.background import BackgroundTasks
from gateway.pipeline.spans import TurnEnd, TurnSpans
from gateway.plugin_host import PluginHost
from gateway.remember.remember import Remember
from gateway.telemetry import Telemetry, log_event, short_digest
from gateway.turn import Turn
from gateway.usage.meter import Meter

__all__ = ["AnswerOrigin", "AnswerSource", "TurnRecorder"]

_log = logging.getLogger("gateway.turn")


class AnswerOrigin(Enum):
    """The origin of an answer: a model, the offline stand-in, whose text is not remembered, or a plugin, whose answer
    costs nothing."""

    MODEL = "model"
    STAND_IN = "stand_in"
    PLUGIN = "plugin"


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """The source of an answer: its origin, the name of the upstream, the model's name there, and the number of
    attempts. A plugin's answer has neither model nor attempts."""

    origin: AnswerOrigin
    upstream: str
    model: str = ""
    attempts: int = 0

    @property
    def is_metered(self) -> bool:
        """True if usage is counted: a model answered, and it is known which."""
        return not self.is_plugin and bool(self.model)

    @property
    def is_plugin(self) -> bool:
        return self.origin is AnswerOrigin.PLUGIN


class TurnRecorder:
    """Records turns at their end, also if the client disconnects meanwhile. `spans`: if turns are traced."""

    def __init__(
        self,
        *,
        remember: Remember,
        meter: Meter,
        plugins: PluginHost,
        telemetry: Telemetry,
        tasks: BackgroundTasks,
        spans: TurnSpans | None = None,
    ) -> None:
        self.plugins = plugins
        self.spans = spans
        self.telemetry = telemetry
        self.tasks = tasks
        self._remember = remember
        self._meter = meter

    @property
    def is_late(self) -> bool:
        """True if turns cannot be written in time now."""
        return self._remember.is_late

    @property
    def has_observers(self) -> bool:
        """True if a plugin is told of turns that have ended."""
        return self.plugins.has("on_response") or self.plugins.has("on_error")

    async def remember(self, turn: Turn, answer: Answer, source: AnswerSource) -> bool:
        """Write a turn to the journal, also if the caller is cancelled meanwhile. False if that failed."""
        if source.origin is AnswerOrigin.STAND_IN:
            answer = replace(answer, text=None)
        # shielded: a client that disconnects now has its answer, and its turn must still be remembered
        return await asyncio.shield(self.tasks.start(self._remember.remember(turn, answer)))

    def report(
        self, turn: Turn, answer: Answer, source: AnswerSource, *, status: int, error: BaseException | None = None
    ) -> None:
        """Count and log a turn whose answer has ended, and notify plugins in the background."""
        for kind, count in (("prompt", answer.prompt_tokens), ("completion", answer.completion_tokens)):
            if count and not answer.is_reply:
                self.telemetry.bound("tokens", source.upstream, kind).inc(count)
        self._write_log(turn, answer.outcome, status, source.upstream)
        is_later = self.plugins.has("on_response" if error is None else "on_error")
        is_later = is_later or (source.is_metered and not self._meter.is_counted(answer))
        end = None
        if self.spans is not None:
            end = _end_of(source, status, error)
            is_later = is_later or self.spans.has_content
        if is_later:
            self.tasks.run(self._notify_observers(turn, answer, source, error, end=end))
            return
        if source.is_metered:
            answer = self._meter.note(turn, answer, upstream=source.upstream, model=source.model)
        if self.spans is not None and end is not None:
            self.spans.end_at_once(turn, answer, end)

    def record_hang_up(self, turn: Turn, answer: Answer, source: AnswerSource, *, status: int) -> None:
        """Record, in the background, a turn whose client disconnected in the middle of `answer`."""
        self.tasks.run(self._record_hang_up(turn, answer, source, status))

    def record_early_hang_up(self, turn: Turn, source: AnswerSource | None) -> None:
        """Record, in the background, a turn whose client disconnected before the answer began. `source`: the one that
        was asked, None if the request was not sent."""
        self.tasks.run(self._record_early_hang_up(turn, source, _end_of(source, 0)))

    def record_failure(self, turn: Turn, error: Exception, source: AnswerSource | None = None) -> None:
        """Record, in the background, a turn without an answer. `source`: the only one that was asked, if known."""
        self.tasks.run(self._record_failure(turn, error, _end_of(source, getattr(error, "status", 500), error)))

    async def _notify_observers(
        self,
        turn: Turn,
        answer: Answer,
        source: AnswerSource,
        error: BaseException | None,
        *,
        end: TurnEnd | None,
    ) -> None:
        if source.is_metered:
            answer = await self._count(turn, answer, source)
        await self._end_trace(turn, answer, end)
        if error is None:
            await self.plugins.on_response(turn, answer)
        else:
            await self.plugins.on_error(replace(turn, answer=answer), error)

    async def _end_trace(self, turn: Turn, answer: Answer, end: TurnEnd | None) -> None:
        if self.spans is not None and end is not None:
            await self.spans.end(turn, answer, end)

    async def _count(self, turn: Turn, answer: Answer, source: AnswerSource) -> Answer:
        """Record the usage of an answer, also if the upstream did not report it; return the answer with its cost."""
        counted = await self._meter.counted(turn, answer)
        return self._meter.note(turn, counted, upstream=source.upstream, model=source.model)

    async def _record_hang_up(self, turn: Turn, answer: Answer, source: AnswerSource, status: int) -> None:
        await self._remember.remember(turn, Answer(None, outcome=answer.outcome))  # without the partial answer
        self.report(turn, answer, source, status=status)

    async def _record_early_hang_up(self, turn: Turn, source: AnswerSource | None, end: TurnEnd) -> None:
        answer = Answer(None, outcome=Outcome.CLIENT_GONE)
        await self._remember.remember(turn, answer)
        if source is not None:
            answer = await self._count(turn, answer, source)
        await self._end_trace(turn, answer, end)
        await self.plugins.on_response(turn, answer)
        self._write_log(turn, Outcome.CLIENT_GONE, 0, "")

    async def _record_failure(self, turn: Turn, error: Exception, end: TurnEnd) -> None:
        if isinstance(error, GatewayError) and error.status >= 500:
            await self._remember.remember(turn, Answer(None, outcome=Outcome.CUT))
        await self._end_trace(turn, Answer(None, outcome=Outcome.REFUSED), end)
        await self.plugins.on_error(turn, error)
        self._write_log(turn, Outcome.REFUSED, getattr(error, "status", 500), "")

    def _write_log(self, turn: Turn, outcome: Outcome, status: int, upstream: str) -> None:
        """Count the outcome of a turn, and write its log line."""
        self.telemetry.bound("outcomes", str(outcome)).inc()
        if not _log.isEnabledFor(logging.INFO):
            return
        log_event(
            _log,
            "turn",
            {
                "turn": turn.id,
                "tenant": turn.principal.tenant,
                "user": short_digest(turn.identity.user_id) if turn.identity else None,
                "upstream": upstream,
                "status": status,
                "outcome": str(outcome),
                "memory": str(turn.status),
                "memories": len(turn.block.memories) if turn.block else 0,
                "tokens": turn.block.tokens if turn.block else 0,
                "ms": round((time.perf_counter() - turn.started) * 1000, 1),
            },
        )


def _end_of(source: AnswerSource | None, status: int, error: BaseException | None = None) -> TurnEnd:
    """The end of a turn, now."""
    ended = time.perf_counter()
    if source is None:
        return TurnEnd(status=status, ended=ended, error=error)
    return TurnEnd(
        status=status,
        ended=ended,
        upstream=source.upstream,
        model=source.model,
        attempts=source.attempts,
        error=error,
    )
