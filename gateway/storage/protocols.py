"""The interfaces of the storage: what the rest of the gateway knows of it. Each has a local implementation, with SQLite
files and LanceDB tables in the data folder; `engine` and `app` choose it.

Every method that reads or writes raises StorageError. Times are seconds since 1970. A scope is given by its value, 64
hexadecimal digits, where no `Scope` is needed; an id has 32.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from gateway.memory.record import Record
from gateway.storage.record_log import RecordLog
from gateway.storage.rows import LoadedRows, Row, RowFormat
from gateway.storage.values import (
    DueConversation,
    KeptBlock,
    KnowledgeFile,
    Owner,
    PendingMessage,
    RegistryItem,
    ScopeSize,
    Task,
    UsageRow,
)
from gateway.turn import Scope

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Blocks",
    "ExtractionQueue",
    "Ledger",
    "MemoryTable",
    "Owners",
    "Prepare",
    "RecordLog",
    "Registry",
    "SmallFile",
]

Prepare = Callable[[list[Row]], Awaitable[list[Row]]]
"""Converts rows to the current format: computes their vectors and terms."""


class MemoryTable(Protocol):
    """All memories. A row has an id, and a version that grows with each change; the newest version counts, and a
    deletion is a version too (a tombstone). Reads give newest versions without tombstones, unless stated otherwise.

    Rows have a format (see `RowFormat`); those of a scope share one. The table is divided into parts, each of which is
    rebuilt as a whole for another format, while it is read and written.
    """

    @property
    def repaired(self) -> Sequence[str]:
        """What was damaged at the start, and repaired as far as it could be read."""

    @property
    def is_durable(self) -> bool:
        """True if rows are durable as soon as they are added, so that none can be missing after a crash."""

    def part_of(self, scope: str) -> int:
        """The part that a scope's rows are in."""

    async def open(self) -> None:
        """Open the table; takes seconds."""

    async def close(self) -> None: ...

    async def load(self, scope: Scope) -> LoadedRows:
        """All rows of a scope in order of creation."""

    async def find(self, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by their ids, in all scopes; the caller checks their owner."""

    async def find_ids(self, prefix: str, limit: int) -> list[str]:
        """Up to `limit` ids of all scopes that begin with 4 to 31 hexadecimal digits, also of tombstones."""

    async def near(self, scope: Scope, words: Sequence[str], vector: "NDArray[np.float32] | None") -> LoadedRows:
        """Candidate rows of a large scope for a query, with a background sample for scoring."""

    async def is_larger(self, scope: Scope, rows: int) -> bool:
        """True if a scope has more than `rows` rows; each version counts."""

    async def versions(self, records: Iterable[Record]) -> dict[str, tuple[int, str]]:
        """The newest version, also of tombstones, and the scope of each record by id; unknown ids are left out."""

    async def entries_since(self, seq: int) -> set[tuple[int, str]]:
        """Journal number and id of all rows, also of tombstones, that were entered in the journal from a number on."""

    async def deleted(self, records: Iterable[Record]) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The tombstones among these records: version and former links, by id."""

    async def sizes(self, scopes: Iterable[str]) -> dict[str, ScopeSize]:
        """The sizes of these scopes; those without rows are left out."""

    async def with_rows(self, scopes: Iterable[str]) -> set[str]:
        """Those of these scopes that have any rows, also only tombstones."""

    async def older(self, kind: str, before: float, limit: int) -> list[Record]:
        """Up to `limit` memories of a kind that were created before a moment. The kind `task`: messages that hand over
        a task and say nothing about the user, and the generic answers to them."""

    async def crowded(self, most: int, limit: int) -> list[Record]:
        """Up to `limit` of the oldest memories of scopes that have more than `most`."""

    async def add(self, rows: Sequence[Row]) -> None:
        """Add rows whose ids are new, or whose versions are newer than the stored ones. They can be read when this
        returns, and are durable after `sync`. Raises StorageError also for rows of a format that their scope no longer
        has."""

    async def put(self, rows: Sequence[Row]) -> list[Row]:
        """Add rows that may exist already, or may be older than the stored versions. Returns those that are current."""

    async def sync(self) -> None:
        """Make all rows durable that were added before this call."""

    async def probe(self, scope: str) -> None:
        """Check that a scope can be written and read now."""

    def maintain(self) -> AsyncIterator[None]:
        """Merge small writes, and rewrite parts that have grown; yields after each part that needed it."""

    async def purge(self, scopes: Iterable[str]) -> None:
        """Erase deleted and superseded rows of these scopes for good."""

    async def purge_older(self, before: float) -> int:
        """Erase rows for good that were deleted or superseded before a moment. Returns how many parts were rewritten;
        0 if there was nothing to do."""

    def format_of(self, scope: str) -> RowFormat:
        """The format of a scope's rows; rows that are added to it must have the same."""

    def outdated(self) -> Mapping[int, RowFormat]:
        """Parts with rows of an earlier format, with that format; those that other processes own as last read."""

    async def refresh(self) -> None:
        """Read again what other processes may have changed in their parts. Raises StorageError."""

    def owns(self, part: int) -> bool:
        """True if this process may rewrite a part now."""

    async def count(self, part: int) -> int:
        """The number of rows of a part; each version counts."""

    async def rebuild(self, part: int, prepare: Prepare) -> list[str]:
        """Rewrite a part in the current format: `prepare` converts its rows. Rows written meanwhile may wait for the
        next call. Returns the scopes in it."""


class Registry(Protocol):
    """Metadata beside memories: scopes with their owners, knowledge bases with files, tasks, profiles, settings.

    `changing` is held by those who read an item, change it and put it back.
    """

    changing: AbstractAsyncContextManager[None]
    on_drop: list[Callable[[], None]]
    """Called when scopes were dropped, which other processes may have cached."""

    def forget_cached(self) -> None:
        """Read scopes again, since another process has dropped some."""

    def knows(self, scope: Scope) -> bool:
        """True if a scope is registered, as far as that is known without a read."""

    async def add_scopes(self, scopes: Iterable[Scope]) -> None:
        """Register scopes. Recently registered ones cost no write."""

    async def drop_scope(self, scope: Scope) -> None: ...

    async def scope(self, value: str) -> Scope | None:
        """A scope by its value; None if it is not registered."""

    async def scopes(self, tenant: str | None = None) -> list[Scope]:
        """All scopes of a tenant, or of all tenants."""

    async def scopes_of_cube(self, tenant: str, cube_id: str) -> list[Scope]: ...

    async def scopes_of_owner(self, tenant: str, owner: str) -> list[Scope]: ...

    async def owned_scopes(self, tenant: str, containing: str, after: str, limit: int) -> list[Scope]:
        """The scopes of the first `limit` users after an id, by user; their ids contain a text, in any case."""

    async def forget_owner(self, tenant: str, owner: str) -> None:
        """Erase everything that names a user, for good."""

    async def forget_all(self, tenant: str | None) -> None:
        """Erase everything of a tenant (None: of all tenants) but settings that were changed at run time."""

    async def put_item(self, tenant: str, kind: str, id_: str, value: Mapping[str, Any]) -> None: ...

    async def item(self, tenant: str, kind: str, id_: str) -> RegistryItem | None: ...

    async def items(self, tenant: str, kind: str) -> list[RegistryItem]: ...

    async def drop_item(self, tenant: str, kind: str, id_: str) -> None: ...

    async def put_files(self, tenant: str, files: Sequence[tuple[KnowledgeFile, bytes]]) -> None:
        """Store files with their content, until `end_file` sets their final status."""

    async def end_file(self, tenant: str, id_: str, status: str, error: str = "") -> None: ...

    async def files(
        self, tenant: str, *, cube_id: str | None = None, ids: Sequence[str] = (), with_deleting: bool = False
    ) -> list[KnowledgeFile]:
        """The files of a knowledge base, or those of these ids, oldest first."""

    async def unfinished_files(self) -> list[tuple[str, str]]:
        """Tenant and id of files that are not processed yet, oldest first."""

    async def file_content(self, tenant: str, id_: str) -> bytes | None: ...

    async def drop_files(self, tenant: str, ids: Sequence[str]) -> None: ...

    async def put_task(self, tenant: str, task: Task) -> None: ...

    async def task(self, tenant: str, id_: str, user: str | None = None) -> Task | None:
        """A task by its id, which is unique to a user; the newest of the tenant if no user is named."""

    async def tasks(self, tenant: str, user: str | None = None) -> list[Task]:
        """Tasks of a tenant, or of one of its users, newest first; a thousand at most."""


class Blocks(Protocol):
    """Injected blocks by scope, session and turn, kept for a day. A lost one costs a miss of a prompt cache."""

    async def of(self, scope: str, session: str) -> dict[str, KeptBlock]:
        """The blocks of a conversation by turn, the oldest first."""

    async def put(self, scope: str, session: str, turn: str, block: KeptBlock) -> None: ...

    async def drop(self, scope: str, session: str, turns: Iterable[str]) -> None: ...

    async def purge(self, scopes: Iterable[str]) -> None:
        """Erase all blocks of these scopes, for good."""


class ExtractionQueue(Protocol):
    """Messages from which a model has not extracted facts yet, by conversation, and what extraction has cost."""

    @property
    def is_open(self) -> bool: ...

    async def open(self, now: float) -> None:
        """Open the queue, and retry dead-lettered messages once."""

    async def close(self) -> None: ...

    async def began(self) -> float:
        """When extraction was first enabled; messages from before that are never sent to a model."""

    async def begin(self, now: float) -> None:
        """Record that extraction was enabled now."""

    async def positions(self) -> Mapping[int, int]:
        """The journal's sequence numbers up to which all messages are noted, by part of the memory."""

    async def note(
        self, said: Sequence[PendingMessage], positions: Mapping[int, int], *, now: float, idle: float, window: int
    ) -> None:
        """Add messages, and record that all in the journal up to `positions` is noted. A conversation is due when it
        was idle for `idle` seconds, or at once when it holds `window` tokens."""

    async def due(self, now: float, limit: int, owns: Callable[[str], bool] | None = None) -> list[DueConversation]:
        """Conversations that are due, the longest due first; one of each scope. `owns`: only of these scopes."""

    async def next_due(self, owns: Callable[[str], bool] | None = None) -> float | None:
        """When the next conversation is due; None if none waits."""

    async def waiting(self, due: DueConversation, limit: int) -> list[tuple[int, str]]:
        """The oldest pending messages of a conversation: their journal numbers and ids."""

    async def learnt(self, due: DueConversation, seqs: Iterable[int], before: str) -> None:
        """Remove processed messages. `before`: ids of the last of them, as context for the messages that follow."""

    async def mark_deleted(self, seqs: Iterable[int]) -> None:
        """Remove messages that no longer exist."""

    async def ended(self, due: DueConversation) -> None:
        """Remove a conversation that has no pending messages; one with newer messages stays."""

    async def put_off(self, due: DueConversation, until: float, reason: str) -> None:
        """Postpone a conversation without counting a try, as for an outage."""

    async def failed(self, due: DueConversation, until: float, reason: str) -> None:
        """Postpone a conversation after a failed try, which counts."""

    async def give_up(self, due: DueConversation, seqs: Iterable[int]) -> None:
        """Dead-letter messages until the next start; later messages of the conversation are still processed."""

    async def counts(self) -> tuple[int, int]:
        """Numbers of waiting conversations, and of conversations with dead-lettered messages."""

    async def spend(self, scope: str, day: int, tokens: int, cost: float) -> None:
        """Add tokens and cost (US dollars) to a scope's day; negative to release a reserve. `day`: days since 1970."""

    async def spent(self, scope: str, day: int) -> tuple[int, float]:
        """Tokens and US dollars spent on a scope that day."""

    async def forget(self, scopes: Sequence[str], session: str | None = None) -> None:
        """Erase all entries of these scopes, or of one session in each, for good."""


class Owners(Protocol):
    """Owners of the responses and conversations that upstreams store for the gateway's users, by id."""

    def put(self, id_: str, owner: Owner) -> None:
        """Set an owner; it is stored in the background."""

    async def get(self, id_: str) -> Owner | None:
        """The owner of an id; None if it is not known. Never raises."""

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Erase all entries of a user (None: of all users)."""


class Ledger(Protocol):
    """Requests, tokens and cost by hour, key, user, model and upstream."""

    def note(self, used: UsageRow, *, tenant: str, key: str, user: str, model: str, upstream: str) -> None:
        """Add the usage of one request; it is stored in the background."""

    async def read(
        self, by: Sequence[str], *, tenant: str | None, since: float, until: float, only: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """Sum usage by each combination of some dimensions between two moments, the largest first. `only`: required
        values of dimensions. Raises ValueError for an unknown dimension."""

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Anonymise the usage of a user (None: of all users)."""


class SmallFile(Protocol):
    """A small document that is read and replaced as a whole. Both methods block: call them in a thread."""

    @property
    def name(self) -> str:
        """Where it is stored, for messages to the operator."""

    def read(self) -> bytes:
        """Raises FileNotFoundError if it was never written, else OSError."""

    def write(self, content: bytes) -> None:
        """Replace it atomically and durably. Raises OSError."""
