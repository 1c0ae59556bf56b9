"""Joins the parts and does nothing else: what is made from the configuration, in which order it starts and stops.

Heavy things (LanceDB, embedder, tokenizer) are loaded behind the open port; until then chats are served without
memory. Every part of the memory may be missing at the start and is tried again until it is there.
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway import heap
from gateway.config import Config, UpstreamConfig
from gateway.identity import Keyring
from gateway.pipeline import Pipeline
from gateway.plugin_host import PluginHost, load_plugins
from gateway.recall.library import Library
from gateway.recall.recall import Recall
from gateway.recall.tokens import DEFAULT_ENCODING, Tokenizer
from gateway.remember.forget import Forgetter
from gateway.remember.intake import Intake
from gateway.remember.recover import recover
from gateway.remember.reindex import Reindexer
from gateway.remember.remember import Remember
from gateway.remember.retention import Retention
from gateway.remember.transfer import Transfer
from gateway.remember.writer import Writer
from gateway.store.catalog import Made
from gateway.store.embed import Embedders, EmbedFailed
from gateway.store.folder import DataFolder
from gateway.store.journal import Journal, JournalFailed
from gateway.store.loaded import Row
from gateway.store.memories import MemoryStore, StoreFailed
from gateway.store.registry import Registry, RegistryFailed
from gateway.store.scale import Scales
from gateway.store.terms import TERMS_VERSION
from gateway.telemetry import Telemetry
from gateway.upstream.asker import Asker
from gateway.upstream.client import HttpUpstream, Upstream, make_session
from gateway.upstream.detect import detect
from gateway.upstream.forward import Forwarder
from gateway.upstream.offline import OfflineUpstream
from gateway.wire.dialects import ChatDialect
from gateway.wire.guard import Guard, Protocol, with_expectations
from gateway.wire.memory import MemoryFace
from gateway.wire.memos.chat import ChatHandlers
from gateway.wire.memos.defaults import Defaults
from gateway.wire.memos.envelope import Desk, operations_to_routes
from gateway.wire.memos.face import memos_operations
from gateway.wire.openai import OpenAIFace
from gateway.wire.openapi import OpenAPIFace
from gateway.wire.ops import OpsFace

__all__ = ["Gateway", "Started"]

_log = logging.getLogger("gateway.app")
_KEEP_ALIVE = 55.0
_MAX_HEADER = 16_384
_BACKLOG = 1024
_STOP_TIMEOUT = 10.0
_RETRY_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Started:
    """What a person wants to know after the start."""

    url: str
    upstreams: tuple[UpstreamConfig, ...]
    reason: str
    default_model: str
    data_folder: Path | None


class Gateway:
    """One gateway in one process. Make it before the loop runs (it reads plugins), then `start`, then `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._telemetry = Telemetry()
        self._keyring = Keyring(config.auth.keys)
        memory = config.memory
        self._data = config.data_folder
        self._folder = DataFolder(self._data)
        self._journal = Journal(
            self._data / "journal.sqlite", memory.remember.max_backlog_mb * 2**20, self._wake_writer
        )
        self._registry = Registry(self._data / "registry.sqlite")
        self._defaults = Defaults(self._registry)
        self._tokenizer = Tokenizer(self._data / "tokenizers")
        self._plugins = PluginHost(load_plugins(config.plugins, _plugin_folders(config.folder)), self._telemetry)
        self._is_stopping = False
        self._memory_state = "loading" if memory.enabled else "off"
        self._warm_up: asyncio.Task[None] | None = None
        self._writer: Writer | None = None
        self._retention: Retention | None = None
        self.reindexer: Reindexer | None = None
        self._stops = AsyncExitStack()

    async def start(self) -> Started:
        """Listen. Raises ConfigError, FolderRefused or OSError (the port is taken), and leaves nothing behind then."""
        try:
            return await self._start()
        except BaseException:
            await self._stops.aclose()
            raise

    async def stop(self) -> None:
        """Refuse new requests, let running ones end, bring the journal to the disk."""
        self._is_stopping = True
        await self._stops.aclose()

    async def _start(self) -> Started:
        config, memory = self._config, self._config.memory
        self._stops.callback(self._folder.close)
        self._session = make_session()
        self._stops.push_async_callback(self._session.close)
        scales = Scales(self._data / "scales.json")
        await asyncio.to_thread(scales.read)
        self._embedders = Embedders(memory.embedder, self._session, scales)
        self._stops.push_async_callback(self._embedders.stop)
        embedder = self._embedders.current
        self._store = MemoryStore(self._folder, Made(embedder.name, embedder.dimensions, TERMS_VERSION))
        self._stops.push_async_callback(self._store.close)
        if memory.enabled:
            await asyncio.to_thread(self._folder.open, memory.buckets, embedder.name, embedder.dimensions)
        self._stops.push_async_callback(self._close_journal)
        if memory.enabled:
            await self._open_journal()
        self._stops.push_async_callback(self._plugins.stop)
        await self._plugins.start(self._data)
        upstreams, reason, default_model = await self._find_upstreams()
        models = config.models.model_copy(update={"default": default_model})
        desk = self._desk(Forwarder(upstreams, models, self._telemetry, self._keyring.has))
        self._stops.push_async_callback(self._stop_memory)
        self._stops.push_async_callback(self._pipeline.stop, _STOP_TIMEOUT)
        port = await self._listen(desk)
        if memory.enabled:
            self._warm_up = asyncio.create_task(self._warm(), name="warm-up")
        else:
            heap.settle()
        host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
        return Started(
            url=f"http://{host}:{port}",
            upstreams=tuple(upstream.config for upstream in upstreams),
            reason=reason,
            default_model=default_model,
            data_folder=self._data if memory.enabled else None,
        )

    def _desk(self, forwarder: Forwarder) -> Desk:
        """The stages of the way, and what stands beside it, joined."""
        memory = self._config.memory
        self._recall = Recall(self._embedders, memory.recall, self._telemetry)
        remember = Remember(self._journal, self._registry, memory.remember, self._telemetry, self._plugins.on_store)
        asker = Asker(forwarder, lambda: memory.extraction.model or os.environ.get("MEMRADER_MODEL") or "default")
        self._pipeline = Pipeline(
            recall=self._recall,
            remember=remember,
            forwarder=forwarder,
            tokenizer=self._tokenizer,
            plugins=self._plugins,
            telemetry=self._telemetry,
            config=memory.recall,
            asker=asker,
            fine_timeout=memory.extraction.timeout,
        )
        self._chats = ChatHandlers(self._config.limits.silence)
        on_change = (self._recall.forget_steps, self._chats.forget, self._pipeline.explanations.forget)
        self._library = Library(self._store, self._registry, remember.change, self._drained, on_change)
        self._intake = Intake(self._registry, remember, ChatDialect(), self._drained, self._library.delete_file)
        self._make_keepers()
        return Desk(
            config=self._config,
            pipeline=self._pipeline,
            remember=remember,
            library=self._library,
            registry=self._registry,
            journal=self._journal,
            asker=asker,
            intake=self._intake,
            defaults=self._defaults,
            drained=self._drained,
        )

    def _make_keepers(self) -> None:
        """Those who take memories out, in and away."""
        parts = (self._journal, self._store, self._registry)
        self._transfer = Transfer(*parts, screen=self._intake.screened, synced=self._synced)
        self._forgetter = Forgetter(
            *parts, folder=self._data, delete=self._library.delete, synced=self._synced, drop=self._drop_sets
        )

    async def _open_journal(self) -> None:
        """Before the port: what the first client says must be kept. If it fails, `_warm` goes on trying."""
        try:
            await self._journal.open()
            await self._registry.open()
        except (JournalFailed, RegistryFailed) as error:
            _log.error("memory_part_failed", extra={"part": "journal", "cause": str(error)})

    async def _stop_memory(self) -> None:
        if self._warm_up is not None:
            self._warm_up.cancel()
            await asyncio.wait([self._warm_up], timeout=_STOP_TIMEOUT)
        await self._intake.stop()
        await self._pipeline.remember.stop()
        if self.reindexer is not None:
            await self.reindexer.stop()
        if self._writer is not None:
            if self._retention is not None:
                await self._retention.stop()
            await self._writer.stop()
            await self._sets.stop()

    async def _close_journal(self) -> None:
        try:
            await self._journal.close()
            await self._registry.close()
        except (JournalFailed, RegistryFailed) as error:
            _log.error("journal_not_closed", extra={"cause": str(error)})

    async def ready(self, timeout: float) -> bool:
        """Wait until the memory is loaded. False if it took longer."""
        if self._warm_up is not None:
            await asyncio.wait([self._warm_up], timeout=timeout)
        return self._memory_state in ("ready", "off")

    async def _find_upstreams(self) -> tuple[Sequence[Upstream], str, str]:
        config = self._config
        if config.upstreams == "auto":
            found = await detect(self._session, config.server.port)
            upstreams = [self._upstream(upstream) for upstream in found.upstreams]
            return upstreams, found.reason, found.default_model or config.models.default
        return [self._upstream(upstream) for upstream in config.upstreams], "as configured", config.models.default

    def _upstream(self, config: UpstreamConfig) -> Upstream:
        return OfflineUpstream(config) if config.kind == "offline" else HttpUpstream(config, self._session)

    def _routes(self, desk: Desk) -> list[web.AbstractRouteDef]:
        operations = memos_operations(self._chats)
        keepers = (self._forgetter, self._transfer)
        memory = MemoryFace(
            self._pipeline.explanations,
            lambda: self.reindexer,
            *keepers,
            limits=self._config.limits,
            is_open=self._keyring.is_open,
        )
        return [
            *OpsFace(self._telemetry, self._state).routes(),
            *operations_to_routes(operations, desk),
            *OpenAPIFace(operations).routes(),
            *memory.routes(),
            *OpenAIFace(self._config, self._pipeline).routes(),
        ]

    async def _listen(self, desk: Desk) -> int:
        config = self._config
        guard = Guard(config, self._keyring, self._telemetry)
        app = web.Application(middlewares=[guard.middleware], client_max_size=config.limits.body_mb * 2**20)
        app.on_response_prepare.append(guard.on_prepare)
        app.add_routes(with_expectations(self._routes(desk)))
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=config.server.shutdown_timeout
        )
        await self._runner.setup()
        self._stops.push_async_callback(self._runner.cleanup)
        manager = self._runner.server
        assert manager is not None  # noqa: S101 — set-up makes it
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Protocol(
                manager,
                loop=loop,
                access_log=None,  # type: ignore[arg-type]  # None is how aiohttp is told to keep none
                keepalive_timeout=_KEEP_ALIVE,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            ),
            config.server.host,
            config.server.port,
            backlog=_BACKLOG,
        )
        self._stops.callback(server.close)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _warm(self) -> None:
        """Load what is heavy, and again whatever fails, until all is there."""
        await self._retried("journal", self._journal.open)  # at once if it is open
        await self._retried("registry", self._registry.open)
        await asyncio.gather(
            self._retried("tokenizer", lambda: asyncio.to_thread(self._tokenizer.load)),
            self._retried("embedder", self._embedders.current.start),
            self._retried("store", self._store.open),
        )
        for name in {made.embedder for made in self._store.outdated().values()}:
            earlier = self._embedders.named(name)
            if earlier is not None:
                await self._retried("embedder", earlier.start)
        from gateway.recall.working_sets import WorkingSets  # noqa: PLC0415 — numpy: loaded behind the open port

        recall, remember = self._config.memory.recall, self._config.memory.remember
        self._sets = WorkingSets(
            self._store,
            self._telemetry,
            max_rows=recall.working_set_rows,
            max_bytes=recall.working_set_mb * 2**20,
        )
        self._writer = Writer(
            self._journal,
            self._store,
            self._embedders,
            self._telemetry,
            count=self._count,
            on_rows=self._apply,
            batch_window=remember.batch_window_ms / 1000,
        )
        await self._retried("store", lambda: recover(self._journal, self._store))
        await self._sets.strike(await self._journal.deleted())
        await self._writer.start()
        self._recall.ready(self._sets)
        self._library.ready(self._sets)
        self._intake.start()
        self._keep_in_order()
        self._memory_state = "ready"
        heap.settle()
        _log.info("memory_ready")

    def _keep_in_order(self) -> None:
        self._retention = Retention(
            self._store,
            self._config.memory.retention,
            self._telemetry,
            expire=self._library.expire,
            scrub=self._journal.scrub,
        )
        self._retention.start()
        self.reindexer = Reindexer(self._store, self._embedders, self._count, self._sets.drop)
        if self.reindexer.is_free:
            self.reindexer.start()
        else:
            _log.warning("reindex_needed", extra={"embedder": self._embedders.current.name})

    async def _retried(self, part: str, start: Any) -> None:
        while True:
            try:
                await start()
            except (JournalFailed, RegistryFailed, StoreFailed, EmbedFailed, OSError, ValueError) as error:
                self._memory_state = f"degraded: {part}"
                _log.error("memory_part_failed", extra={"part": part, "cause": f"{type(error).__name__}: {error}"})
                await asyncio.sleep(_RETRY_PAUSE)
            else:
                return

    def _count(self, text: str) -> int:
        return self._tokenizer.count(text, DEFAULT_ENCODING)

    async def _apply(self, rows: Sequence[Row]) -> None:
        await self._sets.apply(rows)

    def _drop_sets(self, scopes: Iterable[str]) -> None:
        self._sets.drop(scopes)

    def _wake_writer(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    async def _drained(self, timeout: float) -> bool:
        if self._writer is None:
            await self.ready(timeout)
        return self._writer is not None and await self._writer.drained(timeout)

    async def _synced(self, timeout: float) -> bool:
        return await self._drained(timeout) and self._writer is not None and await self._writer.synced(timeout)

    def _state(self) -> dict[str, Any]:
        return {
            "ready": not self._is_stopping,
            "memory": self._memory_state,
            "mended": list(self._store.mended),
            "reindex": "unknown" if self.reindexer is None else self.reindexer.progress.state,
            "journal_backlog": self._journal.backlog_entries,
            "journal_aside": self._journal.aside_entries,
            "upstreams": [upstream.name for upstream in self._pipeline.forwarder.upstreams],
        }


def _plugin_folders(config_folder: Path) -> list[Path]:
    """Where plain plugin names are looked for: beside the configuration, then the house's own."""
    package = Path(__file__).parent
    return [config_folder / "plugins", package / "plugins", package.parent / "plugins"]
