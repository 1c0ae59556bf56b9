"""The learner: a worker that has a model look at what was said, conversation by conversation, and keeps what it finds.

It follows the journal and stands beside everything else: no chat waits for it, and without the model nothing is lost
but what would have been learnt. A conversation is looked at when it rests, or holds enough that is new, a window at a
time; a window that fails is tried again later, and given up after some tries until the next start. What one user may
cost a day is limited.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.config import ExtractionConfig
from gateway.errors import MemoryUnavailable, PluginUnavailable
from gateway.fence import SUSPICIOUS
from gateway.identity import scope_of
from gateway.learn import items, reconcile
from gateway.learn.notebook import Notebook, NotNow
from gateway.learn.window import Window, window_of
from gateway.recall.library import Library, Outdated
from gateway.store.agenda import Agenda, AgendaFailed, Due, Said
from gateway.store.journal import Entry, JournalFailed
from gateway.store.lineage import EDITED, LEARNT
from gateway.store.loaded import Row
from gateway.store.registry import Registry, RegistryFailed
from gateway.telemetry import Telemetry
from gateway.turn import Record, Scope, ScopeKind, derived_id
from gateway.upstream.asker import Asked, Asker

__all__ = ["Learner"]

_log = logging.getLogger("gateway.learner")
_AT_ONCE = 4  # conversations
_WINDOWS = 8  # of one conversation before others have their turn
_GATHERING = 1.0  # seconds in which what was said gathers before it is noted
_NOTED = 50_000  # messages
_LONGEST_WAIT = 30.0
_TRIES = 4
_CUT = "cut"  # an answer that ended at its length
_FIRST_PAUSE, _PAUSE_GROWS = 30.0, 4
_SOON = 2.0  # seconds: something changed meanwhile
_OUTAGE_FIRST, _OUTAGE_LONGEST = 5.0, 300.0
_REST = 10.0
_DAY = 86_400
_ANSWER = 2000  # tokens
_CHARACTERS = 4  # of a token, where nobody counted
_ROUNDED = 0.001  # seconds: the store keeps moments a little less exactly than the journal
_KINDS = ("turn", "tool")
_OWNED = (ScopeKind.USER, ScopeKind.CUBE, ScopeKind.AGENT)
_NOT_ASKED = ("unreachable", "no_model")
_OUT = (*_NOT_ASKED, "timeout", "unavailable")  # failures of the model, hardly of what it was shown
_ALIVE = 600.0  # seconds after an answer in which a question that is not answered is at fault itself
_READ = 500  # messages of a conversation


class Learner:
    """`kept` reads what the journal still has of what the store took, `count` counts tokens."""

    def __init__(
        self,
        *,
        agenda: Agenda,
        library: Library,
        registry: Registry,
        asker: Asker,
        config: ExtractionConfig,
        telemetry: Telemetry,
        notebook: Notebook,
        kept: Callable[[], Awaitable[Sequence[Entry]]],
        count: Callable[[str], int],
    ) -> None:
        self._agenda = agenda
        self._library = library
        self._registry = registry
        self._asker = asker
        self._config = config
        self._telemetry = telemetry
        self._notebook = notebook
        self._kept = kept
        self._count = count
        self._said: list[Said] = []
        self._is_behind = False  # not all that was said could be noted
        self._answered_at = float("-inf")
        self._made_at = time.time()  # before the first word that could be said
        self._began = 0.0
        self._position = 0
        self._resumed = 0  # up to there, an earlier process may have learnt what it did not strike off
        self._outage_until = 0.0
        self._outage_pause = _OUTAGE_FIRST
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.waiting = self.aside = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="learner")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)
            try:
                await self._flush()
            except AgendaFailed as error:  # the journal still has it
                _log.warning("agenda_not_written", extra={"cause": str(error)})
        await self._agenda.close()

    def note(self, rows: Sequence[Row]) -> None:
        """The store has these now. Costs next to nothing."""
        for row in rows:
            self._note(row.seq, row.record, row.tokens)

    async def forget(self, scopes: Sequence[str], session: str | None) -> None:
        """Leave nothing that names these. Raises MemoryUnavailable."""
        session = None if session is None else _digest(session)
        self._said = [one for one in self._said if one.scope not in scopes or session not in (None, one.session)]
        try:
            await self._agenda.forget(scopes, session)
        except AgendaFailed as error:
            raise MemoryUnavailable(f"what is to be learnt still names them ({error}); try again") from error

    def _note(self, seq: int, record: Record, tokens: int) -> None:
        if self._is_behind:
            return
        is_new = record.version == 1 or record.info.get(EDITED) == record.version
        is_said = record.kind in _KINDS and LEARNT not in record.info
        if is_new and is_said and record.status == "activated":
            if len(self._said) >= _NOTED:  # the file cannot be written, or too much comes: the journal keeps it
                self._is_behind = True
                return
            self._said.append(Said(seq, record.scope, _digest(record.session_id), record.id, tokens))
            self._wake.set()
        self._position = max(self._position, seq)

    async def _work(self) -> None:
        while True:
            try:
                await self._open()
                await self._flush()
                now = time.time()
                await self._check_clock(now)
                due = await self._agenda.due(now, _AT_ONCE) if now >= self._outage_until else []
                if due:
                    await asyncio.gather(*map(self._guarded, due))
                await self._measure()
                await self._wait(is_busy=len(due) == _AT_ONCE)
            except (AgendaFailed, JournalFailed) as error:
                _log.warning("learner_rests", extra={"cause": str(error)})
                await asyncio.sleep(_REST)
            except Exception:  # noqa: BLE001 — the worker must outlive any fault; it is logged whole
                _log.exception("learner_fault")
                await asyncio.sleep(_REST)

    async def _open(self) -> None:
        """Go on where the last process stopped. Raises AgendaFailed or JournalFailed."""
        if self._agenda.is_open:
            return
        await self._agenda.open(self._made_at)
        self._began = await self._agenda.began()
        position = await self._agenda.position()
        await self._catch_up(position)
        self._resumed = max(position, self._position)

    async def _check_clock(self, now: float) -> None:
        """A clock that was ahead when learning was switched on must not keep it from beginning."""
        if self._began > now + _REST:
            self._began = now - _LONGEST_WAIT
            await self._agenda.begin(self._began)

    async def _catch_up(self, position: int) -> None:
        """Note what the store took after this and the journal still has. Raises JournalFailed."""
        for entry in await self._kept():
            if entry.seq > position:
                self._note(entry.seq, entry.record, len(entry.record.text) // _CHARACTERS)

    async def _flush(self) -> None:
        """Write down what was said since the last time."""
        said, self._said = self._said, []
        if not said:
            return
        position = self._position
        try:
            await self._agenda.note(
                said, position, now=time.time(), idle=self._config.idle, window=self._config.window_tokens
            )
        except AgendaFailed:
            self._said = said + self._said
            raise
        if self._is_behind:
            self._is_behind = False
            await self._catch_up(position)

    async def _wait(self, *, is_busy: bool) -> None:
        """Until somebody says something, or a conversation is due."""
        if is_busy:
            return
        now = time.time()
        due = await self._agenda.next_due()
        until = now + _LONGEST_WAIT if due is None else max(due, self._outage_until)
        self._wake.clear()
        if not self._said:
            try:
                async with asyncio.timeout(min(max(0.0, until - now), _LONGEST_WAIT)):
                    await self._wake.wait()
            except TimeoutError:
                return
        await asyncio.sleep(min(_GATHERING, self._config.idle))

    async def _measure(self) -> None:
        self.waiting, self.aside = await self._agenda.counts()
        self._telemetry.learning_waiting.set(self.waiting)
        self._telemetry.learning_aside.set(self.aside)

    async def _guarded(self, due: Due) -> None:
        """One conversation; what fails is that one's affair."""
        now = time.time()
        try:
            await self._learn(due)
        except (MemoryUnavailable, RegistryFailed, JournalFailed) as error:
            _log.warning("learning_waits", extra={"cause": str(error)})
            await self._agenda.put_off(due, now + _FIRST_PAUSE, type(error).__name__)
        except AgendaFailed:
            raise
        except Exception as error:  # noqa: BLE001 — the worker's loop: one conversation must not stop the others
            _log.exception("conversation_not_learnt")
            first = await self._agenda.waiting(due, 1)
            await self._failed(due, type(error).__name__, [seq for seq, _ in first])

    async def _failed(self, due: Due, reason: str, seqs: Sequence[int]) -> None:
        """These messages were in vain once more."""
        self._telemetry.bound("learning_failures", reason).inc()
        if due.tries + 1 >= _TRIES:
            _log.warning("messages_given_up", extra={"reason": reason, "count": len(seqs)})
            await self._agenda.give_up(due, seqs)
        else:
            pause = _SOON if reason == Outdated.__name__ else _FIRST_PAUSE * _PAUSE_GROWS**due.tries
            await self._agenda.failed(due, time.time() + pause, reason)

    async def _learn(self, due: Due) -> None:
        scope = await self._registry.scope(due.scope)
        if scope is None or scope.kind not in _OWNED:
            await self._agenda.forget([due.scope], due.session)
            return
        before = await self._library.known(scope, due.before.split())
        waiting = await self._messages(scope, due)
        for _ in range(_WINDOWS):
            if not waiting:
                break
            user = waiting[0][1].user_id
            if await self._is_spent(_payer(scope, user)):
                self._telemetry.bound("learned", "capped").inc()
                await self._agenda.put_off(due, (time.time() // _DAY + 1) * _DAY, "capped")
                return
            shown = [record for _, record in waiting if record.user_id == user]  # they come first
            new = await self._learnt_before(scope, shown) if waiting[0][0] <= self._resumed else []
            seqs = [seq for seq, _ in waiting[: len(new)]]
            if not new:
                own = [record for record in before if record.user_id == user]
                window, failure = await self._look(scope, due, own, shown)
                new, seqs = list(window.new), [seq for seq, _ in waiting[: len(window.new)]]
                if failure:
                    await self._not_learnt(due, failure, seqs)
                    return
            before, waiting = new, waiting[len(new) :]
            await self._agenda.learnt(due, seqs, " ".join(record.id for record in before[-2:]))
        if waiting:  # others have their turn first
            await self._agenda.put_off(due, time.time(), "")
        await self._agenda.ended(due)

    async def _look(
        self, scope: Scope, due: Due, before: Sequence[Record], shown: Sequence[Record]
    ) -> tuple[Window, str]:
        """Learn from the next window; from half of it where the answer did not fit into its length."""
        most = self._config.window_tokens
        while True:
            window = window_of(before, shown, most, self._count)
            failure = await self._taught(scope, due, window)
            if failure != _CUT or len(window.new) < 2:
                return window, failure
            most = max(1, min(most, window.tokens) // 2)

    async def _learnt_before(self, scope: Scope, said: Sequence[Record]) -> list[Record]:
        """The first of these messages, up to the last of which something is written down already."""
        told = await self._notebook.told(scope, said)
        last = max((place for place, record in enumerate(said, start=1) if record.id in told), default=0)
        return list(said[:last])

    async def _messages(self, scope: Scope, due: Due) -> list[tuple[int, Record]]:
        """What nobody has looked at yet of a conversation, user by user, in the order it was remembered, with its
        journal numbers; what is not there any more is struck from the agenda."""
        rows = await self._agenda.waiting(due, _READ)
        newest = {id_: seq for seq, id_ in rows}
        known = {record.id: record for record in await self._library.known(scope, list(newest))}
        found = [(seq, known[id_]) for seq, id_ in rows if id_ in known and newest[id_] == seq]
        found = [(seq, record) for seq, record in found if self._is_wanted(record)]
        wanted = {seq for seq, _ in found}
        if idle := [seq for seq, _ in rows if seq not in wanted]:
            await self._agenda.strike(idle)
        return sorted(found, key=lambda one: one[1].user_id)

    def _is_wanted(self, record: Record) -> bool:
        is_said = record.status == "activated" and LEARNT not in record.info and SUSPICIOUS not in record.info
        return is_said and record.created_at > self._began - _ROUNDED

    async def _taught(self, scope: Scope, due: Due, window: Window) -> str:
        """Have the model look at a window, and keep what it finds; why that failed, "" if it did not."""
        if not any(record.source in ("user", "tool") for record in window.new):
            return ""
        payer = _payer(scope, window.new[0].user_id)
        asked = await self._asked(payer, items.INSTRUCTIONS, window.text, items.SCHEMA)
        if asked.is_cut:
            self._telemetry.bound("learned", _CUT).inc()
            if len(window.new) > 1:
                return _CUT
        if asked.found is None:
            return asked.failure

        async def compare(material: str) -> Mapping[str, Any] | None:
            answer = await self._asked(payer, reconcile.INSTRUCTIONS, material, reconcile.SCHEMA)
            if answer.found is None and (answer.failure in _OUT or due.tries + 1 < _TRIES):
                raise NotNow(answer.failure)  # what contradicts each other must not stand side by side for good
            if answer.is_cut and due.tries + 1 < _TRIES:
                raise NotNow(_CUT)
            return answer.found

        try:
            await self._notebook.keep(scope, window, asked.found, compare)
        except (NotNow, Outdated, MemoryUnavailable, PluginUnavailable) as error:  # the question is paid for: a try
            _log.warning("lesson_not_kept", extra={"cause": str(error) or "outdated"})
            return type(error).__name__
        return ""

    async def _is_spent(self, payer: str) -> bool:
        tokens, cost = await self._agenda.spent(payer, int(time.time() // _DAY))
        most, dearest = self._config.max_tokens_per_day, self._config.max_cost_per_day
        return (most > 0 and tokens >= most) or (dearest is not None and cost >= dearest)

    async def _asked(self, payer: str, instructions: str, material: str, schema: Mapping[str, Any]) -> Asked:
        """A question to the model, at the cost of a user: what it may use is set aside before. Raises AgendaFailed."""
        day, estimate = int(time.time() // _DAY), (len(instructions) + len(material)) // _CHARACTERS
        await self._agenda.spend(payer, day, estimate, 0.0)
        asked = await self._asker.consult(instructions, material, schema, timeout=self._config.timeout, most=_ANSWER)
        used = 0 if asked.failure in _NOT_ASKED else asked.tokens or estimate
        await self._agenda.spend(payer, day, used - estimate, asked.cost)
        if asked.failure not in _OUT:
            self._answered_at = time.monotonic()
            self._outage_pause = _OUTAGE_FIRST
        return asked

    async def _not_learnt(self, due: Due, failure: str, seqs: Sequence[int]) -> None:
        """A model that is out lets all wait, each time longer; one that is there and fails with these messages only has
        them tried again."""
        is_alive = time.monotonic() - self._answered_at < _ALIVE
        if failure in _OUT and not (failure == "timeout" and is_alive):
            self._telemetry.bound("learning_failures", failure).inc()
            self._outage_until = time.time() + self._outage_pause
            self._outage_pause = min(self._outage_pause * 2, _OUTAGE_LONGEST)
            await self._agenda.put_off(due, self._outage_until, failure)
        else:
            await self._failed(due, failure, seqs)


def _digest(session: str) -> str:
    """What stands for a conversation's name, which may be personal, in a file that outlasts it."""
    return derived_id("session", session)


def _payer(scope: Scope, user: str) -> str:
    """Whose day's limit a question counts against: all cubes and agents of a user share one."""
    return scope_of(scope.tenant, user).value if user else scope.value
