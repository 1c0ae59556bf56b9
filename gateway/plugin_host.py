"""Loads the plugins of the configuration and runs their hooks: in order, timed, isolated.

The one place where code of others runs. An exception, a time-out or a wrong type is the plugin's failure: logged with
the plugin's own frames, counted, and then `on_failure` decides: `open` goes on as if it had said nothing, `closed`
refuses the turn. After five failures in a row a plugin's hook rests for 30 seconds. `Reject` is no failure.
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
from types import MappingProxyType, ModuleType
from typing import Any

from pydantic import ValidationError

from gateway.config import PluginConfig
from gateway.errors import ConfigError, PluginUnavailable, StreamCut
from gateway.hooks import DROP, HOOKS, Plugin, Reject, Reply, Services
from gateway.sse import Event, EventParser
from gateway.telemetry import Telemetry
from gateway.turn import Answer, Memory, Record, Turn

__all__ = ["Loaded", "PluginHost", "StreamHooks", "freeze", "load_plugins", "thaw"]

_log = logging.getLogger("gateway.plugins")
_FAILURES_IN_A_ROW = 5
_REST = 30.0
_EVENT_BUDGET = 0.001
_OVERRUNS = 3


@dataclass(slots=True)
class Loaded:
    """A plugin with its hooks, and of each hook the failures in a row and until when it rests."""

    name: str
    plugin: Plugin
    is_closed: bool
    timeout: float
    hooks: frozenset[str]
    failures: Counter[str] = field(default_factory=Counter)
    rests_until: dict[str, float] = field(default_factory=dict)


def load_plugins(configs: Sequence[PluginConfig], folders: Sequence[Path]) -> list[Loaded]:
    """The enabled plugins, checked. `folders` are searched for plain names. Raises ConfigError with the YAML path."""
    loaded = []
    for index, config in enumerate(configs):
        if config.enabled:
            loaded.append(_load(config, f"plugins[{index}]", folders))
    return loaded


def _load(config: PluginConfig, path: str, folders: Sequence[Path]) -> Loaded:
    module_name, _, class_name = config.use.partition(":")
    module = _module(module_name, path, folders)
    kind = _plugin_class(module, class_name, path)
    hooks = _checked_hooks(kind, path)
    try:
        settings = kind.Config.model_validate(config.config)
    except ValidationError as error:
        lines = [
            f"{path}.config.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from error
    except Exception as error:  # a class that pydantic cannot build, or that is none of pydantic's
        raise ConfigError(
            f"{path}.use: the Config of {config.use} cannot be used: {type(error).__name__}: {error}"
        ) from error
    try:
        plugin = kind(settings)
    except Exception as error:
        raise ConfigError(f"{path}.use: {config.use} cannot be made: {type(error).__name__}: {error}") from error
    is_closed = kind.critical if config.on_failure is None else config.on_failure == "closed"
    return Loaded(config.use, plugin, is_closed, config.timeout_ms / 1000, hooks)


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
    known = sorted({file.stem for folder in folders for file in folder.glob("*.py") if file.stem != "__init__"})
    raise ConfigError(f"{path}.use: there is no plugin {name!r}; there are: {', '.join(known) or 'none'}")


def _plugin_class(module: ModuleType, name: str, path: str) -> type[Plugin]:
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    ]
    if name:
        own = [value for value in own if value.__name__ == name]
    if len(own) != 1:
        raise ConfigError(f"{path}.use: expected one class derived from gateway.hooks.Plugin, found {len(own)}")
    return own[0]


def _checked_hooks(kind: type[Plugin], path: str) -> frozenset[str]:
    found = set()
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
            wanted = "`async def`" if inspect.iscoroutinefunction(declared) else "plain `def`"
            raise ConfigError(f"{path}.use: {kind.__name__}.{name} must be {wanted}")
        found.add(name)
    return frozenset(found)


class PluginHost:
    """Runs the hooks. Plugins that do not have a hook cost nothing at it."""

    def __init__(self, loaded: Sequence[Loaded], telemetry: Telemetry) -> None:
        self._loaded = list(loaded)
        self._telemetry = telemetry
        self._with = {hook: [(index, one) for index, one in enumerate(loaded) if hook in one.hooks] for hook in HOOKS}
        self._stream = [
            (index, one)
            for index, one in self._with["on_stream_event"]
            if one.plugin.reads_stream or one.plugin.rewrites_stream
        ]

    def has(self, hook: str) -> bool:
        """True if some plugin has this hook."""
        return bool(self._with[hook])

    @property
    def body_bytes(self) -> int:
        """How much of a stream some plugin wants to see as a whole."""
        return max((one.plugin.body_bytes for one in self._loaded), default=0)

    @property
    def reads_stream(self) -> bool:
        return bool(self._stream)

    @property
    def rewrites_stream(self) -> bool:
        return any(one.plugin.rewrites_stream for _, one in self._stream)

    async def start(self, folder: Path) -> None:
        """Start all, in order. Raises ConfigError if one cannot."""
        for one in self._loaded:
            own = folder / "plugins" / one.name.replace(":", ".")
            services = Services(
                logger=logging.getLogger(f"gateway.plugin.{one.name}"),
                folder=own,
                clock=time.time,
                count=partial(self._count, one.name),
            )
            try:
                await one.plugin.start(services)
            except Exception as error:
                raise ConfigError(f"plugin {one.name} does not start: {type(error).__name__}: {error}") from error

    async def stop(self) -> None:
        """Stop all, last first; one that fails does not keep the others from stopping."""
        for one in reversed(self._loaded):
            try:
                async with asyncio.timeout(10):
                    await one.plugin.stop()
            except Exception as error:  # noqa: BLE001 — the plugin host isolates
                self._failed(one, "stop", error)

    async def on_request(self, turn: Turn) -> tuple[Turn, Reply | None]:
        """The turn with the number of plugins reached, and a reply if one answered itself."""
        for index, one in self._with["on_request"]:
            reply = await self._call(one, "on_request", turn)
            if reply is None:
                continue
            if isinstance(reply, Reply):
                return replace(turn, plugins_reached=index + 1), reply
            self._wrong_type(one, "on_request", reply)
        return turn, None

    async def on_recall(self, turn: Turn, memories: Sequence[Memory]) -> Sequence[Memory]:
        for _, one in self._reached("on_recall", turn):
            result = await self._call(one, "on_recall", turn, memories)
            memories = self._checked(one, "on_recall", result, Memory, memories)
        return memories

    async def on_messages(self, turn: Turn, messages: Sequence[Any]) -> Sequence[Any] | None:
        """New messages, or None if no plugin changed them."""
        changed = None
        for _, one in self._reached("on_messages", turn):
            current = messages if changed is None else changed
            result = await self._call(one, "on_messages", turn, freeze(current))
            if result is not None:
                changed = self._checked(one, "on_messages", result, Mapping, current)
        return changed

    async def on_store(self, turn: Turn, records: Sequence[Record]) -> Sequence[Record]:
        """The records to keep. Raises PluginUnavailable if a closed plugin failed: then nothing may be kept."""
        for index, one in reversed(self._with["on_store"]):
            if not _was_reached(index, turn):
                continue
            result = await self._call(one, "on_store", turn, tuple(records))
            records = self._checked(one, "on_store", result, Record, records)
        return records

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        for _, one in reversed(self._reached("on_response", turn)):
            await self._observe(one, "on_response", turn, answer)

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        for _, one in reversed(self._reached("on_error", turn)):
            await self._observe(one, "on_error", turn, error)

    def on_memory_change(self, scopes: Collection[str]) -> None:
        """Memories of these scopes were changed or deleted."""
        for _, one in self._with["on_memory_change"]:
            try:
                one.plugin.on_memory_change(frozenset(scopes))
            except Exception as error:  # noqa: BLE001 — the plugin host isolates
                self._failed(one, "on_memory_change", error)

    def stream(self, turn: Turn) -> "StreamHooks":
        """The stream hooks of one turn, last plugin first."""
        return StreamHooks(turn, [one for index, one in reversed(self._stream) if _was_reached(index, turn)], self)

    def _count(self, plugin: str, kind: str) -> None:
        self._telemetry.bound("plugin_counts", plugin, kind[:64]).inc()

    def _reached(self, hook: str, turn: Turn) -> list[tuple[int, Loaded]]:
        return [(index, one) for index, one in self._with[hook] if _was_reached(index, turn)]

    async def _observe(self, one: Loaded, hook: str, *arguments: Any) -> None:
        try:
            await self._call(one, hook, *arguments)
        except (PluginUnavailable, Reject):
            return  # the answer has gone out: there is nothing left to refuse

    async def _call(self, one: Loaded, hook: str, *arguments: Any) -> Any:
        """What the hook returns; None after a failure of an open plugin. Raises Reject or PluginUnavailable."""
        if time.monotonic() < one.rests_until.get(hook, 0.0):
            return self._decide(one)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(one.timeout):
                result = await getattr(one.plugin, hook)(*arguments)
            if time.perf_counter() - began > one.timeout:
                raise TimeoutError("it blocked the loop for longer than its time limit")
        except Reject:
            one.failures[hook] = 0
            raise
        except Exception as error:  # noqa: BLE001 — the plugin host isolates
            return self._failed_call(one, hook, error)
        finally:
            self._telemetry.bound("plugin_seconds", one.name, hook).observe(time.perf_counter() - began)
        one.failures[hook] = 0
        return result

    def _failed_call(self, one: Loaded, hook: str, error: BaseException) -> None:
        self._failed(one, hook, error)
        self._decide(one)

    def _failed(self, one: Loaded, hook: str, error: BaseException) -> None:
        one.failures[hook] += 1
        if one.failures[hook] >= _FAILURES_IN_A_ROW:
            one.rests_until[hook] = time.monotonic() + _REST
        self._telemetry.bound("plugin_failures", one.name, hook).inc()
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[1:]]
        _log.error(
            "plugin_failed",
            extra={"plugin": one.name, "hook": hook, "cause": type(error).__name__, "frames": own},
        )

    def _decide(self, one: Loaded) -> None:
        if one.is_closed:
            raise PluginUnavailable(f"the plugin {one.name} did not do its work, and nothing passes without it")

    def _wrong_type(self, one: Loaded, hook: str, value: object) -> None:
        self._failed_call(one, hook, TypeError(f"{hook} returned {type(value).__name__}"))

    def _checked(self, one: Loaded, hook: str, result: Any, kind: type, unchanged: Sequence[Any]) -> Sequence[Any]:
        if result is None:
            return unchanged
        if isinstance(result, list | tuple) and all(isinstance(item, kind) for item in result):
            return result
        self._wrong_type(one, hook, result)
        return unchanged


def _was_reached(index: int, turn: Turn) -> bool:
    return turn.plugins_reached < 0 or index < turn.plugins_reached


class StreamHooks:
    """The stream hooks of one turn: sync, timed; three overruns switch a plugin's hook off for the turn."""

    def __init__(self, turn: Turn, plugins: Sequence[Loaded], host: PluginHost) -> None:
        self._turn = turn
        self._active: dict[int, tuple[Loaded, int]] = {id(one): (one, 0) for one in plugins}
        self._host = host
        self._parser = EventParser()

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that go out for these. The same object unless a rewriter is configured; then whole events only,
        and comments (keep-alives) where a read held nothing else. Raises StreamCut if a closed plugin failed."""
        events = self._parser.feed(chunk)
        if not self._host.rewrites_stream:
            for event in events:
                self._event(event)
            return chunk
        if not events and chunk.startswith(b":") and not self._parser.is_mid_event:
            return chunk
        kept = [after for event in events if (after := self._event(event)) is not None]
        return b"".join(map(bytes, kept))

    def end(self) -> bytes:
        """The bytes of a last event whose empty line never came; only a rewriter owes them."""
        events = [after for event in self._parser.end() if (after := self._event(event)) is not None]
        return b"".join(map(bytes, events)) if self._host.rewrites_stream else b""

    def _event(self, event: Event) -> Event | None:
        """The event as it goes out; None: left out."""
        for one, overruns in list(self._active.values()):
            began = time.perf_counter()
            try:
                result = one.plugin.on_stream_event(self._turn, event)
                if result is not None and result is not DROP and not isinstance(result, Event):
                    raise TypeError(f"on_stream_event returned {type(result).__name__}")
            except Exception as error:
                self._host._failed(one, "on_stream_event", error)  # noqa: SLF001 — the host's other half
                del self._active[id(one)]
                if one.is_closed:
                    raise StreamCut(f"the plugin {one.name} failed, and nothing passes without it") from error
                continue
            if time.perf_counter() - began > _EVENT_BUDGET:
                self._overran(one, overruns + 1)
            if one.plugin.rewrites_stream and result is DROP:
                return None
            if one.plugin.rewrites_stream and isinstance(result, Event):
                event = result
        return event

    def _overran(self, one: Loaded, overruns: int) -> None:
        self._active[id(one)] = (one, overruns)
        if overruns >= _OVERRUNS:
            del self._active[id(one)]
            self._host._failed(one, "on_stream_event", TimeoutError("three overruns"))  # noqa: SLF001


def freeze(value: Any) -> Any:
    """A read-only view of JSON: mappings that cannot be written to, tuples for lists."""
    if isinstance(value, dict):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """`default` of a JSON writer for what `freeze` made."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
