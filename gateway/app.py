"""Composition root: builds the parts from the configuration, joins them, and starts and stops them in order."""

import asyncio
import importlib
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway import bus_kinds
from gateway.api.affinity import Affinity, StateGuard
from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.defaults import Defaults
from gateway.api.memos.envelope import MemosServices
from gateway.api.registry import ApiContext, build_apis
from gateway.config import Config, UpstreamConfig
from gateway.config.shares import share_of
from gateway.embedding.kinds import Embedders
from gateway.engine import MemoryEngine
from gateway.extraction.on_request import Extractor
from gateway.identity import FrontEndHeaders, Keyring
from gateway.llm.client import ModelClient
from gateway.llm.questions import refine
from gateway.pipeline.background import BackgroundTasks
from gateway.pipeline.pipeline import Pipeline
from gateway.pipeline.prompt import PromptBuilder
from gateway.pipeline.recorder import TurnRecorder
from gateway.pipeline.shared_turn_log import collect_turns
from gateway.pipeline.spans import TurnSpans
from gateway.pipeline.turn_feed import TurnFeed
from gateway.pipeline.turn_log import TurnLog, serialize_turn
from gateway.plugin_host import PluginHost, load_plugins
from gateway.prompt.explain import Explanations
from gateway.prompt.shared_explanations import SharedExplanations
from gateway.server.apis import Apis
from gateway.server.guard import Guard, with_expectations
from gateway.server.handover import Handover
from gateway.server.listening import listen
from gateway.server.shared_sessions import SharedSessions
from gateway.server.sign_in import SignIns
from gateway.server.turns import Turns
from gateway.server.users import Users
from gateway.service.feedback import FeedbackService
from gateway.side_files import SideFiles
from gateway.telemetry import Telemetry
from gateway.tracing.opening import check_extra, open_tracing
from gateway.upstream.client import Upstream, make_session
from gateway.upstream.detect import Detected, detect
from gateway.upstream.forward import Forwarder
from gateway.upstream.kinds import UpstreamParts, build_upstream
from gateway.usage.meter import Meter
from gateway.usage.prices import Prices
from gateway.workers import message_kinds
from gateway.workers.metrics import SharedMetrics
from gateway.workers.peers import Peers
from gateway.workers.states import WorkerStates

__all__ = ["Gateway", "Started"]

_log = logging.getLogger("gateway.app")
_STOP_TIMEOUT = 10.0
_CONNECT_TIMEOUT = 60.0  # seconds that a worker waits for the first one
_FORGET_TIMEOUT = 3.0  # seconds that another worker may take to drop turns; then it is ended


@dataclass(frozen=True, slots=True)
class Started:
    """Facts to show to the operator after the start."""

    url: str
    upstreams: tuple[UpstreamConfig, ...]
    reason: str
    default_model: str
    data_folder: Path | None


class Gateway:
    """One gateway in one process. Construct it before the loop runs (it imports plugins), then `start`, then `stop`.

    `peers`: the other workers, if it is one of several."""

    def __init__(self, config: Config, peers: Peers | None = None) -> None:
        check_extra(config.otel)
        self._config = config
        self._peers = peers = Peers() if peers is None else peers
        self._share = share_of(config, peers.count)
        self._telemetry = Telemetry()
        self._keyring = Keyring(config.auth.keys)
        self._sign_ins = SignIns(config.console.session_hours)
        self._plugins = PluginHost(load_plugins(config.plugins, _plugin_folders(config.folder)), self._telemetry)
        self.memory = MemoryEngine(self._share, self._telemetry, self._plugins, peers)
        self._telemetry.memory_ready.set_function(lambda: self.memory.state in ("ready", "off"))
        self._files = SideFiles(config, peers, self.memory.bus)
        headers = FrontEndHeaders(tuple(config.memory.user_headers), tuple(config.memory.session_headers))
        self._users = Users(config.memory.default_user, headers, self._files.identities, peers, self.memory.bus)
        self._defaults = Defaults(self.memory.registry)
        self.memory.bus.on(bus_kinds.DEFAULTS, self._defaults.forget_cached)
        self.memory.bus.on_gap.append(lambda: self._defaults.forget_cached(None))
        self._defaults.on_change.append(partial(self.memory.bus.publish, bus_kinds.DEFAULTS))
        self._explanations = Explanations(config.memory.recall.explain_turns, with_prompts=config.shows_content)
        self._shared_explanations = SharedExplanations(self._explanations, peers)
        console = config.console
        turn_log = TurnLog(
            console.turns if console.enabled else 0,
            TurnFeed(serialize_turn, console.subscribers),
            with_content=config.shows_content,
        )
        self._turn_log = collect_turns(turn_log, peers)
        self._metrics = SharedMetrics(self._telemetry, peers)
        self._states = WorkerStates(self._state, peers)
        peers.on(message_kinds.FORGOTTEN, lambda value: self._forget_turns(*value))
        self.memory.bus.on(bus_kinds.FORGOTTEN, lambda value: self._forget_turns(*value))
        self.memory.bus.on_gap.append(lambda: self._forget_turns(None, None, None))
        self._tasks = BackgroundTasks()
        self._pipeline: Pipeline | None = None
        self._is_stopping = False
        self._stops = AsyncExitStack()

    @property
    def tasks(self) -> BackgroundTasks:
        """Tasks that outlive their requests, such as remembering."""
        return self._tasks

    @property
    def plugins(self) -> PluginHost:
        return self._plugins

    @property
    def telemetry(self) -> Telemetry:
        return self._telemetry

    async def start(self) -> Started:
        """Start and listen. Raises ConfigError, FolderRefused or OSError (port in use), after cleaning up."""
        try:
            return await self._start()
        except BaseException:
            await self._stops.aclose()
            raise

    async def stop(self) -> None:
        """Refuse new requests, let running ones end, and flush the journal to disk."""
        self._is_stopping = True
        self._turn_log.feed.close()  # these responses have no end of their own
        await self._stops.aclose()

    async def _start(self) -> Started:
        config = self._config
        self._session = make_session()
        self._stops.push_async_callback(self._session.close)
        self._tracing = await open_tracing(config.otel, self._telemetry)
        if self._tracing is not None:
            self._stops.push_async_callback(self._tracing.stop)
        self._stops.push_async_callback(self._peers.stop)
        if self._peers.is_shared:
            # messages contain arrays: what reads them would import numpy while another thread does, and get half of it
            await asyncio.to_thread(importlib.import_module, "numpy")
        if not self._peers.is_owner:
            await self._connect()
        self._stops.push_async_callback(self.memory.close)
        await self.memory.open(partial(Embedders, config.memory.embedder, self._session))
        self._stops.push_async_callback(self._files.close)
        await self._files.open(self.memory.forgetter)
        await self._users.load()
        self._stops.push_async_callback(self._users.stop)
        self._stops.push_async_callback(self._files.counters.stop)
        self._stops.push_async_callback(self._plugins.stop)
        await self._plugins.start(self.memory.folder, self._files.counters, self._peers.count)
        if self._peers.is_owner:  # its files exist now
            await self._peers.start()
        upstreams, reason, default_model = await self._find_upstreams()
        models = config.models.model_copy(update={"default": default_model})
        prices = Prices(config.usage.prices, [upstream.config for upstream in upstreams])
        services = self._build_desk(Forwarder(upstreams, models, self._telemetry, self._keyring.has), prices)
        self._stops.push_async_callback(self.memory.stop)
        self._stops.push_async_callback(self._tasks.stop, _STOP_TIMEOUT)
        port = await self._listen(services)
        self.memory.load()
        self._tasks.run(asyncio.to_thread(prices.load))
        host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
        return Started(
            url=f"http://{host}:{port}",
            upstreams=tuple(upstream.config for upstream in upstreams),
            reason=reason,
            default_model=default_model,
            data_folder=self.memory.folder if config.memory.enabled else None,
        )

    async def _connect(self) -> None:
        """Connect to the worker that owns the store. Raises OSError."""
        await self._peers.start()
        if not await self._peers.connected(_CONNECT_TIMEOUT):
            raise TimeoutError("the first worker does not answer")

    def _build_desk(self, forwarder: Forwarder, prices: Prices) -> MemosServices:
        """Build the pipeline from its stages, and the services that request handlers use."""
        config, memory = self._config.memory, self.memory
        meter = Meter(self._files.ledger, self._telemetry, memory.tokenizer.count, prices)
        learning = config.extraction.learner
        model_client = ModelClient(forwarder, lambda: learning or "default", meter.note_own)
        if learning and config.enabled:
            memory.learn(model_client)
            if not model_client.has_model:
                _log.warning("extraction_model_unavailable", extra={"model": learning})
        self._pipeline = self._build_pipeline(forwarder, meter, model_client)
        self._chats = ChatHandlers(self._config.limits.silence, self._files.replays)
        memory.on_change += (self._chats.forget, self._explanations.forget)
        memory.forgetter.on_forget += (self._forget_turns, self._forget_turns_elsewhere)
        return MemosServices(
            config=self._config,
            pipeline=self._pipeline,
            forwarder=forwarder,
            recall=memory.recall,
            remember=memory.remember,
            memory_service=memory.memory_service,
            registry=memory.registry,
            journal=memory.journal,
            model_client=model_client,
            feedback=FeedbackService(
                memory.memory_service,
                memory.remember,
                memory.recall.require_search,
                model_client,
                self._config.memory.extraction.timeout,
            ),
            extractor=Extractor(model_client, memory.tokenizer.count, self._config.memory.extraction.timeout),
            ingestion=memory.ingestion,
            defaults=self._defaults,
            searchable=memory.barrier.searchable,
            caught_up=memory.barrier.caught_up,
            count=memory.tokenizer.count,
            tasks=self._tasks,
        )

    def _build_pipeline(self, forwarder: Forwarder, meter: Meter, model_client: ModelClient) -> Pipeline:
        config, memory = self._config.memory, self.memory
        prompts = PromptBuilder(
            recall=memory.recall,
            refine=partial(refine, model_client, timeout=config.extraction.timeout),
            tokenizer=memory.tokenizer,
            plugins=self._plugins,
            telemetry=self._telemetry,
            config=config.recall,
            sticky=memory.sticky,
            explanations=self._explanations,
        )
        recorder = TurnRecorder(
            remember=memory.remember,
            meter=meter,
            plugins=self._plugins,
            telemetry=self._telemetry,
            tasks=self._tasks,
            turns=self._turn_log,
            spans=self._build_spans(forwarder),
        )
        return Pipeline(prompts, forwarder, recorder)

    def _build_spans(self, forwarder: Forwarder) -> TurnSpans | None:
        if self._tracing is None:
            return None
        redact = self.memory.remember.screened if self._config.otel.content else None
        return TurnSpans(self._tracing, [upstream.config for upstream in forwarder.upstreams], redact)

    def _forget_turns(self, tenant: str | None, user: str | None, session: str | None) -> None:
        self._turn_log.forget(tenant, user, session)
        self._explanations.forget_owner(tenant, user, session)

    async def _forget_turns_elsewhere(self, tenant: str | None, user: str | None, session: str | None) -> None:
        await self._peers.require_all(message_kinds.FORGOTTEN, (tenant, user, session), _FORGET_TIMEOUT)
        await self.memory.bus.require_all(bus_kinds.FORGOTTEN, [tenant, user, session])

    async def _find_upstreams(self) -> tuple[Sequence[Upstream], str, str]:
        config = self._config
        upstreams = self._share.upstreams
        if upstreams == "auto":
            detection = await detect(self._session, config.server.port)
        else:
            detection = Detected(upstreams, "as configured")
        parts = UpstreamParts(
            session=self._session,
            folder=config.folder,
            count=self.memory.tokenizer.count,
            on_stop=self._stops.push_async_callback,
        )
        built = await asyncio.to_thread(lambda: [build_upstream(entry, parts) for entry in detection.upstreams])
        return built, detection.reason, detection.default_model or config.models.default

    def _build_turns(self) -> Turns:
        turns, peers = Turns(self._config, self._users), self._peers
        if peers.is_shared:  # a conversation may go on in any worker
            peers.on(message_kinds.SESSION, turns.sessions.note)
            turns.sessions.on_change.append(partial(peers.publish, message_kinds.SESSION))
        if self._files.openings is not None:
            shared = turns.shared_sessions = SharedSessions(turns.sessions, self._files.openings)
            self.memory.forgetter.on_scopes.append(shared.forget)
        return turns

    def _build_services(self, services: MemosServices) -> ApiContext:
        return ApiContext(
            services=services,
            memory=self.memory,
            chats=self._chats,
            explanations=self._shared_explanations,
            state=StateGuard(Affinity(self._files.owners), services.forwarder, self._users),
            turns=self._build_turns(),
            ledger=self._files.usage,
            metrics=self._metrics.exposition,
            keyring=self._keyring,
            sign_ins=self._sign_ins,
            turn_log=self._turn_log,
            plugins=self._plugins,
            is_open=self._keyring.is_open,
            report=self._states.report,
        )

    async def _listen(self, services: MemosServices) -> int:
        config = self._config
        apis = Apis(build_apis(self._build_services(services)))
        guard = Guard(self._share, self._keyring, self._telemetry, apis, sign_ins=self._sign_ins)
        middlewares = [guard.middleware]
        if not self._peers.is_owner:
            middlewares.insert(0, Handover(self._peers.http_path, apis, self._telemetry).middleware)
        app = web.Application(middlewares=middlewares, client_max_size=config.limits.body_mb * 2**20)
        app.on_response_prepare.append(guard.on_prepare)
        app.add_routes(with_expectations(apis.routes()))
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=config.server.shutdown_timeout
        )
        await self._runner.setup()
        self._stops.push_async_callback(self._runner.cleanup)
        manager = self._runner.server
        assert manager is not None  # noqa: S101 — created by `setup`
        servers = await listen(manager, config.server, self._peers)
        for server in servers:
            self._stops.callback(server.close)
        port: int = servers[-1].sockets[0].getsockname()[1]
        return port

    def _state(self) -> dict[str, Any] | None:
        """The health of the parts; None while they are built."""
        if self._pipeline is None:
            return None
        return {
            "ready": not self._is_stopping,
            **self.memory.report(),
            "upstreams": [upstream.name for upstream in self._pipeline.forwarder.upstreams],
        }


def _plugin_folders(config_folder: Path) -> list[Path]:
    """Folders to search for plain plugin names: beside the configuration file, then those shipped with the gateway."""
    package = Path(__file__).parent
    return [config_folder / "plugins", package / "plugins", package.parent / "plugins"]
