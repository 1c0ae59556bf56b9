"""Listens for HTTP: at the configured address, and in the owner of several workers at a socket for the others."""

import asyncio
import contextlib
import os
from functools import partial
from typing import Final

from aiohttp import web

from gateway.config import ServerConfig
from gateway.server.guard import Protocol
from gateway.workers.peers import Peers

__all__ = ["listen"]

_KEEP_ALIVE: Final = 55.0
_MAX_HEADER: Final = 16_384
_BACKLOG: Final = 1024
_LINGER: Final = 10.0  # seconds that the rest of a body is read after a request was refused


async def listen(manager: web.Server, config: ServerConfig, peers: Peers) -> list[asyncio.Server]:
    """Start to listen. Returns the servers, that of the configured address last. Raises OSError (port in use).

    Workers share one port; the kernel spreads connections over them.
    """
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
    servers = []
    if peers.is_owner and peers.is_shared:
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(os.unlink, peers.http_path)  # of an earlier owner
        servers.append(await loop.create_unix_server(protocol, peers.http_path, backlog=_BACKLOG))
    is_shared = peers.is_shared or None  # None: the default of the system
    servers.append(await loop.create_server(protocol, config.host, config.port, backlog=_BACKLOG, reuse_port=is_shared))
    return servers
