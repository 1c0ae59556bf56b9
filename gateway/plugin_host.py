"""Loads the plugins of the configuration and runs their hooks: in order, timed, isolated.

The only place where third-party code runs. An exception, a time-out or a wrong type is the plugin's failure: it is
logged with the plugin's own stack frames, and counted. Then `on_failure` decides: `open` continues as if the hook had
returned None, `closed` refuses the turn. After five failures in a row a plugin's hook is disabled for 30 seconds.
`Reject` is no failure.
"""

import asyncio
import importlib
import importlib.util
import inspect
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from gateway.config import PluginConfig
from gateway.errors import ConfigError, PluginUnavailable, StreamCut
from gateway.formats.sse import Event, EventParser
from gateway.frozen_json import freeze
from gateway.hooks import DROP, HOOKS, Plugin, Reject, Reply, Services
from gateway.storage.counters import SharedCounters
from gateway.telemetry import Telemetry
from gateway.turn import Answer, Memory, Record, Turn

__all__ = ["LoadedPlugin", "PluginHost", "StreamHooks", "load_plugins"]

_log = logging.getLogger("gateway.plugins")
_MAX_FAILURES = 5
_BACKOFF = 30.0
_EVENT_BUDGET = 0.001
_MAX_OVERRUNS = 3


@dataclass(slots=True)
class LoadedPlugin:
    """A loaded plugin with its hooks; for each hook, the failures in a row and the end of its back-off."""

    name: str
    plugin: Plugin
    is_closed: bool
    timeout: float
    hooks: frozenset[str]
    failures: Counter[str] = field(default_factory=Counter)
    rests_until: dict[str, float] = field(default_factory=dict)
    failed_calls: int = 0  # since the start


def load_plugins(configs: Sequence[PluginConfig], folders: Sequence[Path]) -> list[LoadedPlugin]:
    """Load and check the enabled plugins. `folders` are searched for plain names. Raises ConfigError."""
    loaded = []
    for index, config in enumerate(configs):
        if config.enabled:
            loaded.append(_load(config, f"plugins[{index}]", folders))
    return loaded


def _load(config: PluginConfig, path: str, folders: Sequence[Path]) -> LoadedPlugin:
    module_name, _, class_name = config.use.partition(":")
    module = _module(module_name, path, folders)
    kind = _plugin_class(module, class_name, path)
    hooks = _read_hooks(kind, path)
    try:
        settings = kind.Config.model_validate(config.config)
    except ValidationError as error:
        lines = [
            f"{path}.config.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from error
    except Exception as error:  # a class that pydantic cannot build, or one that is no model
        raise ConfigError(
            f"{path}.use: the Config of {config.use} cannot be used: {type(error).__name__}: {error}"
        ) from error
    try:
        plugin = kind(settings)
    except Exception as error:
        raise ConfigError(f"{path}.use: {config.use} cannot be created: {type(error).__name__}: {error}") from error
    is_closed = kind.critical if config.on_failure is None else config.on_failure == "closed"
    return LoadedPlugin(config.use, plugin, is_closed, config.timeout_ms / 1000, hooks)


def _module(name: str, path: str, folders: Sequence[Path]) -> ModuleType:
    try:
        if "." in name:
            return importlib.import_module(name)
        for folder in folders:
            file = folder / f"{name}.py"
            if file.is_file():
                spec = importlib.util.spec_from_file_location(f"gateway_plugin_{name}", file)
                assert spec is not None  # noqa: S101 — a file that is there has a spec
                assert spec.loader is not None  # noqa: S101
                module = importlib.util.module_from_spec(spec)
                # annotations that are strings (`from __future__ import annotations`) are looked up by the module's name
                sys.modules[spec.name] = module
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules[spec.name]
                    raise
                return module
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}.use: {name} cannot be imported: {type(error).__name__}: {error}") from error
    available = sorted({file.stem for folder in folders for file in folder.glob("*.py") if file.stem != "__init__"})
    raise ConfigError(f"{path}.use: there is no plugin {name!r}; there are: {', '.join(available) or 'none'}")


def _plugin_class(module: ModuleType, name: str, path: str) -> type[Plugin]:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    ]
    if name:
        classes = [value for value in classes if value.__name__ == name]
    if len(classes) != 1:
        raise ConfigError(f"{path}.use: expected one class derived from gateway.hooks.Plugin, found {len(classes)}")
    return classes[0]


def _read_hooks(kind: type[Plugin], path: str) -> frozenset[str]:
    hooks = set()
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("on_"):
            continue
        if name not in HOOKS:
            raise ConfigError(f"{path}.use: {kind.__name__}.{name} is no hook; hooks are {', '.join(HOOKS)}")
        declared = getattr(Plugin, name)
        if method is declared:
            continue
        if len(inspect.signature(method).parameters) != len(inspect.signature(declared).parameters):
            raise ConfigError(f"{path}.use: {kind.__name__}.{name} must be {name}{inspect.signature(declared)}")
        if inspect.iscoroutinefunction(method) != inspect.iscoroutinefunction(declared):
            form = "`async def`" if inspect.iscoroutinefunction(declared) else "plain `def`"
            raise ConfigError(f"{path}.use: {kind.__name__}.{name} must be {form}")
        hooks.add(name)
    return frozenset(hooks)


class PluginHost:
    """Runs the hooks of all plugins. A hook costs nothing for plugins without it."""

    def __init__(self, loaded: Sequence[LoadedPlugin], telemetry: Telemetry) -> None:
        self.loaded = list(loaded)
        self._telemetry = telemetry
        self._with = {
            hook: [(index, entry) for index, entry in enumerate(loaded) if hook in entry.hooks] for hook in HOOKS
        }
        self._stream = [
            (index, entry)
            for index, entry in self._with["on_stream_event"]
            if entry.plugin.reads_stream or entry.plugin.rewrites_stream
        ]

    def has(self, hook: str) -> bool:
        """True if any plugin has this hook."""
        return bool(self._with[hook])

    @property
    def body_bytes(self) -> int:
        """Maximum size of a stream that a plugin asks to see as a whole."""
        return max((entry.plugin.body_bytes for entry in self.loaded), default=0)

    @property
    def reads_stream(self) -> bool:
        return bool(self._stream)

    @property
    def rewrites_stream(self) -> bool:
        return any(entry.plugin.rewrites_stream for _, entry in self._stream)

    async def start(self, folder: Path, counters: SharedCounters, workers: int = 1) -> None:
        """Start all plugins, in order. Raises ConfigError if a plugin fails to start."""
        for index, entry in enumerate(self.loaded):
            earlier = sum(other.name == entry.name for other in self.loaded[:index])
            plugin_folder = folder / "plugins" / entry.name.replace(":", ".")
            services = Services(
                logger=logging.getLogger(f"gateway.plugin.{entry.name}"),
                folder=plugin_folder,
                clock=time.time,
                count=partial(self._count, entry.name),
                counters=counters.named(f"{entry.name}#{earlier}" if earlier else entry.name),
                workers=workers,
            )
            try:
                await entry.plugin.start(services)
            except Exception as error:
                raise ConfigError(f"plugin {entry.name} does not start: {type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        """Stop all plugins, last first; a failure does not prevent the others from stopping."""
        for entry in reversed(self.loaded):
            try:
                async with asyncio.timeout(10):
                    await entry.plugin.stop()
            except Exception as error:  # noqa: BLE001 — the plugin host isolates
                self._record_failure(entry, "stop", error)

    async def on_request(self, turn: Turn) -> tuple[Turn, Reply | None]:
        """The turn with the number of plugins reached, and the reply if a plugin gave one."""
        for index, entry in self._with["on_request"]:
            reply = await self._call(entry, "on_request", turn)
            if reply is None:
                continue
            if isinstance(reply, Reply):
                return replace(turn, plugins_reached=index + 1), reply
            self._handle_wrong_type(entry, "on_request", reply)
        return turn, None

    async def on_recall(self, turn: Turn, memories: Sequence[Memory]) -> Sequence[Memory]:
        for _, entry in self._plugins_reached("on_recall", turn):
            result = await self._call(entry, "on_recall", turn, memories)
            memories = self._validate_result(entry, "on_recall", result, Memory, memories)
        return memories

    async def on_messages(self, turn: Turn, messages: Sequence[Any]) -> Sequence[Any] | None:
        """The changed messages, or None if no plugin changed them."""
        changed = None
        for _, entry in self._plugins_reached("on_messages", turn):
            current = messages if changed is None else changed
            result = await self._call(entry, "on_messages", turn, freeze(current))
            if result is not None:
                changed = self._validate_result(entry, "on_messages", result, Mapping, current)
        return changed

    async def on_store(self, turn: Turn, records: Sequence[Record]) -> Sequence[Record]:
        """The records to store. Raises PluginUnavailable if a closed plugin failed: then none may be stored."""
        for index, entry in reversed(self._with["on_store"]):
            if not _was_reached(index, turn):
                continue
            result = await self._call(entry, "on_store", turn, tuple(records))
            records = self._validate_result(entry, "on_store", result, Record, records)
        return records

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        for _, entry in reversed(self._plugins_reached("on_response", turn)):
            await self._observe(entry, "on_response", turn, answer)

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        for _, entry in reversed(self._plugins_reached("on_error", turn)):
            await self._observe(entry, "on_error", turn, error)

    def on_memory_change(self, scopes: Collection[str]) -> None:
        """Notify plugins that memories of these scopes were changed or deleted."""
        for _, entry in self._with["on_memory_change"]:
            try:
                entry.plugin.on_memory_change(frozenset(scopes))
            except Exception as error:  # noqa: BLE001 — the plugin host isolates
                self._record_failure(entry, "on_memory_change", error)

    def stream(self, turn: Turn) -> "StreamHooks":
        """The stream hooks of one turn, last plugin first."""
        return StreamHooks(turn, [entry for index, entry in reversed(self._stream) if _was_reached(index, turn)], self)

    def _count(self, plugin: str, kind: str) -> None:
        self._telemetry.bound("plugin_counts", plugin, kind[:64]).inc()

    def _plugins_reached(self, hook: str, turn: Turn) -> list[tuple[int, LoadedPlugin]]:
        return [(index, entry) for index, entry in self._with[hook] if _was_reached(index, turn)]

    async def _observe(self, entry: LoadedPlugin, hook: str, *arguments: Any) -> None:
        try:
            await self._call(entry, hook, *arguments)
        except (PluginUnavailable, Reject):
            return  # the answer is already sent and cannot be refused

    async def _call(self, entry: LoadedPlugin, hook: str, *arguments: Any) -> Any:
        """The result of a hook; None after a failure of an open plugin. Raises Reject or PluginUnavailable."""
        if time.monotonic() < entry.rests_until.get(hook, 0.0):
            return self._refuse_if_closed(entry)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(entry.timeout):
                result = await getattr(entry.plugin, hook)(*arguments)
            if time.perf_counter() - began > entry.timeout:
                raise TimeoutError("it blocked the loop for longer than its time limit")
        except Reject:
            entry.failures[hook] = 0
            raise
        except Exception as error:  # noqa: BLE001 — the plugin host isolates
            return self._handle_failure(entry, hook, error)
        finally:
            self._telemetry.bound("plugin_seconds", entry.name, hook).observe(time.perf_counter() - began)
        entry.failures[hook] = 0
        return result

    def _handle_failure(self, entry: LoadedPlugin, hook: str, error: BaseException) -> None:
        self._record_failure(entry, hook, error)
        self._refuse_if_closed(entry)

    def _record_failure(self, entry: LoadedPlugin, hook: str, error: BaseException) -> None:
        entry.failures[hook] += 1
        entry.failed_calls += 1
        if entry.failures[hook] >= _MAX_FAILURES:
            entry.rests_until[hook] = time.monotonic() + _BACKOFF
        self._telemetry.bound("plugin_failures", entry.name, hook).inc()
        frames = traceback.extract_tb(error.__traceback__)
        plugin_frames = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[1:]]
        _log.error(
            "plugin_failed",
            extra={"plugin": entry.name, "hook": hook, "cause": type(error).__name__, "frames": plugin_frames},
        )

    def _refuse_if_closed(self, entry: LoadedPlugin) -> None:
        if entry.is_closed:
            raise PluginUnavailable(f"the plugin {entry.name} failed, and it is configured to fail closed")

    def _handle_wrong_type(self, entry: LoadedPlugin, hook: str, value: object) -> None:
        self._handle_failure(entry, hook, TypeError(f"{hook} returned {type(value).__name__}"))

    def _validate_result(
        self, entry: LoadedPlugin, hook: str, result: Any, kind: type, unchanged: Sequence[Any]
    ) -> Sequence[Any]:
        if result is None:
            return unchanged
        if isinstance(result, list | tuple) and all(isinstance(item, kind) for item in result):
            return result
        self._handle_wrong_type(entry, hook, result)
        return unchanged


def _was_reached(index: int, turn: Turn) -> bool:
    return turn.plugins_reached < 0 or index < turn.plugins_reached


class StreamHooks:
    """The stream hooks of one turn: sync, timed; three overruns switch a plugin's hook off for the turn."""

    def __init__(self, turn: Turn, plugins: Sequence[LoadedPlugin], host: PluginHost) -> None:
        self._turn = turn
        self._active: dict[int, tuple[LoadedPlugin, int]] = {id(entry): (entry, 0) for entry in plugins}
        self._host = host
        self._parser = EventParser()

    def feed(self, chunk: bytes) -> bytes:
        """Run the hooks; return the bytes to send. The same object unless a rewriter is configured; then only whole
        events, and comments (keep-alives) if the chunk has nothing else. Raises StreamCut if a closed plugin failed."""
        events = self._parser.feed(chunk)
        if not self._host.rewrites_stream:
            for event in events:
                self._event(event)
            return chunk
        if not events and chunk.startswith(b":") and not self._parser.is_mid_event:
            return chunk
        outgoing = [result_event for event in events if (result_event := self._event(event)) is not None]
        return b"".join(map(bytes, outgoing))

    def end(self) -> bytes:
        """The bytes of a last event without its empty line; empty unless a rewriter is configured."""
        events = [result_event for event in self._parser.end() if (result_event := self._event(event)) is not None]
        return b"".join(map(bytes, events)) if self._host.rewrites_stream else b""

    def _event(self, event: Event) -> Event | None:
        """Run the hooks on an event; return the event to send, None to drop it."""
        for entry, overruns in list(self._active.values()):
            began = time.perf_counter()
            try:
                result = entry.plugin.on_stream_event(self._turn, event)
                if result is not None and result is not DROP and not isinstance(result, Event):
                    raise TypeError(f"on_stream_event returned {type(result).__name__}")
            except Exception as error:
                self._host._record_failure(entry, "on_stream_event", error)  # noqa: SLF001 — the host's other half
                del self._active[id(entry)]
                if entry.is_closed:
                    raise StreamCut(f"the plugin {entry.name} failed, and nothing passes without it") from error
                continue
            if time.perf_counter() - began > _EVENT_BUDGET:
                self._count_overrun(entry, overruns + 1)
            if entry.plugin.rewrites_stream and result is DROP:
                return None
            if entry.plugin.rewrites_stream and isinstance(result, Event):
                event = result
        return event

    def _count_overrun(self, entry: LoadedPlugin, overruns: int) -> None:
        self._active[id(entry)] = (entry, overruns)
        if overruns >= _MAX_OVERRUNS:
            del self._active[id(entry)]
            self._host._record_failure(entry, "on_stream_event", TimeoutError("three overruns"))  # noqa: SLF001
