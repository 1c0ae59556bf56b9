"""Lifecycle of the memory subsystem: opens its parts before the port, loads heavy ones after it, closes in order.

Heavy parts (LanceDB, embedder, tokenizer) are loaded after the port is open; until then chats are served without
memory. A part that fails to start is retried until it succeeds.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from gateway import process
from gateway.barrier import WriteBarrier
from gateway.concurrency.listeners import Listener
from gateway.config import Config
from gateway.embedding.calibration import Calibrations
from gateway.embedding.embedders import EmbedFailed
from gateway.embedding.kinds import Embedders
from gateway.extraction.fact_writer import FactWriter
from gateway.extraction.worker import ExtractionWorker
from gateway.llm.client import ModelClient
from gateway.maintenance.forget import Forgetter
from gateway.maintenance.recovery import recover
from gateway.maintenance.reindex import Reindexer
from gateway.maintenance.retention import Retention
from gateway.maintenance.transfer import Transfer
from gateway.plugin_host import PluginHost
from gateway.prompt.pinned import PinnedBlocks
from gateway.prompt.tokens import DEFAULT_ENCODING, Tokenizer
from gateway.recall.recall import Recall
from gateway.recall.startup import Startup
from gateway.remember.ingestion import Ingestion
from gateway.remember.remember import Remember
from gateway.remember.row_builder import RowBuilder
from gateway.remember.writer import Writer
from gateway.service.memories import MemoryService
from gateway.service.sizes import ScopeSizes
from gateway.service.standing import StandingLimit
from gateway.sharing import FollowerLink, OwnerLink, share_blocks
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.folder import DataFolder, remove_damaged_files
from gateway.storage.lance.store import MemoryStore
from gateway.storage.local_file import LocalFile
from gateway.storage.rows import Row, RowFormat
from gateway.storage.sqlite.blocks import SqliteBlocks
from gateway.storage.sqlite.database import Sharing
from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.registry import SqliteRegistry
from gateway.telemetry import Telemetry
from gateway.text.terms import TERMS_VERSION
from gateway.workers.peers import Peers

if TYPE_CHECKING:
    from gateway.recall.shared_sets import OwnersSets
    from gateway.recall.working_sets import WorkingSets

    _Sets = TypeVar("_Sets", bound=WorkingSets)

__all__ = ["MemoryEngine"]

_log = logging.getLogger("gateway.memory")
_STOP_TIMEOUT = 10.0
_RETRY_PAUSE = 2.0
_FIRST_SNAPSHOT_TIMEOUT = 30.0  # seconds that other workers wait for entries of earlier processes


class MemoryEngine:
    """The memory subsystem: owns its parts, background workers and files.

    Call `open` before listening, `load` after it, then `stop` and `close` at the end. `on_change` callbacks get the
    scopes of memories that were changed or deleted.
    """

    def __init__(self, config: Config, telemetry: Telemetry, plugins: PluginHost, peers: Peers) -> None:
        memory = config.memory
        self.folder = data = config.data_folder
        self._config = config
        self._telemetry = telemetry
        self._peers = peers
        self._data = DataFolder(data)
        is_owner = peers.is_owner
        sharing = (Sharing.OWNER if is_owner else Sharing.FOLLOWER) if peers.is_shared else Sharing.NONE
        max_backlog = memory.remember.max_backlog_mb * 2**20
        self.journal = Journal(data / "journal.sqlite", max_backlog, self._note_append, sharing=sharing)
        self.registry = SqliteRegistry(data / "registry.sqlite", is_owner=is_owner)
        self.blocks = SqliteBlocks(data / "blocks.sqlite", is_owner=is_owner)
        self.tokenizer = Tokenizer(data / "tokenizers")
        scales = LocalFile(data / "scales.json")
        self._scales = Calibrations(scales.read, scales.write if is_owner else _write_nothing)
        self._plugins = plugins
        self.state = "loading" if memory.enabled else "off"
        self.startup = Startup(lambda: self.state, memory.recall.start_wait)
        self.on_change: list[Listener[Collection[str]]] = [plugins.on_memory_change]
        self.reindexer: Reindexer | None = None
        self._learner: ExtractionWorker | None = None
        self.retention: Retention | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stops = AsyncExitStack()

    async def open(self, embedders: Callable[[Calibrations], Embedders]) -> None:
        """Open the parts that the first request needs. Raises FolderRefused; `load` retries a journal that fails to
        open."""
        memory = self._config.memory
        self._stops.callback(self._data.close)
        await asyncio.to_thread(self._scales.read)
        self._embedders = embedders(self._scales)
        self._stops.push_async_callback(self._embedders.stop)
        embedder = self._embedders.current
        row_format = RowFormat(embedder.name, embedder.dimensions, TERMS_VERSION)
        self._store = MemoryStore(self._data, row_format, is_reader=not self._peers.is_owner)
        self._stops.push_async_callback(self._store.close)
        if memory.enabled:
            settings = memory.buckets, embedder.name, embedder.dimensions
            await asyncio.to_thread(self._data.open, *settings, is_locked=self._peers.is_shared)
        self._stops.push_async_callback(self._close_journal)
        self._build_parts()
        if not memory.enabled:
            return
        try:
            await self.journal.open()
            await self.registry.open()
        except StorageError as error:
            _log.error("memory_part_failed", extra={"part": "journal", "cause": str(error)})
        try:
            await self.blocks.open()
        except StorageError as error:  # prompts are then as with placement `tail`
            _log.error("memory_part_failed", extra={"part": "blocks", "cause": str(error)})

    def _build_parts(self) -> None:
        memory = self._config.memory
        self.remember = Remember(
            self.journal,
            self.registry,
            memory.remember,
            self._telemetry,
            self._plugins.on_store,
            zone=memory.zone,
            is_shared=self._peers.is_shared,
        )
        barrier = self.barrier = WriteBarrier(self.journal, self.remember, self.ready)
        self.recall = Recall(
            self._embedders, memory.recall, self._telemetry, self.startup, barrier.await_first, zone=memory.zone
        )
        self.on_change.append(self.recall.forget_steps)
        self.memory_service = MemoryService(
            self._store,
            self.registry,
            self.remember.add,
            self.remember.change,
            searchable=barrier.searchable,
            drained=barrier.drained,
            on_change=self.on_change,
            startup=self.startup,
        )
        self.sizes = ScopeSizes(self._store, barrier.searchable)
        self.sticky = PinnedBlocks(self.blocks, self.memory_service.versions, memory.recall.cold_deadline_ms / 1000)
        self.on_change.append(self.sticky.forget)
        self.ingestion = Ingestion(self.registry, self.remember, barrier.searchable, self.memory_service.delete_file)
        parts = (self.journal, self._store, self.registry)
        self.transfer = Transfer(
            *parts, screen=self.ingestion.screened, settled=barrier.settle, on_change=self.on_change
        )
        self.forgetter = Forgetter(
            *parts,
            delete=self.memory_service.delete,
            settled=barrier.settle,
            drop=self._drop_sets,
            blocks=self.blocks,
            remove_damaged=partial(remove_damaged_files, self.folder),
        )
        if self._peers.is_shared:
            self._share()

    def _share(self) -> None:
        """Connect the memory with those of the other workers."""
        share_blocks(self._peers, self.sticky)
        if self._peers.is_owner:
            self.on_change.append(OwnerLink(self._peers, self, self.barrier.searchable).publish_changes)
        else:
            self.on_change.append(self.remember.forget_recent)
            self.barrier.follower = FollowerLink(self._peers, self, self.on_change)

    def learn(self, model_client: ModelClient) -> None:
        """Set up extraction of facts from conversations with a model. Call it before `load`."""
        self.remember.keeps_calls = self._config.memory.extraction.tools
        if not self._peers.is_owner:
            return
        self._learner = ExtractionWorker(
            agenda=SqliteExtractionQueue(self.folder / "learning.sqlite"),
            memory_service=self.memory_service,
            registry=self.registry,
            model_client=model_client,
            config=self._config.memory.extraction,
            telemetry=self._telemetry,
            notebook=FactWriter(self.memory_service, self._telemetry, self.recall.search, self.ingestion.screened),
            kept=self.journal.retained,
            count=self._count,
        )
        self.forgetter.on_scopes.append(self._learner.forget)

    def load(self) -> None:
        """Start loading the heavy parts in the background."""
        if self._config.memory.enabled:
            self._loading = asyncio.create_task(self._load(), name="loading")
        else:
            process.settle()

    async def stop(self) -> None:
        """Stop the background workers; all messages are already in the journal."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading], timeout=_STOP_TIMEOUT)
        await self.ingestion.stop()
        if self._learner is not None:
            await self._learner.stop()
        await self.forgetter.stop()
        await self.remember.stop()
        if self.barrier.follower is not None:
            await self.barrier.follower.stop()
            if self.state == "ready":
                await self._replica.stop()
                await self._sets.stop()
        if self.reindexer is not None:
            await self.reindexer.stop()
        if self.barrier.writer is not None:
            if self.retention is not None:
                await self.retention.stop()
            await self.barrier.writer.stop()
            await self.sizes.stop()
            await self._standing.stop()  # after the writer, which starts it
            await self._sets.stop()

    async def close(self) -> None:
        """Close the files, in reverse order of opening."""
        await self._stops.aclose()

    async def _close_journal(self) -> None:
        try:
            await self.journal.close()
            await self.registry.close()
            await self.blocks.close()
        except StorageError as error:
            _log.error("journal_close_failed", extra={"cause": str(error)})

    async def ready(self, timeout: float) -> bool:
        """Wait until the memory is loaded. False if it took longer."""
        if self._loading is not None:
            await asyncio.wait([self._loading], timeout=timeout)
        return self.state in ("ready", "off")

    async def _load(self) -> None:
        """Load the heavy parts, retrying each until it succeeds, then start the workers."""
        await self._retry_until_started("journal", self.journal.open)  # returns at once if it is open
        await self._retry_until_started("registry", self.registry.open)
        await asyncio.gather(
            self._retry_until_started("tokenizer", lambda: asyncio.to_thread(self.tokenizer.load)),
            self._retry_until_started("embedder", self._embedders.current.start),
            self._retry_until_started("store", self._store.open),
        )
        for name in {row_format.embedder for row_format in self._store.outdated().values()}:
            earlier = await asyncio.to_thread(self._embedders.named, name)
            if earlier is not None:
                await self._retry_until_started("embedder", earlier.start)
        if self.barrier.follower is None:
            await self._load_sets()
        else:
            await self._follow_owner(self.barrier.follower)
        self.recall.ready(self._sets)
        self.memory_service.ready(self._sets)
        self.state = "ready"
        self.startup.end()
        process.settle()
        _log.info("memory_ready", extra={"embedder_code": self._embedders.code})

    async def _load_sets(self) -> None:
        """Set up the working sets, and start the workers that write."""
        from gateway.recall.shared_sets import OwnersSets  # noqa: PLC0415 — imports numpy: after the port is open
        from gateway.recall.working_sets import WorkingSets  # noqa: PLC0415 — as above

        self._sets = self._build_sets(OwnersSets if self._peers.is_shared else WorkingSets)
        if isinstance(self._sets, OwnersSets):
            self._sets.share(self._peers)
        self._standing = StandingLimit(self.memory_service, self._sets)
        writer = self.barrier.writer = Writer(
            self.journal,
            self._store,
            RowBuilder(self._embedders, self._store.format_of, self._count),
            self._sets,
            self._telemetry,
            on_stored=self._note_stored,
            batch_window=self._config.memory.remember.batch_window_ms / 1000,
        )
        await self._retry_until_started("store", lambda: recover(self.journal, self._store))
        await self._sets.mark_deleted(await self.journal.tombstones())
        await writer.start()
        if isinstance(self._sets, OwnersSets):
            self._publishing = asyncio.create_task(self._publish_snapshot(writer, self._sets))
        self.sizes.ready(self._sets)
        self.ingestion.start()
        if self._learner is not None:
            self._learner.start()
        self._start_maintenance()

    def _build_sets(self, kind: "type[_Sets]") -> "_Sets":
        recall = self._config.memory.recall
        return kind(
            self._store,
            self._telemetry,
            max_rows=recall.working_set_rows,
            max_bytes=recall.working_set_mb * 2**20,
        )

    @staticmethod
    async def _publish_snapshot(writer: Writer, sets: "OwnersSets") -> None:
        """Let the other workers start from what this one has, once it has the entries of earlier processes."""
        await writer.searchable(_FIRST_SNAPSHOT_TIMEOUT)
        sets.publish_snapshot()

    async def _follow_owner(self, follower: FollowerLink) -> None:
        """Set up the working sets as a copy of the owner's."""
        from gateway.recall.shared_sets import SetsReplica  # noqa: PLC0415 — as above
        from gateway.recall.working_sets import WorkingSets  # noqa: PLC0415

        self._sets = self._build_sets(WorkingSets)
        is_complete = asyncio.Event()
        self._replica = SetsReplica(self._peers, self._sets, is_complete.set)
        self._replica.start()
        follower.start()
        await is_complete.wait()

    def _start_maintenance(self) -> None:
        self.retention = Retention(
            self._store,
            self._config.memory.retention,
            self._telemetry,
            expire=self.memory_service.expire,
            scrub=self.journal.purge,
        )
        self.retention.start()
        self.reindexer = Reindexer(self._store, self._embedders, self._count, self._sets.drop)
        if self.reindexer.is_free:
            self.reindexer.start()
        else:
            _log.warning("reindex_needed", extra={"embedder": self._embedders.current.name})

    async def _retry_until_started(self, part: str, start: Any) -> None:
        while True:
            try:
                await start()
            except (StorageError, EmbedFailed, OSError, ValueError) as error:
                self.state = f"degraded: {part}"
                _log.error("memory_part_failed", extra={"part": part, "cause": f"{failure_name(error)}: {error}"})
                await asyncio.sleep(_RETRY_PAUSE)
            else:
                return

    def _count(self, text: str) -> int:
        return self.tokenizer.count(text, DEFAULT_ENCODING)

    async def _note_stored(self, rows: Sequence[Row]) -> None:
        if self._learner is not None:
            self._learner.note(rows)
        self._standing.note(rows)
        self.sizes.note(rows)

    def _drop_sets(self, scopes: Iterable[str]) -> None:
        self._sets.drop(scopes)

    def _note_append(self) -> None:
        if self.barrier.writer is not None:
            self.barrier.writer.wake()
        elif self.barrier.follower is not None:
            self.barrier.follower.note_append()

    async def is_extraction_idle(self) -> bool:
        """True if no message waits for extraction, and none was given up."""
        return self._learner is None or await self._learner.is_idle()

    def report(self) -> dict[str, Any]:
        """The state of the memory, for `/ready`."""
        learner = self._learner
        learning = {} if learner is None else {"learning": {"waiting": learner.waiting, "aside": learner.aside}}
        return {
            "memory": self.state,
            "embedder_code": self._embedders.code,
            **learning,
            "mended": list(self._store.repaired),
            "reindex": "unknown" if self.reindexer is None else self.reindexer.progress.state,
            "journal_backlog": self.journal.backlog_entries,
            "journal_aside": self.journal.aside_entries,
        }


def _write_nothing(content: bytes) -> None:
    """The owner of the folder writes the file."""
