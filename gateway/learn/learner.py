"""The learner: a worker that has a model look at what was said, conversation by conversation, and keeps what it finds.

It follows the journal and stands beside everything else: no chat waits for it, and without the model nothing is lost
but what would have been learnt. A conversation is looked at when it rests, or holds enough that is new, a window at a
time; a window that fails is tried again later, and given up after some tries until the next start. What one user may
cost a day is limited.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any

from gateway.config import ExtractionConfig
from gateway.dialect import Dialect
from gateway.errors import MemoryUnavailable, PluginUnavailable
from gateway.fence import SUSPICIOUS
from gateway.learn import items, reconcile
from gateway.learn.items import Item
from gateway.learn.lesson import learnt_again, lesson_of
from gateway.learn.window import Window, window_of
from gateway.recall.library import Library
from gateway.remember.intake import background_turn
from gateway.store.agenda import Agenda, AgendaFailed, Due, Said
from gateway.store.journal import Entry, JournalFailed
from gateway.store.loaded import Row
from gateway.store.registry import Registry, RegistryFailed
from gateway.telemetry import Telemetry
from gateway.turn import MemoryStatus, Recalled, Record, Scope, ScopeKind, Turn, Wanted, group_of
from gateway.upstream.asker import Asked, Asker

__all__ = ["Learner", "NotNow"]

_log = logging.getLogger("gateway.learner")
_AT_ONCE = 4  # conversations
_WINDOWS = 8  # of one conversation before others have their turn
_GATHERING = 1.0  # seconds in which what was said gathers before it is noted
_NOTED = 10_000  # conversations
_LONGEST_WAIT = 30.0
_TRIES = 4
_FIRST_PAUSE, _PAUSE_GROWS = 30.0, 4
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
_OUT = ("unreachable", "timeout", "no_model")  # failures of the model, not of what it was shown

Search = Callable[[Sequence[Scope], str, Wanted], Awaitable[Recalled]]
Screen = Callable[[Turn, Sequence[Record]], Awaitable[Sequence[Record]]]


class NotNow(Exception):
    """A conversation cannot be learnt from now; the message is a short word that says why."""


class Learner:
    """`search` finds known memories, `screen` is where plugins see new ones, `kept` reads what the journal still has of
    what the store took, `count` counts tokens; `dialect` is what the turn that plugins see has."""

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
        dialect: Dialect,
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
        self._dialect = dialect
        self._said: dict[tuple[str, str], Said] = {}
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
        for place in [one for one in self._said if one[0] in scopes and session in (None, one[1])]:
            del self._said[place]
        try:
            await self._agenda.forget(scopes, session)
        except AgendaFailed as error:
            raise MemoryUnavailable(f"what is to be learnt still names them ({error}); try again") from error

    def _note(self, seq: int, record: Record, tokens: int) -> None:
        self._position = max(self._position, seq)
        if record.kind not in _KINDS or record.status != "activated" or record.version != 1:
            return
        if record.created_at < self._began:
            return
        place, at = (record.scope, record.session_id), record.created_at
        before = self._said.get(place)
        if before is not None:
            self._said[place] = Said(*place, min(before.first, at), max(before.last, at), before.tokens + tokens)
        elif len(self._said) < _NOTED:  # else the file cannot be written: the journal keeps it
            self._said[place] = Said(*place, at, at, tokens)
        self._wake.set()

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
        kept = await self._kept()
        await self._agenda.open(self._made_at)
        self._began, position = await self._agenda.began(), await self._agenda.position()
        self._said = {place: one for place, one in self._said.items() if one.last >= self._began}
        for entry in kept:
            if entry.seq > position:
                self._note(entry.seq, entry.record, len(entry.record.text) // _CHARACTERS)

    async def _flush(self) -> None:
        """Write down what was said since the last time."""
        said, self._said = self._said, {}
        if not said:
            return
        try:
            await self._agenda.note(
                said.values(),
                self._position,
                now=time.time(),
                idle=self._config.idle,
                window=self._config.window_tokens,
            )
        except AgendaFailed:
            self._said = said | self._said  # counts are a little short then; nobody minds
            raise

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
        except NotNow as error:
            await self._agenda.put_off(due, now + _FIRST_PAUSE, str(error))
        except (MemoryUnavailable, PluginUnavailable, RegistryFailed, JournalFailed) as error:
            _log.warning("learning_waits", extra={"cause": str(error)})
            await self._agenda.put_off(due, now + _FIRST_PAUSE, type(error).__name__)
        except AgendaFailed:
            raise
        except Exception as error:  # noqa: BLE001 — the worker's loop: one conversation must not stop the others
            _log.exception("conversation_not_learnt")
            await self._failed(due, type(error).__name__)

    async def _failed(self, due: Due, reason: str) -> None:
        self._telemetry.bound("learning_failures", reason).inc()
        if due.tries + 1 >= _TRIES:
            _log.warning("conversation_given_up", extra={"reason": reason})
            await self._agenda.give_up(due, reason)
        else:
            await self._agenda.failed(due, time.time() + _FIRST_PAUSE * _PAUSE_GROWS**due.tries, reason)

    async def _learn(self, due: Due, now: float) -> None:
        scope = await self._registry.scope(due.scope)
        if scope is None or scope.kind not in _OWNED:
            await self._agenda.ended(due)
            return
        before, waiting = await self._messages(scope, due)
        for _ in range(_WINDOWS):
            if not waiting:
                await self._agenda.ended(due)
                return
            if await self._is_spent(scope, now):
                self._telemetry.bound("learned", "capped").inc()
                await self._agenda.put_off(due, (now // _DAY + 1) * _DAY, "capped")
                return
            window = window_of(before, waiting, self._config.window_tokens, self._count)
            if any(record.source in ("user", "tool") for record in window.new):
                asked = await self._asked(scope, items.INSTRUCTIONS, window.text, items.SCHEMA)
                if asked.found is None:
                    await self._not_answered(due, asked.failure)
                    return
                await self._keep(scope, due, window, asked.found)
            await self._agenda.learnt(due, window.new[-1].id, window.tokens)
            before, waiting = waiting[: len(window.new)], waiting[len(window.new) :]

    async def _messages(self, scope: Scope, due: Due) -> tuple[list[Record], list[Record]]:
        """What was looked at of a conversation, and what was not, in the order it was said."""
        said = await self._library.records(
            scope,
            lambda record: (
                record.session_id == due.session
                and record.kind in _KINDS
                and record.status == "activated"
                and SUSPICIOUS not in record.info
                and record.created_at > self._began - _ROUNDED
            ),
        )
        place = next((index for index, record in enumerate(said) if record.id == due.learnt), None)
        if place is None:
            place = sum(record.created_at < due.first - _ROUNDED for record in said) - 1
        return said[: place + 1], said[place + 1 :]

    async def _is_spent(self, scope: Scope, now: float) -> bool:
        tokens, cost = await self._agenda.spent(scope.value, int(now // _DAY))
        most, dearest = self._config.max_tokens_per_day, self._config.max_cost_per_day
        return (most > 0 and tokens >= most) or (dearest is not None and cost >= dearest)

    async def _asked(self, scope: Scope, instructions: str, material: str, schema: Mapping[str, Any]) -> Asked:
        """A question to the model, at the cost of a scope; a question that failed may have cost, too."""
        asked = await self._asker.consult(instructions, material, schema, timeout=self._config.timeout, most=_ANSWER)
        if asked.failure not in ("no_model", "unreachable"):
            tokens = asked.tokens or (len(instructions) + len(material)) // _CHARACTERS
            await self._agenda.spend(scope.value, int(time.time() // _DAY), tokens, asked.cost)
        if asked.failure not in _OUT:
            self._outage_pause = _OUTAGE_FIRST
        return asked

    async def _not_answered(self, due: Due, failure: str) -> None:
        """A model that is out lets all wait, each time longer; whatever else is this conversation's."""
        if failure in _OUT:
            self._outage_until = time.time() + self._outage_pause
            self._outage_pause = min(self._outage_pause * 2, _OUTAGE_LONGEST)
        if failure in ("unreachable", "no_model"):
            self._telemetry.bound("learning_failures", failure).inc()
            await self._agenda.put_off(due, self._outage_until, failure)
        else:
            await self._failed(due, failure)

    async def _keep(self, scope: Scope, due: Due, window: Window, found: Mapping[str, Any]) -> None:
        """What a model found, compared with what is known, written down."""
        read, dropped = items.read_items(found, window)
        for why, count in dropped.items():
            self._telemetry.bound("learned", why).inc(count)
        if not read:
            return
        compared = [(item, await self._near(scope, item)) for item in read]

        async def ask(material: str) -> Mapping[str, Any] | None:
            return (await self._asked(scope, reconcile.INSTRUCTIONS, material, reconcile.SCHEMA)).found

        decisions = await reconcile.decide(compared, ask)
        lesson = lesson_of(scope, due.session, decisions, time.time())
        added, again = await self._new(scope, due, lesson.added)
        await self._library.revise([*lesson.changed, *again], added)
        await self._unlearn(scope, added, {record.id for record in window.records})
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

    async def _new(self, scope: Scope, due: Due, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Those to be added, as plugins let them be stored, and those that were known once and come back."""
        if not records:
            return [], []
        known = {record.id: record for record in await self._library.known(scope, [one.id for one in records])}
        fresh = [record for record in records if record.id not in known]
        again = [learnt_again(record, known[record.id]) for record in records if record.id in known]
        turn = background_turn(scope, self._dialect, due.session, time.time())
        return list(await self._screen(turn, fresh)) if fresh else [], again

    async def _unlearn(self, scope: Scope, added: Sequence[Record], shown: Set[str]) -> None:
        """What was deleted while the model thought about it must not come back in other words."""
        if not added:
            return
        gone = shown - {record.id for record in await self._library.known(scope, shown)}
        doomed = [record for record in added if not gone.isdisjoint(record.links)]
        if doomed:
            self._telemetry.bound("learned", "gone").inc(len(doomed))
            await self._library.delete(doomed)
