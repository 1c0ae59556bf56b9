"""What is done when a turn ends: remember it, count its usage, list it, notify plugins, write its log line."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from gateway.errors import GatewayError
from gateway.formats.base import Answer, Outcome
from gateway.pipeline.background import BackgroundTasks
from gateway.pipeline.spans import TurnSpans
from gateway.pipeline.turn_end import TurnEnd
from gateway.pipeline.turn_log import TurnLog
from gateway.plugin_host import PluginHost
from gateway.remember.remember import Remember
from gateway.telemetry import Telemetry, log_event, short_digest
from gateway.turn import Turn
from gateway.usage.meter import Meter

__all__ = ["UNTIMED", "AnswerOrigin", "AnswerSource", "Timing", "TurnRecorder"]

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


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a turn: in the gateway before the request was sent, and at the upstream until the answer began; None
    if it was not reached."""

    overhead: float | None = None
    first_byte: float | None = None


UNTIMED: Final = Timing()


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
        turns: TurnLog,
        spans: TurnSpans | None = None,
    ) -> None:
        self.plugins = plugins
        self.spans = spans
        self.telemetry = telemetry
        self.tasks = tasks
        self._remember = remember
        self._meter = meter
        self._turns = turns

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
        self,
        turn: Turn,
        answer: Answer,
        source: AnswerSource,
        *,
        status: int,
        timing: Timing = UNTIMED,
        error: BaseException | None = None,
    ) -> None:
        """Count, list and log a turn whose answer has ended, and notify plugins in the background."""
        end = _end_of(source, status, timing, error)
        for kind, count in (("prompt", answer.prompt_tokens), ("completion", answer.completion_tokens)):
            if count and not answer.is_reply:
                self.telemetry.bound("tokens", source.upstream, kind).inc(count)
        self._write_log(turn, answer.outcome, end)
        has_content = self.spans is not None and self.spans.has_content
        has_observers = self.plugins.has("on_response" if error is None else "on_error")
        if has_content or has_observers or (source.is_metered and not self._meter.is_counted(answer)):
            self.tasks.run(self._notify_observers(turn, answer, source, end))
            return
        if source.is_metered:
            answer = self._meter.note(turn, answer, upstream=source.upstream, model=source.model)
        self._turns.add(turn, answer, end)
        if self.spans is not None:
            self.spans.end_at_once(turn, answer, end)

    def record_hang_up(
        self, turn: Turn, answer: Answer, source: AnswerSource, *, status: int, timing: Timing = UNTIMED
    ) -> None:
        """Record, in the background, a turn whose client disconnected in the middle of `answer`."""
        self.tasks.run(self._record_hang_up(turn, answer, source, status, timing))

    def record_early_hang_up(self, turn: Turn, source: AnswerSource | None) -> None:
        """Record, in the background, a turn whose client disconnected before the answer began. `source`: the one that
        was asked, None if the request was not sent."""
        self.tasks.run(self._record_early_hang_up(turn, source, _end_of(source, 0)))

    def record_failure(self, turn: Turn, error: Exception, source: AnswerSource | None = None) -> None:
        """Record, in the background, a turn without an answer. `source`: the only one that was asked, if known."""
        end = _end_of(source, getattr(error, "status", 500), error=error)
        self.tasks.run(self._record_failure(turn, error, end))

    async def _notify_observers(self, turn: Turn, answer: Answer, source: AnswerSource, end: TurnEnd) -> None:
        if source.is_metered:
            answer = await self._count(turn, answer, source)
        self._turns.add(turn, answer, end)
        await self._end_trace(turn, answer, end)
        if end.error is None:
            await self.plugins.on_response(turn, answer)
        else:
            await self.plugins.on_error(replace(turn, answer=answer), end.error)

    async def _end_trace(self, turn: Turn, answer: Answer, end: TurnEnd) -> None:
        if self.spans is not None:
            await self.spans.end(turn, answer, end)

    async def _count(self, turn: Turn, answer: Answer, source: AnswerSource) -> Answer:
        """Record the usage of an answer, also if the upstream did not report it; return the answer with its cost."""
        counted = await self._meter.counted(turn, answer)
        return self._meter.note(turn, counted, upstream=source.upstream, model=source.model)

    async def _record_hang_up(
        self, turn: Turn, answer: Answer, source: AnswerSource, status: int, timing: Timing
    ) -> None:
        await self._remember.remember(turn, Answer(None, outcome=answer.outcome))  # without the partial answer
        self.report(turn, answer, source, status=status, timing=timing)

    async def _record_early_hang_up(self, turn: Turn, source: AnswerSource | None, end: TurnEnd) -> None:
        answer = Answer(None, outcome=Outcome.CLIENT_GONE)
        await self._remember.remember(turn, answer)
        if source is not None:
            answer = await self._count(turn, answer, source)
        self._turns.add(turn, answer, end)
        await self._end_trace(turn, answer, end)
        await self.plugins.on_response(turn, answer)
        self._write_log(turn, Outcome.CLIENT_GONE, replace(end, upstream=""))

    async def _record_failure(self, turn: Turn, error: Exception, end: TurnEnd) -> None:
        self._turns.add(turn, Answer(None, outcome=Outcome.REFUSED), end)
        if isinstance(error, GatewayError) and error.status >= 500:
            await self._remember.remember(turn, Answer(None, outcome=Outcome.CUT))
        await self._end_trace(turn, Answer(None, outcome=Outcome.REFUSED), end)
        await self.plugins.on_error(turn, error)
        self._write_log(turn, Outcome.REFUSED, replace(end, upstream=""))

    def _write_log(self, turn: Turn, outcome: Outcome, end: TurnEnd) -> None:
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
                "upstream": end.upstream,
                "status": end.status,
                "outcome": str(outcome),
                "memory": str(turn.status),
                "memories": len(turn.block.memories) if turn.block else 0,
                "tokens": turn.block.tokens if turn.block else 0,
                "ms": round((time.perf_counter() - turn.started) * 1000, 1),
            },
        )


def _end_of(
    source: AnswerSource | None, status: int, timing: Timing = UNTIMED, error: BaseException | None = None
) -> TurnEnd:
    """The end of a turn that ends now."""
    return TurnEnd(
        status=status,
        ended=time.perf_counter(),
        upstream="" if source is None else source.upstream,
        model="" if source is None else source.model,
        attempts=0 if source is None else source.attempts,
        overhead=timing.overhead,
        first_byte=timing.first_byte,
        error=error,
    )
