"""Turns finished exchanges into records in the journal, durable before the client sees the end.

Stored are the user's messages of the turn, and the answer's text if it is complete. Reasoning and text that programs
write in the user's name are left out, and so are tool calls unless `keeps_calls`; a step of a tool loop adds only its
final answer. A message repeated within two minutes (client retries) is stored once; one that a request repeats as part
of its turn, once per conversation. Ids are derived from the turn's id, so that replaying a turn is idempotent.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import partial

from gateway.concurrency.offload import offload
from gateway.config import RememberConfig
from gateway.errors import PluginUnavailable
from gateway.formats.base import Answer, Outcome, ToolCall
from gateway.formats.tool_calls import calls_after
from gateway.memory.record import Details, Record, memory_id, message_id
from gateway.remember.chunks import PASSAGE, USER_MESSAGE, pieces
from gateway.remember.pasted import is_pasted
from gateway.remember.preferences import ABOUT_ONESELF, EXPLICIT, is_whole_and_short, preferences
from gateway.remember.retry_queue import RetryQueue
from gateway.storage.errors import StorageError
from gateway.storage.protocols import RecordLog, Registry
from gateway.storage.values import Claim
from gateway.telemetry import Telemetry
from gateway.text.dates import find_period, zone_offset
from gateway.text.injection import suspicions
from gateway.text.media import without_media
from gateway.turn import Identity, Scope, Turn

__all__ = ["SAME_WITHIN", "Remember", "StoreHook"]

StoreHook = Callable[[Turn, Sequence[Record]], Awaitable[Sequence[Record]]]

_log = logging.getLogger("gateway.remember")
SAME_WITHIN = 120.0
"""Seconds within which the same message is a repetition by a client that retries."""
_KNOWN_FOR = 86_400.0  # seconds that another process knows a message of a conversation
_CONVERSATIONS = 10_000  # conversations whose last journal number is kept
_RECENT = 50_000  # messages that are recognised if repeated
_COMMIT_TIMEOUT = 5.0
_TOOL_NAME = 100  # characters


class Remember:
    """Writes the records of turns to the journal. `hook` passes records to plugins before the journal. `is_shared`:
    other processes append to the journal, too, and repetitions are recognised there as well."""

    def __init__(
        self,
        journal: RecordLog,
        registry: Registry,
        config: RememberConfig,
        telemetry: Telemetry,
        hook: StoreHook,
        *,
        zone: tzinfo = UTC,
        is_shared: bool = False,
    ) -> None:
        self.zone = zone
        self._is_shared = is_shared
        self._journal = journal
        self._registry = registry
        self._config = config
        self._telemetry = telemetry
        self._hook = hook
        self._late = RetryQueue(self._commit, telemetry)
        self._recent: OrderedDict[tuple[str, str, str, str], float] = OrderedDict()
        self._first: OrderedDict[str, int] = OrderedDict()  # journal numbers by scope
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()  # journal numbers by scope and session
        self.keeps_calls = False  # store tool calls, because extraction from them is enabled

    async def remember(self, turn: Turn, answer: Answer) -> bool:
        """Commit a turn. False if it could not be stored now: it is retried, and the chat does not fail."""
        records = self.records_of(turn, answer)
        if not records:
            return True
        if turn.trace is None:
            return not await self._store(turn, records)
        began = time.perf_counter()
        cause = await self._store(turn, records)
        turn.trace.add_upsert(began, len(records), cause)
        return not cause

    async def _store(self, turn: Turn, records: Sequence[Record]) -> str:
        """Commit the records of a turn. Returns the cause if they could not be stored now, else an empty text."""
        try:
            await self._commit(turn, records)
        except (StorageError, TimeoutError) as error:
            _log.error("turn_deferred", extra={"turn": turn.id, "cause": str(error) or "timeout"})
            self._late.put(turn, records)
            self._note_recent(records)  # a retry by the client still counts as a repetition
            return "timeout" if isinstance(error, TimeoutError) else "store"
        except PluginUnavailable as error:
            self._telemetry.bound("remembered", "failed").inc(len(records))
            _log.error("turn_not_remembered", extra={"turn": turn.id, "cause": str(error)})
            return "plugin"
        return ""

    @property
    def is_late(self) -> bool:
        """True while turns wait for the journal to accept them."""
        return self._late.is_waiting

    async def stop(self) -> None:
        await self._late.stop()

    async def add(self, turn: Turn, records: Sequence[Record], same_within: float = 0.0) -> list[Record]:
        """Commit records that a client asked to store, and return the stored ones. `same_within`: seconds within which
        another gateway may have stored them, for clients that retry. Raises StorageError, TimeoutError or
        PluginUnavailable."""
        return await self._commit(turn, records, same_within)

    async def change(self, records: Sequence[Record]) -> None:
        """Commit new versions of stored records. Raises StorageError or TimeoutError."""
        async with asyncio.timeout(_COMMIT_TIMEOUT):
            await self._journal.append(records)
        self._telemetry.bound("remembered", "changed").inc(len(records))
        scopes = {record.scope for record in records if record.status == "deleted"}
        if scopes:
            self.forget_recent(scopes)
            await self._journal.drop_claims(scopes)

    def forget_recent(self, scopes: Collection[str]) -> None:
        """Forget which messages of these scopes were stored a moment ago: a deleted message may be sent again."""
        for name in [name for name in self._recent if name[0] in scopes]:
            del self._recent[name]

    async def screened(self, turn: Turn, records: Sequence[Record]) -> Sequence[Record]:
        """The records to store after the plugins' store hook. Raises PluginUnavailable."""
        return await self._hook(turn, records)

    async def _commit(self, turn: Turn, records: Sequence[Record], same_within: float = 0.0) -> list[Record]:
        try:
            stored = await self._screen_and_append(turn, records, same_within)
        except BaseException:
            for record in records:
                self._recent.pop(_fingerprint(record), None)  # it was not stored: a retry is no repetition
            raise
        self._note_recent(records)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return stored

    async def _screen_and_append(self, turn: Turn, records: Sequence[Record], same_within: float) -> list[Record]:
        began = time.perf_counter()
        screened = await self._hook(turn, records)
        size = sum(len(record.text) for record in screened)
        stored, pasted_count = await offload(partial(_analyse, screened, self._config.preferences), size)
        if pasted_count:
            self._telemetry.bound("suspicious", "pasted_preference").inc(pasted_count)
        for record in stored:
            for kind in record.suspicious if not record.part and not record.links else ():
                self._telemetry.bound("suspicious", kind).inc()
        new = await self._note_scopes(turn)
        claims = _build_claims(turn, records, stored, same_within) if self._is_shared else None
        async with asyncio.timeout(_COMMIT_TIMEOUT):
            seq = await self._journal.append(stored, claims=claims)
        self._note_last(turn, new, seq)
        self._telemetry.bound("remembered", "kept").inc(len(stored))
        self._telemetry.bound("stage", "remember").observe(time.perf_counter() - began)
        return stored

    def last_of(self, identity: Identity) -> int:
        """The journal number of the last record of a conversation; 0 if that was long ago."""
        return max((self._last.get((scope.value, identity.session_id), 0) for scope in identity.writes), default=0)

    def first_of(self, scope: Scope) -> int:
        """The journal number of the first record of a scope that this process created; 0 if it did not, or long ago."""
        return self._first.get(scope.value, 0)

    def _note_last(self, turn: Turn, new: Sequence[Scope], seq: int) -> None:
        self._first.update((scope.value, seq) for scope in new)
        while len(self._first) > _CONVERSATIONS:
            self._first.popitem(last=False)
        for scope in turn.identity.writes if turn.identity else ():
            self._last[scope.value, turn.identity.session_id if turn.identity else ""] = seq
        while len(self._last) > _CONVERSATIONS:
            self._last.popitem(last=False)

    async def _note_scopes(self, turn: Turn) -> list[Scope]:
        """Register new scopes and return them. A failure is only logged: no memory is lost for it."""
        scopes = turn.identity.writes if turn.identity else ()
        unknown = [scope for scope in scopes if not self._registry.knows(scope)]
        if not unknown:
            return []
        try:
            new = [scope for scope in unknown if await self._registry.scope(scope.value) is None]
            await self._registry.add_scopes(unknown)
        except StorageError as error:
            _log.error("scope_not_registered", extra={"cause": str(error)})
            return []
        return new

    def records_of(self, turn: Turn, answer: Answer) -> list[Record]:
        """The records of a turn, without those stored a moment ago."""
        ask = turn.ask
        if turn.identity is None or not turn.mode.writes or ask.is_task or (ask.is_unsaid and not ask.is_step):
            return []
        messages = () if ask.is_step else ask.messages
        is_whole = answer.outcome is Outcome.COMPLETE
        has_answer = answer.text and not answer.has_tool_calls and (is_whole or self._config.partial_answers)
        last = len(messages) - (0 if ask.is_repeated else 1)
        records = []
        for scope in turn.identity.writes:
            user_records = [self.make(turn, scope, "user", text, index=index) for index, text in enumerate(messages)]
            records += [
                record for index, record in enumerate(user_records) if index >= last or not self._is_known(record)
            ]
            if has_answer:
                text_record = self.make(turn, scope, "assistant", answer.text or "")
                records.append(replace(text_record, is_partial=not is_whole))
        if self.keeps_calls and turn.ask.is_step and not answer.has_tool_calls:
            calls = calls_after(turn.ask.user_turns, turn.body.get(turn.wire_format.messages_field))
            records += [record for scope in turn.identity.writes for record in self.calls_of(turn, scope, calls)]
        return self.without_repeated(records)

    def calls_of(self, turn: Turn, scope: Scope, calls: Sequence[ToolCall], first: int = 0) -> list[Record]:
        """The records of tool calls: name, arguments and result. `first`: the index of the first among several
        records."""
        return [
            replace(
                self.make(
                    turn,
                    scope,
                    "tool",
                    f"{call.name}({call.arguments}) -> {call.result}",
                    index=first + number,
                ),
                kind="tool",
                details=Details(used_tool=call.name[:_TOOL_NAME]),
            )
            for number, call in enumerate(calls)
        ]

    def without_repeated(self, records: Sequence[Record]) -> list[Record]:
        """Drop messages stored within the last two minutes: clients retry, also before the first answer."""
        new = [record for record in records if not self._is_repeated(record)]
        self._note_recent(new)
        return new

    def make(
        self,
        turn: Turn,
        scope: Scope,
        source: str,
        text: str,
        *,
        at: float | None = None,
        offset: float | None = None,
        index: int = 0,
    ) -> Record:
        """The record of one message, with the metadata of its turn. `at` is the time of the message (default: now),
        `offset` its time zone (seconds east of UTC; default: the configured one), `index` its place among several."""
        assert turn.identity is not None  # noqa: S101 — callers have asked
        raw = without_media(text).encode("utf-8", "replace")[: self._config.max_message_bytes]
        text = raw.decode("utf-8", "ignore").strip()
        said_at = turn.received_at if at is None else at
        offset = zone_offset(self.zone, said_at) if offset is None else offset
        about = find_period(text, said_at, offset) if source == "user" else None
        return Record(
            id=memory_id(scope.value, turn.id, source, str(index)),
            scope=scope.value,
            cube_id=scope.cube_id,
            user_id=turn.identity.user_id,
            session_id=turn.identity.session_id,
            kind="turn",
            source=source,
            text=text,
            event_time=said_at,
            created_at=turn.received_at,
            updated_at=turn.received_at,
            message_id=message_id(text),
            agent_id=turn.agent_id,
            app_id=turn.app_id,
            tags=tuple(turn.tags),
            about=about,
            utc_offset=offset,
            metadata=turn.metadata,
        )

    def _note_recent(self, records: Sequence[Record]) -> None:
        """Remember the fingerprints of these records, to recognise repetitions."""
        self._recent.update((_fingerprint(record), record.created_at) for record in records)

    def _is_known(self, record: Record) -> bool:
        """True for a message of this conversation that was stored before: one of the last `_RECENT`, of any age."""
        return _fingerprint(record) in self._recent

    def _is_repeated(self, record: Record) -> bool:
        last = self._recent.get(_fingerprint(record))
        return last is not None and 0 <= record.created_at - last < SAME_WITHIN


def _fingerprint(record: Record) -> tuple[str, str, str, str]:
    said_at = "" if record.event_time == record.created_at else str(record.event_time)  # another time: another message
    return record.scope, record.session_id, record.source + said_at, record.message_id


def _build_claims(
    turn: Turn, records: Sequence[Record], stored: Iterable[Record], same_within: float
) -> dict[str, Claim]:
    """The claims of a turn to what is stored of its `records`, by id. A message that a client asked to store is refused
    only `same_within` seconds after the same one; one that a chat repeats as part of its turn is, for as long as claims
    are kept."""
    if not turn.ask.messages:
        return {record.id: _build_claim(turn, record, same_within) for record in stored}
    earlier = turn.ask.messages if turn.ask.is_repeated else turn.ask.messages[:-1]
    names = {message_id(text.strip()) for text in earlier}
    seconds = {record.id: SAME_WITHIN if record.message_id not in names else _KNOWN_FOR for record in records}
    return {
        record.id: _build_claim(turn, record, seconds.get(record.links[0] if record.links else record.id, SAME_WITHIN))
        for record in stored
    }


def _build_claim(turn: Turn, record: Record, seconds: float) -> Claim:
    name = repr((*_fingerprint(record), record.part))
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Claim(digest, turn.id, record.created_at, seconds, record.scope)


def _analyse(records: Sequence[Record], with_preferences: bool) -> tuple[list[Record], int]:
    """The records to store: marked if they read like instructions, split into chunks, followed by the preferences that
    they state; and the number of preferences left out as possibly not the user's. Takes time in proportion to the
    text."""
    marked = [
        replace(record, suspicious=kinds) if kinds else record
        for record, kinds in ((record, suspicions(record.text)) for record in records)
    ]
    stored = [piece for record in marked for piece in _split_record(record)]
    if not with_preferences:
        return stored, 0
    stated = [(record, preference) for record in stored for preference in _build_preferences(record)]
    accepted = [preference for record, preference in stated if not is_pasted(record.text, preference.text)]
    return [*stored, *accepted], len(stated) - len(accepted)


def _split_record(record: Record) -> list[Record]:
    """A message split into chunks for recall; its message id is that of the text as stored."""
    chunks = pieces(record.text, USER_MESSAGE if record.source == "user" else PASSAGE)
    name = message_id(record.text)
    if chunks == [record.text] and record.message_id == name and not record.part:
        return [record]
    return [
        replace(
            record,
            id=record.id if part == 0 else memory_id(record.scope, record.id, str(part)),
            text=text,
            part=part,
            message_id=name,
        )
        for part, text in enumerate(chunks)
    ]


def _build_preferences(record: Record) -> list[Record]:
    """Records of the preferences and traits that a user's message states, linked to the message."""
    if record.kind != "turn" or record.source != "user":
        return []
    # a long message may be pasted, and other people's wishes must not become the user's
    is_own = is_whole_and_short(record)
    return [
        replace(
            record,
            id=memory_id(record.scope, record.id, "preference", str(index)),
            kind="profile" if preference.topic == ABOUT_ONESELF else "preference",
            text=preference.text,
            message_id=message_id(preference.text),
            part=0,
            links=(record.id,),
            details=Details(
                topic=preference.topic,
                trait=preference.trait,
                is_standing=is_own,
                preference_type="" if preference.trait else EXPLICIT,
                reasoning=f"The user said so: {preference.text}",
            ),
        )
        for index, preference in enumerate(preferences(record.text))
    ]
