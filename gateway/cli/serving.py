"""The gateway for a command: the running one, or a temporary one on the data folder."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from gateway.cli.calling import NotAnswered, ask
from gateway.cli.stranded import recover_stranded
from gateway.config import Config

__all__ = ["serving"]

_LOAD_TIMEOUT = 120.0
_STOP_TIMEOUT = 60.0


@contextmanager
def serving(config: Config, url: str, key: str, console: Console, *, alone: Config | None) -> Iterator[tuple[str, str]]:
    """Yield the URL and key for requests. `alone`: the configuration of the gateway that is started for this command if
    none runs; None if none may be started. Raises NotAnswered, FolderRefused, ConfigError or OSError."""
    try:
        ask(f"{url}/health", key)
    except NotAnswered:
        if alone is None:
            raise
    else:
        yield url, key
        return
    recover_stranded(config)
    place = config.memory.uri if config.memory.is_cluster else config.data_folder
    console.print(f"no gateway runs at {url}: doing it here, on {place}")
    with _alone(alone) as local_url:
        yield local_url, key


@contextmanager
def _alone(config: Config) -> Iterator[str]:
    from gateway.app import Gateway  # noqa: PLC0415 — takes seconds, not needed with a running gateway
    from gateway.telemetry import set_up_logging  # noqa: PLC0415

    set_up_logging("error")
    gateway = Gateway(config)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    try:
        started = asyncio.run_coroutine_threadsafe(gateway.start(), loop).result(_LOAD_TIMEOUT)
        try:
            if not asyncio.run_coroutine_threadsafe(gateway.memory.ready(_LOAD_TIMEOUT), loop).result(
                _LOAD_TIMEOUT + 5
            ):
                raise NotAnswered("the memory could not be loaded; `gateway serve` tells why")
            yield started.url
        finally:
            asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(_STOP_TIMEOUT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_TIMEOUT)
        loop.close()
