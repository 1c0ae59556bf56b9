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
from gateway.learn.items import Item
from gateway.learn.lesson import learnt_again, lesson_of
from gateway.learn.window import Window, window_of
from gateway.recall.library import Library, Outdated
from gateway.store.agenda import Agenda, AgendaFailed, Due, Said
from gateway.store.journal import Entry, JournalFailed
from gateway.store.lineage import EDITED
from gateway.store.loaded import Row
from gateway.store.registry import Registry, RegistryFailed
from gateway.telemetry import Telemetry
from gateway.turn import MemoryStatus, Recalled, Record, Scope, ScopeKind, Wanted, group_of
from gateway.upstream.asker import Asked, Asker

__all__ = ["Learner", "NotNow", "Screen", "Search"]

_log = logging.getLogger("gateway.learner")
_AT_ONCE = 4  # conversations
_WINDOWS = 8  # of one conversation before others have their turn
_GATHERING = 1.0  # seconds in which what was said gathers before it is noted
_NOTED = 50_000  # messages
_LONGEST_WAIT = 30.0
_TRIES = 4
_FIRST_PAUSE, _PAUSE_GROWS = 30.0, 4
_SOON = 2.0  # seconds: something changed meanwhile
_OUTAGE_FIRST, _OUTAGE_LONGEST = 5.0, 300.0
_REST = 10.0
_DAY = 86_400
_ANSWER = 2000  # tokens
_NEAR = 4  # known memories that a new item is compared with
_NEAR_ENOUGH = 0.15  # relevance
_CHARACTERS = 4  # of a token, where nobody counted
_ROUNDED = 0.001  # seconds: the store keeps moments a little less exactly than the journal
_KINDS = ("turn", "tool")
_OWNED = (ScopeKind.USER, ScopeKind.CUBE, ScopeKind.AGENT)
_NOT_ASKED = ("unreachable", "no_model")
_OUT = (*_NOT_ASKED, "timeout", "unavailable")  # failures of the model, hardly of what it was shown
_ALIVE = 600.0  # seconds after an answer in which a question that is not answered is at fault itself
_READ = 500  # messages of a conversation

Search = Callable[[Sequence[Scope], str, Wanted], Awaitable[Recalled]]
Screen = Callable[[Scope, Sequence[Record]], Awaitable[Sequence[Record]]]


class NotNow(Exception):
    """A conversation cannot be learnt from now; the message is a short word that says why."""


class Learner:
    """`search` finds known memories, `screen` is where plugins see new ones, `kept` reads what the journal still has of
    what the store took, `count` counts tokens."""

    def __init__(
        self,
        *,
        agenda: Agenda,
        library: Library,
        registry: Registry,
        asker: Asker,
        config: ExtractionConfig,
        telemetry: Telemetry,
        search: Search,
        screen: Screen,
        kept: Callable[[], Awaitable[Sequence[Entry]]],
        count: Callable[[str], int],
    ) -> None:
        self._agenda = agenda
        self._library = library
        self._registry = registry
        self._asker = asker
        self._config = config
        self._telemetry = telemetry
        self._search = search
        self._screen = screen
        self._kept = kept
        self._count = count
        self._said: list[Said] = []
        self._is_behind = False  # not all that was said could be noted
        self._answered_at = float("-inf")
        self._made_at = time.time()  # before the first word that could be said
        self._began = 0.0
        self._position = 0
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
        self._said = [one for one in self._said if one.scope not in scopes or session not in (None, one.session)]
        try:
            await self._agenda.forget(scopes, session)
        except AgendaFailed as error:
            raise MemoryUnavailable(f"what is to be learnt still names them ({error}); try again") from error

    async def ask(
        self, scope: Scope, instructions: str, material: str, schema: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Ask the model something else about a scope, within what that may cost a day. None without an answer."""
        try:
            if await self._is_spent(scope, time.time()):
                return None
            return (await self._asked(scope, instructions, material, schema)).found
        except AgendaFailed as error:
            _log.warning("agenda_not_written", extra={"cause": str(error)})
            return None

    def _note(self, seq: int, record: Record, tokens: int) -> None:
        if self._is_behind:
            return
        is_new = record.version == 1 or record.info.get(EDITED) == record.version
        if is_new and record.kind in _KINDS and record.status == "activated":
            if len(self._said) >= _NOTED:  # the file cannot be written, or too much comes: the journal keeps it
                self._is_behind = True
                return
            self._said.append(Said(seq, record.scope, record.session_id, record.id, tokens))
            self._wake.set()
        self._position = max(self._position, seq)

    async def _work(self) -> None:
        while True:
            try:
                await self._open()
                await self._flush()
                now = time.time()
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
        await self._catch_up(await self._agenda.position())

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
            await self._learn(due, now)
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

    async def _learn(self, due: Due, now: float) -> None:
        scope = await self._registry.scope(due.scope)
        if scope is None or scope.kind not in _OWNED:
            await self._agenda.forget([due.scope], due.session)
            return
        before = await self._library.known(scope, due.before.split())
        waiting = await self._messages(scope, due)
        for _ in range(_WINDOWS):
            if not waiting:
                break
            if await self._is_spent(scope, now):
                self._telemetry.bound("learned", "capped").inc()
                await self._agenda.put_off(due, (now // _DAY + 1) * _DAY, "capped")
                return
            window = window_of(before, [record for _, record in waiting], self._config.window_tokens, self._count)
            seqs = [seq for seq, _ in waiting[: len(window.new)]]
            failure = await self._taught(scope, due, window)
            if failure:
                await self._not_learnt(due, failure, seqs)
                return
            before, waiting = list(window.new), waiting[len(window.new) :]
            await self._agenda.learnt(due, seqs, " ".join(record.id for record in before[-2:]))
        if waiting:  # others have their turn first
            await self._agenda.put_off(due, time.time(), "")
        await self._agenda.ended(due)

    async def _messages(self, scope: Scope, due: Due) -> list[tuple[int, Record]]:
        """What nobody has looked at yet of a conversation, in the order it was remembered, with its journal numbers;
        what is not there any more is struck from the agenda."""
        rows = await self._agenda.waiting(due, _READ)
        known = {record.id: record for record in await self._library.known(scope, [id_ for _, id_ in rows])}
        found, idle = [], []
        for seq, id_ in rows:
            record = known.get(id_)
            is_wanted = (
                record is not None
                and record.status == "activated"
                and SUSPICIOUS not in record.info
                and record.created_at > self._began - _ROUNDED
            )
            if record is not None and is_wanted:
                found.append((seq, record))
            else:
                idle.append(seq)
        if idle:
            await self._agenda.strike(idle)
        return found

    async def _taught(self, scope: Scope, due: Due, window: Window) -> str:
        """Have the model look at a window, and keep what it finds; why that failed, "" if it did not."""
        if not any(record.source in ("user", "tool") for record in window.new):
            return ""
        asked = await self._asked(scope, items.INSTRUCTIONS, window.text, items.SCHEMA)
        if asked.found is None:
            return asked.failure
        try:
            await self._keep(scope, due, window, asked.found)
        except (NotNow, Outdated, MemoryUnavailable, PluginUnavailable) as error:  # the question is paid for: a try
            _log.warning("lesson_not_kept", extra={"cause": str(error) or "outdated"})
            return type(error).__name__
        return ""

    async def _is_spent(self, scope: Scope, now: float) -> bool:
        tokens, cost = await self._agenda.spent(_payer(scope), int(now // _DAY))
        most, dearest = self._config.max_tokens_per_day, self._config.max_cost_per_day
        return (most > 0 and tokens >= most) or (dearest is not None and cost >= dearest)

    async def _asked(self, scope: Scope, instructions: str, material: str, schema: Mapping[str, Any]) -> Asked:
        """A question to the model, at the cost of a scope: what it may use is set aside before. Raises AgendaFailed."""
        day, estimate = int(time.time() // _DAY), (len(instructions) + len(material)) // _CHARACTERS
        await self._agenda.spend(_payer(scope), day, estimate, 0.0)
        asked = await self._asker.consult(instructions, material, schema, timeout=self._config.timeout, most=_ANSWER)
        used = 0 if asked.failure in _NOT_ASKED else asked.tokens or estimate
        await self._agenda.spend(_payer(scope), day, used - estimate, asked.cost)
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

    async def _keep(self, scope: Scope, due: Due, window: Window, found: Mapping[str, Any]) -> None:
        """What a model found, compared with what is known, written down."""
        read, dropped = await asyncio.to_thread(items.read_items, found, window)
        for why, count in dropped.items():
            self._telemetry.bound("learned", why).inc(count)
        if not read:
            return
        compared = [(item, await self._near(scope, item)) for item in read]

        async def ask(material: str) -> Mapping[str, Any] | None:
            return (await self._asked(scope, reconcile.INSTRUCTIONS, material, reconcile.SCHEMA)).found

        decisions = await reconcile.decide(compared, ask)
        lesson = lesson_of(scope, due.session, decisions, time.time())
        added, again = await self._new(scope, lesson.added)
        rests_on = (*window.records, *(old for decision in decisions for old in decision.old))
        seen = {record.id: record.version for record in rests_on}
        await self._library.revise([*lesson.changed, *again], added, seen)
        for decision in decisions:
            self._telemetry.bound("learned", decision.relation).inc()

    async def _near(self, scope: Scope, item: Item) -> list[Record]:
        """Known memories of the same kind that may be about the same thing. Raises NotNow."""
        own = {source.id for source in item.sources}
        group = group_of(item.kind)
        wanted = Wanted(
            text=_NEAR * (group == "text"),
            preference=_NEAR * (group == "preference"),
            tool=_NEAR * (group == "tool"),
            skill=_NEAR * (group == "skill"),
            min_relativity=_NEAR_ENOUGH,
            allows={scope.value: lambda record: record.kind == item.kind and record.id not in own},
        )
        recalled = await self._search([scope], item.text, wanted)
        if recalled.status is MemoryStatus.DEGRADED:
            raise NotNow(recalled.reason or "degraded")
        return [memory.record for memory in recalled.memories][:_NEAR]

    async def _new(self, scope: Scope, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Those to be added, as plugins let them be stored, and those that were known once and come back."""
        if not records:
            return [], []
        known = {record.id: record for record in await self._library.known(scope, [one.id for one in records])}
        fresh = [record for record in records if record.id not in known]
        again = [learnt_again(record, known[record.id]) for record in records if record.id in known]
        return list(await self._screen(scope, fresh)) if fresh else [], again


def _payer(scope: Scope) -> str:
    """Whose day's limit a question counts against: all cubes of a user share one."""
    return scope_of(scope.tenant, scope.owner).value if scope.owner else scope.value
