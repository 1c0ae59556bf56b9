"""Background worker that extracts facts, preferences, tool notes and skills from conversations with a model.

It follows the journal and is independent of everything else: no chat waits for it, and an outage of the model loses
only extracted memories. A conversation is processed when it is idle, or has enough new messages, one window at a time.
A failed window is retried later; after some tries it is a dead letter until the next start. Tokens and cost are
limited per user and day.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.config import ExtractionConfig
from gateway.errors import MemoryUnavailable, PluginUnavailable
from gateway.extraction import items, reconcile
from gateway.extraction.fact_writer import FactWriter, MemoryBusy
from gateway.extraction.positions import JournalPositions
from gateway.extraction.window import Window, window_of
from gateway.identity import scope_of
from gateway.llm.client import ModelAnswer, ModelClient
from gateway.memory.kinds import kind_of
from gateway.memory.record import Record, derived_id
from gateway.service.memories import MemoryService, Outdated
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.protocols import ExtractionQueue, Registry
from gateway.storage.rows import Row
from gateway.storage.values import DueConversation, JournalEntry, PendingMessage
from gateway.telemetry import Telemetry
from gateway.turn import Scope, ScopeKind

__all__ = ["ExtractionWorker"]

_log = logging.getLogger("gateway.learner")
_MAX_PARALLEL_CONVERSATIONS = 4  # conversations
_WINDOWS = 8  # of one conversation, before other conversations are processed
_GATHERING = 1.0  # seconds in which messages are collected before they are queued
_NOTED = 50_000  # messages collected in memory
_LONGEST_WAIT = 30.0
_TRIES = 4
_CUT = "cut"  # an answer truncated at its maximum length
_FIRST_PAUSE, _PAUSE_GROWS = 30.0, 4
_SOON = 2.0  # seconds before a retry after a concurrent change
_OUTAGE_FIRST, _OUTAGE_LONGEST = 5.0, 300.0
_REST = 10.0
_DAY = 86_400
_ANSWER = 2000  # tokens
_CHARACTERS = 4  # per token, where no count is available
_ROUNDED = 0.001  # seconds: the store's timestamps are less precise than the journal's
_QUEUE = "learning"  # the part of the storage that this worker cannot do without
_OWNED = (ScopeKind.USER, ScopeKind.CUBE, ScopeKind.AGENT)
_NOT_ASKED = ("unreachable", "no_model")
_OUT = (*_NOT_ASKED, "timeout", "unavailable")  # failures of the model, hardly caused by its input
_ALIVE = 600.0  # seconds after an answer in which a timeout is attributed to the input, not to the model
_READ = 500  # messages read of a conversation


class ExtractionWorker:
    """Extracts memories from idle conversations with a model, within a daily budget per user.

    `kept` reads the entries that the journal retains after they were stored; `count` counts tokens. `owns`: only of
    these scopes (None: of all); `part_of`: the part of the memory that a scope is in.
    """

    def __init__(
        self,
        *,
        agenda: ExtractionQueue,
        memory_service: MemoryService,
        registry: Registry,
        model_client: ModelClient,
        config: ExtractionConfig,
        telemetry: Telemetry,
        notebook: FactWriter,
        kept: Callable[[], Awaitable[Sequence[JournalEntry]]],
        count: Callable[[str], int],
        owns: Callable[[str], bool] | None = None,
        part_of: Callable[[str], int] = lambda scope: 0,
    ) -> None:
        self._owns = owns
        self._positions = JournalPositions(part_of, owns)
        self._agenda = agenda
        self._memory_service = memory_service
        self._registry = registry
        self._model_client = model_client
        self._config = config
        self._telemetry = telemetry
        self._notebook = notebook
        self._read_journal = kept
        self._count = count
        self._said: list[PendingMessage] = []
        self._is_behind = False  # some messages could not be collected
        self._answered_at = float("-inf")
        self._created_at = time.time()  # before the first message that can arrive
        self._enabled_at = 0.0
        self._outage_until, self._outage_pause = 0.0, _OUTAGE_FIRST
        self._wake = asyncio.Event()
        self._worker = RepeatingWorker("learner", self._work, _log, "extraction_fault", pauses=Backoff(_REST))
        self.waiting = self.aside = 0

    def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        if await self._worker.stop():
            try:
                await self._flush()
            except StorageError as error:  # the journal still has these messages
                _log.warning("extraction_queue_write_failed", extra={"cause": str(error)})
        await self._agenda.close()

    def note(self, rows: Sequence[Row]) -> None:
        """Collect rows that were stored, for extraction. Cheap: no I/O."""
        for row in rows:
            self._collect(row.seq, row.record, row.tokens)

    async def is_idle(self) -> bool:
        """True if no message waits for extraction, and none was given up."""
        return not self._said and await self._agenda.counts() == (0, 0)

    async def forget(self, scopes: Sequence[str], session: str | None) -> None:
        """Remove all queued messages of scopes, or of one session in them. Raises MemoryUnavailable."""
        session = None if session is None else _digest(session)
        self._said = [
            message for message in self._said if message.scope not in scopes or session not in (None, message.session)
        ]
        try:
            await self._agenda.forget(scopes, session)
        except StorageError as error:
            raise MemoryUnavailable(f"the extraction queue still names them ({error}); try again") from error

    def _collect(self, seq: int, record: Record, tokens: int) -> None:
        if self._is_behind:
            return
        is_new = record.version in (1, record.lineage.edited_in)
        is_message = kind_of(record.kind).is_extraction_source and not record.is_extracted
        if is_new and is_message and record.status == "activated":
            if len(self._said) >= _NOTED:  # the file cannot be written, or load is too high: the journal has them
                self._is_behind = True
                return
            self._said.append(PendingMessage(seq, record.scope, _digest(record.session_id), record.id, tokens))
            self._wake.set()
        self._positions.note(record.scope, seq)

    async def _work(self) -> None:
        try:
            await self._open()
            await self._flush()
            now = time.time()
            await self._check_clock(now)
            due = (
                await self._agenda.due(now, _MAX_PARALLEL_CONVERSATIONS, self._owns)
                if now >= self._outage_until
                else []
            )
            if due:
                await asyncio.gather(*map(self._process_safely, due))
            await self._update_metrics()
            await self._wait(is_busy=len(due) == _MAX_PARALLEL_CONVERSATIONS)
        except StorageError as error:
            _log.warning("extraction_backoff", extra={"cause": str(error)})
            await asyncio.sleep(_REST)

    async def _open(self) -> None:
        """Continue where the last process stopped. Raises StorageError."""
        if self._agenda.is_open:
            return
        await self._agenda.open(self._created_at)
        self._enabled_at = await self._agenda.began()
        positions = await self._agenda.positions()
        await self._catch_up(positions)
        self._positions.resume(positions)

    async def take_over(self, parts: Collection[int]) -> None:
        """Collect what the earlier owner of these parts may not have noted. Raises StorageError."""
        if self._agenda.is_open:
            positions = await self._agenda.positions()
            await self._catch_up(positions)
            self._positions.resume(positions, parts)

    async def _check_clock(self, now: float) -> None:
        """Reset the time from which messages are extracted if the clock was ahead when that was recorded."""
        if self._enabled_at > now + _REST:
            self._enabled_at = now - _LONGEST_WAIT
            await self._agenda.begin(self._enabled_at)

    async def _catch_up(self, positions: Mapping[int, int]) -> None:
        """Collect the stored entries after these positions that the journal still has. Raises StorageError."""
        for entry in await self._read_journal():
            if self._positions.is_after(positions, entry.record.scope, entry.seq):
                self._collect(entry.seq, entry.record, len(entry.record.text) // _CHARACTERS)

    async def _flush(self) -> None:
        """Write the collected messages to the queue."""
        messages, self._said = self._said, []
        if not messages:
            return
        positions = self._positions.newest
        try:
            await self._agenda.note(
                messages, positions, now=time.time(), idle=self._config.idle, window=self._config.window_tokens
            )
        except StorageError:
            self._said = messages + self._said
            raise
        if self._is_behind:
            self._is_behind = False
            await self._catch_up(positions)

    async def _wait(self, *, is_busy: bool) -> None:
        """Wait for a new message, or until a conversation is due."""
        if is_busy:
            return
        now = time.time()
        due = await self._agenda.next_due(self._owns)
        until = now + _LONGEST_WAIT if due is None else max(due, self._outage_until)
        self._wake.clear()
        if not self._said:
            try:
                async with asyncio.timeout(min(max(0.0, until - now), _LONGEST_WAIT)):
                    await self._wake.wait()
            except TimeoutError:
                return
        await asyncio.sleep(min(_GATHERING, self._config.idle))

    async def _update_metrics(self) -> None:
        self.waiting, self.aside = await self._agenda.counts()
        self._telemetry.learning_waiting.set(self.waiting)
        self._telemetry.learning_aside.set(self.aside)

    async def _process_safely(self, due: DueConversation) -> None:
        """Process one conversation; a failure affects only this conversation."""
        now = time.time()
        try:
            await self._process(due)
        except (MemoryUnavailable, StorageError) as error:
            if isinstance(error, StorageError) and error.part == _QUEUE:
                raise
            _log.warning("extraction_deferred", extra={"cause": str(error)})
            await self._agenda.put_off(due, now + _FIRST_PAUSE, failure_name(error))
        except Exception as error:  # noqa: BLE001 — the worker's loop: one conversation must not stop the others
            _log.exception("conversation_not_extracted")
            first = await self._agenda.waiting(due, 1)
            await self._record_failure(due, type(error).__name__, [seq for seq, _ in first])

    async def _record_failure(self, due: DueConversation, reason: str, seqs: Sequence[int]) -> None:
        """Record a failed try of these messages: retry them later, or give them up."""
        self._telemetry.bound("learning_failures", reason).inc()
        if due.tries + 1 >= _TRIES:
            _log.warning("messages_abandoned", extra={"reason": reason, "count": len(seqs)})
            await self._agenda.give_up(due, seqs)
        else:
            pause = _SOON if reason == Outdated.__name__ else _FIRST_PAUSE * _PAUSE_GROWS**due.tries
            await self._agenda.failed(due, time.time() + pause, reason)

    async def _process(self, due: DueConversation) -> None:
        scope = await self._registry.scope(due.scope)
        if scope is None or scope.kind not in _OWNED:
            await self._agenda.forget([due.scope], due.session)
            return
        before = await self._memory_service.known(scope, due.before.split())
        waiting = await self._load_messages(scope, due)
        for _ in range(_WINDOWS):
            if not waiting:
                break
            user = waiting[0][1].user_id
            if await self._is_over_budget(_payer(scope, user)):
                self._telemetry.bound("learned", "capped").inc()
                await self._agenda.put_off(due, (time.time() // _DAY + 1) * _DAY, "capped")
                return
            candidates = [record for _, record in waiting if record.user_id == user]  # the messages are sorted by user
            processed = await self._find_processed(scope, candidates, waiting[0][0])
            seqs = [seq for seq, _ in waiting[: len(processed)]]
            if not processed:
                context = [record for record in before if record.user_id == user]
                window, failure = await self._extract_next(scope, due, context, candidates)
                processed, seqs = list(window.new), [seq for seq, _ in waiting[: len(window.new)]]
                if failure:
                    await self._handle_failure(due, failure, seqs)
                    return
            before, waiting = processed, waiting[len(processed) :]
            await self._agenda.learnt(due, seqs, " ".join(record.id for record in before[-2:]))
        if waiting:  # other conversations go first
            await self._agenda.put_off(due, time.time(), "")
        await self._agenda.ended(due)

    async def _extract_next(
        self, scope: Scope, due: DueConversation, context: Sequence[Record], candidates: Sequence[Record]
    ) -> tuple[Window, str]:
        """Extract from the next window; from half of it if the answer is truncated. Returns why it failed, or ""."""
        max_tokens = self._config.window_tokens
        while True:
            window = window_of(context, candidates, max_tokens, self._count)
            failure = await self._extract_window(scope, due, window)
            if failure != _CUT or len(window.new) < 2:
                return window, failure
            max_tokens = max(1, min(max_tokens, window.tokens) // 2)

    async def _find_processed(self, scope: Scope, messages: Sequence[Record], first: int) -> list[Record]:
        """The first messages, up to the last one from which items are stored. `first`: the number of the first."""
        if not self._positions.may_be_processed(scope.value, first):
            return []
        processed_ids = await self._notebook.told(scope, messages)
        last = max((place for place, record in enumerate(messages, start=1) if record.id in processed_ids), default=0)
        return list(messages[:last])

    async def _load_messages(self, scope: Scope, due: DueConversation) -> list[tuple[int, Record]]:
        """The unprocessed messages of a conversation with their journal numbers, by user, then in journal order.

        Removes messages from the queue that no longer exist or are not eligible.
        """
        rows = await self._agenda.waiting(due, _READ)
        newest = {id_: seq for seq, id_ in rows}
        records = {record.id: record for record in await self._memory_service.known(scope, list(newest))}
        messages = [(seq, records[id_]) for seq, id_ in rows if id_ in records and newest[id_] == seq]
        messages = [(seq, record) for seq, record in messages if self._is_eligible(record)]
        eligible = {seq for seq, _ in messages}
        if obsolete := [seq for seq, _ in rows if seq not in eligible]:
            await self._agenda.mark_deleted(obsolete)
        return sorted(messages, key=lambda message: message[1].user_id)

    def _is_eligible(self, record: Record) -> bool:
        is_message = record.status == "activated" and not record.is_extracted and not record.suspicious
        return is_message and record.created_at > self._enabled_at - _ROUNDED

    async def _extract_window(self, scope: Scope, due: DueConversation, window: Window) -> str:
        """Extract and store the items of a window. Returns why that failed, else ""."""
        if not any(record.source in ("user", "tool") for record in window.new):
            return ""
        payer = _payer(scope, window.new[0].user_id)
        reply = await self._ask_model(payer, items.INSTRUCTIONS, window.text, items.SCHEMA)
        if reply.is_cut:
            self._telemetry.bound("learned", _CUT).inc()
            if len(window.new) > 1:
                return _CUT
        if reply.found is None:
            return reply.failure

        async def compare(material: str) -> Mapping[str, Any] | None:
            comparison = await self._ask_model(payer, reconcile.INSTRUCTIONS, material, reconcile.SCHEMA)
            if comparison.found is None and (comparison.failure in _OUT or due.tries + 1 < _TRIES):
                raise MemoryBusy(comparison.failure)  # or contradicting memories would both stay valid for good
            if comparison.is_cut and due.tries + 1 < _TRIES:
                raise MemoryBusy(_CUT)
            return comparison.found

        try:
            await self._notebook.keep(scope, window, reply.found, compare)
        except (
            MemoryBusy,
            Outdated,
            MemoryUnavailable,
            PluginUnavailable,
        ) as error:  # the tokens are spent: it is a try
            _log.warning("extraction_not_stored", extra={"cause": str(error) or "outdated"})
            return type(error).__name__
        return ""

    async def _is_over_budget(self, payer: str) -> bool:
        tokens, cost = await self._agenda.spent(payer, int(time.time() // _DAY))
        max_tokens, max_cost = self._config.max_tokens_per_day, self._config.max_cost_per_day
        return (max_tokens > 0 and tokens >= max_tokens) or (max_cost is not None and cost >= max_cost)

    async def _ask_model(self, payer: str, instructions: str, material: str, schema: Mapping[str, Any]) -> ModelAnswer:
        """Ask the model at the expense of a user; an estimate is reserved before. Raises StorageError."""
        day, estimate = int(time.time() // _DAY), (len(instructions) + len(material)) // _CHARACTERS
        await self._agenda.spend(payer, day, estimate, 0.0)
        reply = await self._model_client.consult(
            instructions, material, schema, timeout=self._config.timeout, most=_ANSWER
        )
        used = 0 if reply.failure in _NOT_ASKED else reply.tokens or estimate
        await self._agenda.spend(payer, day, used - estimate, reply.cost)
        if reply.failure not in _OUT:
            self._answered_at = time.monotonic()
            self._outage_pause = _OUTAGE_FIRST
        return reply

    async def _handle_failure(self, due: DueConversation, failure: str, seqs: Sequence[int]) -> None:
        """Pause all conversations, with back-off, if the model is out; if it only fails with these messages, retry
        them."""
        is_alive = time.monotonic() - self._answered_at < _ALIVE
        if failure in _OUT and not (failure == "timeout" and is_alive):
            self._telemetry.bound("learning_failures", failure).inc()
            self._outage_until = time.time() + self._outage_pause
            self._outage_pause = min(self._outage_pause * 2, _OUTAGE_LONGEST)
            await self._agenda.put_off(due, self._outage_until, failure)
        else:
            await self._record_failure(due, failure, seqs)


def _digest(session: str) -> str:
    """A digest of a conversation's name, which may be personal and must not be stored in the queue."""
    return derived_id("session", session)


def _payer(scope: Scope, user: str) -> str:
    """The key of the daily budget that a question counts against: all cubes and agents of a user share one."""
    return scope_of(scope.tenant, user).value if user else scope.value
