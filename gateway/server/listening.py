"""Serves a web application on the configured port, and, as the owner of the store, on the socket for other workers."""

import asyncio
import contextlib
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from aiohttp import web

from gateway.config import ServerConfig
from gateway.server.guard import Protocol
from gateway.workers.peers import Peers

__all__ = ["listen"]

_KEEP_ALIVE: Final = 55.0  # seconds
_MAX_HEADER: Final = 16_384  # bytes
_BACKLOG: Final = 1024  # connections
_LINGER = 10.0  # seconds that the rest of a body is read after a request was refused


async def listen(app: web.Application, config: ServerConfig, peers: Peers, stops: AsyncExitStack) -> int:
    """Start to serve. Returns the port; what ends it is pushed to `stops`. Raises OSError.

    Several workers share a port: the system spreads connections among them.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=config.shutdown_timeout)
    await runner.setup()
    stops.push_async_callback(runner.cleanup)
    manager = runner.server
    assert manager is not None  # noqa: S101 — created by `setup`
    loop = asyncio.get_running_loop()
    protocol = partial(
        Protocol,
        manager,
        loop=loop,
        access_log=None,  # type: ignore[arg-type]  # None disables it
        keepalive_timeout=_KEEP_ALIVE,
        lingering_time=_LINGER,
        max_line_size=_MAX_HEADER,
        max_field_size=_MAX_HEADER,
    )
    if peers.is_owner and peers.is_shared:
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, peers.http_path)  # of an earlier owner
        stops.callback((await loop.create_unix_server(protocol, peers.http_path, backlog=_BACKLOG)).close)
    server = await loop.create_server(
        protocol, config.host, config.port, backlog=_BACKLOG, reuse_port=peers.is_shared or None
    )
    stops.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port
