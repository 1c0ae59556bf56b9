"""Lifecycle of the memory subsystem: opens its parts before the port, loads heavy ones after it, closes in order.

Heavy parts (LanceDB, embedder, tokenizer) are loaded after the port is open; until then chats are served without
memory. A part that fails to start is retried until it succeeds.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from gateway import process
from gateway.concurrency.listeners import Listener
from gateway.config import Config
from gateway.embedding.calibration import Calibrations
from gateway.embedding.embedders import EmbedFailed
from gateway.embedding.kinds import Embedders
from gateway.extraction.fact_writer import FactWriter
from gateway.extraction.worker import ExtractionWorker
from gateway.llm.client import ModelClient
from gateway.maintenance.forget import Forgetter
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
from gateway.roles.barrier import WriteBarrier
from gateway.roles.folder_roles import FollowerRole, OwnerRole
from gateway.roles.replica_role import ReplicaRole
from gateway.roles.role import BuiltParts, LoadedParts, MemoryRole
from gateway.service.memories import MemoryService
from gateway.service.sizes import ScopeSizes
from gateway.service.standing import StandingLimit
from gateway.storage.errors import StorageError, failure_name
from gateway.storage.local_file import LocalFile
from gateway.storage.rows import Row, RowFormat
from gateway.telemetry import Telemetry
from gateway.text.terms import TERMS_VERSION
from gateway.workers.peers import Peers

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets

__all__ = ["MemoryEngine"]

_log = logging.getLogger("gateway.memory")
_STOP_TIMEOUT = 10.0
_RETRY_PAUSE = 2.0
_LOOK_EVERY = 2.0  # seconds between two looks for files that were uploaded to other replicas


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
        self._role = build_role(config, telemetry, peers)
        self._storage = self._role.storage
        self.journal, self.registry = self._storage.journal, self._storage.registry
        self.blocks = self._storage.blocks
        self.bus = self._role.bus
        self.tokenizer = Tokenizer(data / "tokenizers")
        scales = LocalFile(data / "scales.json")
        self._scales = Calibrations(scales.read, scales.write if peers.is_owner else _write_nothing)
        self._plugins = plugins
        self.state = "loading" if memory.enabled else "off"
        self.startup = Startup(lambda: self.state, memory.recall.start_wait)
        self.on_change: list[Listener[Collection[str]]] = [plugins.on_memory_change]
        self.reindexer: Reindexer | None = None
        self._learner: ExtractionWorker | None = None
        self.retention: Retention | None = None
        self._sets: WorkingSets | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stops = AsyncExitStack()

    async def open(self, embedders: Callable[[Calibrations], Embedders]) -> None:
        """Open the parts that the first request needs. Raises FolderRefused or ConfigError; `load` retries a journal
        that fails to open."""
        memory = self._config.memory
        self._stops.push_async_callback(self._storage.release)
        await asyncio.to_thread(self._scales.read)
        self._embedders = embedders(self._scales)
        self._stops.push_async_callback(self._embedders.stop)
        embedder = self._embedders.current
        self._store = self._storage.build_store(RowFormat(embedder.name, embedder.dimensions, TERMS_VERSION))
        self._stops.push_async_callback(self._store.close)
        if memory.enabled:
            await self._storage.prepare(memory.new_buckets)
        self._stops.push_async_callback(self._close_storage)
        self._build_parts()
        if not memory.enabled:
            return
        try:
            for _, open_part in self._storage.parts:
                await open_part()
        except StorageError as error:
            _log.error("memory_part_failed", extra={"part": "journal", "cause": str(error)})
        try:
            await self._storage.open_blocks()
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
            is_shared=self._role.is_shared,
        )
        barrier = self.barrier = WriteBarrier(self._role, self.remember, self.ready)
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
            change_lock=self._role.change_lock,
        )
        self.sizes = ScopeSizes(self._store, barrier.searchable, is_shared=not self._role.stores_all)
        deadline = memory.recall.cold_deadline_ms / 1000
        self.sticky = PinnedBlocks(self.blocks, self.memory_service.versions, deadline, is_shared=self.bus.is_shared)
        self.on_change.append(self.sticky.forget)
        self.ingestion = Ingestion(
            self.registry,
            self.remember,
            barrier.searchable,
            self.memory_service.delete_file,
            owns=self._role.owns,
            look_every=None if self._role.stores_all else _LOOK_EVERY,
        )
        self._build_maintenance()
        self._role.connect(
            BuiltParts(
                remember=self.remember, blocks=self.sticky, searchable=barrier.searchable, on_change=self.on_change
            )
        )

    def _build_maintenance(self) -> None:
        parts = (self.journal, self._store, self.registry)
        self.transfer = Transfer(
            *parts, screen=self.ingestion.screened, settled=self.barrier.settle, on_change=self.on_change
        )
        self.forgetter = Forgetter(
            *parts,
            delete=self.memory_service.delete,
            purge=self._role.purge,
            discard=self._role.discard,
            settled=self.barrier.settle,
            drop=self._drop_sets,
            blocks=self.blocks,
            remove_damaged=self._storage.remove_damaged,
        )

    def learn(self, model_client: ModelClient) -> None:
        """Set up extraction of facts from conversations with a model. Call it before `load`."""
        self.remember.keeps_calls = self._config.memory.extraction.tools
        if not self._role.is_writer:
            return
        self._learner = ExtractionWorker(
            agenda=self._storage.build_extraction_queue(),
            memory_service=self.memory_service,
            registry=self.registry,
            model_client=model_client,
            config=self._config.memory.extraction,
            telemetry=self._telemetry,
            notebook=FactWriter(self.memory_service, self._telemetry, self.recall.search, self.ingestion.screened),
            kept=self.journal.retained,
            count=self._count,
            owns=None if self._role.stores_all else self._role.owns,
            part_of=self._role.part_of,
        )
        self._role.on_take_over.append(self._learner.take_over)
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
        if self.reindexer is not None:
            await self.reindexer.stop()
        if self.retention is not None:
            await self.retention.stop()
        await self._role.stop()
        if self._sets is not None:
            await self.sizes.stop()
            await self._standing.stop()  # after the writer, which starts it
            await self._sets.stop()

    async def close(self) -> None:
        """Close the files, in reverse order of opening."""
        await self._stops.aclose()

    async def _close_storage(self) -> None:
        try:
            await self._storage.close()
        except StorageError as error:
            _log.error("journal_close_failed", extra={"cause": str(error)})

    async def ready(self, timeout: float) -> bool:
        """Wait until the memory is loaded. False if it took longer."""
        if self._loading is not None:
            await asyncio.wait([self._loading], timeout=timeout)
        return self.state in ("ready", "off")

    async def _load(self) -> None:
        """Load the heavy parts, retrying each until it succeeds, then start the workers."""
        for part, open_part in self._storage.parts:
            await self._retry_until_started(part, open_part)  # returns at once if it is open
        await asyncio.gather(
            self._retry_until_started("tokenizer", lambda: asyncio.to_thread(self.tokenizer.load)),
            self._retry_until_started("embedder", self._embedders.current.start),
            self._retry_until_started("store", self._store.open),
        )
        for name in {row_format.embedder for row_format in self._store.outdated().values()}:
            earlier = await asyncio.to_thread(self._embedders.named, name)
            if earlier is not None:
                await self._retry_until_started("embedder", earlier.start)
        await self._load_sets()
        self.state = "ready"
        self.startup.end()
        process.settle()
        _log.info("memory_ready", extra={"embedder_code": self._embedders.code})

    async def _load_sets(self) -> None:
        """Set up the working sets, and start the workers that keep them current, and those that write."""
        builder = RowBuilder(self._embedders, self._store.format_of, self._count)
        parts = LoadedParts(
            store=self._store, builder=builder, on_stored=self._note_stored, retry=self._retry_until_started
        )
        sets = self._role.load(parts)
        self._standing = StandingLimit(self.memory_service, sets)
        self._sets = sets
        await self._role.start()
        if self._role.is_writer:
            self.sizes.ready(sets)
            self.ingestion.start()
            if self._learner is not None:
                self._learner.start()
            self._start_maintenance(sets)
        self.recall.ready(sets)
        self.memory_service.ready(sets)

    def _start_maintenance(self, sets: "WorkingSets") -> None:
        self.retention = Retention(
            self._store,
            self._config.memory.retention,
            self._telemetry,
            expire=self.memory_service.expire,
            scrub=self.journal.purge,
        )
        self.retention.start()
        self.reindexer = Reindexer(self._store, self._embedders, self._count, sets.drop, self.bus)
        self._role.on_take_over.append(lambda _: self._resume_reindexing())
        self._resume_reindexing()

    def _resume_reindexing(self) -> None:
        """Rebuild what needs no text to be embedded again, or was asked for."""
        if self.reindexer is not None and not self.reindexer.resume():
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
        if self._sets is not None:
            self._sets.drop(scopes)

    async def is_extraction_idle(self) -> bool:
        """True if no message waits for extraction, and none was given up."""
        return self._learner is None or await self._learner.is_idle()

    def report(self) -> dict[str, Any]:
        """The state of the memory, for `/ready`."""
        learner = self._learner
        learning = {} if learner is None else {"learning": {"waiting": learner.waiting, "aside": learner.aside}}
        return {
            "memory": self.state,
            **self._role.report(),
            "embedder_code": self._embedders.code,
            **learning,
            "mended": list(self._store.repaired),
            "reindex": "unknown" if self.reindexer is None else self.reindexer.progress.state,
            "journal_backlog": self.journal.backlog_entries,
            "journal_aside": self.journal.aside_entries,
        }


def build_role(config: Config, telemetry: Telemetry, peers: Peers) -> MemoryRole:
    """The role of this process in the configured memory."""
    if config.memory.is_cluster:
        return ReplicaRole(config, telemetry)
    if peers.is_owner:
        return OwnerRole(config, telemetry, peers)
    return FollowerRole(config, telemetry, peers)


def _write_nothing(content: bytes) -> None:
    """The owner of the folder writes the file."""
