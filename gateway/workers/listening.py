"""The port that all workers listen on: reserved by their supervisor, which does not listen itself.

With SO_REUSEPORT a second gateway could silently take a share of the connections. So the port is first bound without
it, which fails if another process listens there; then sockets that never listen keep it from all other users.
"""

import socket
import sys

__all__ = ["reserve_port"]


def reserve_port(host: str, port: int) -> tuple[int, list[socket.socket]]:
    """The port (a free one for 0), and the sockets that reserve it while they are open. Raises OSError."""
    flags = socket.AI_PASSIVE
    entries = dict.fromkeys(socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags))
    sockets: list[socket.socket] = []
    try:
        for family, type_, protocol, _, address in entries:
            if not socket.has_ipv6 and family == socket.AF_INET6:
                continue
            place = (address[0], port, *address[2:])
            _bind(family, type_, protocol, place, is_shared=False).close()
            reserved = _bind(family, type_, protocol, place, is_shared=True)
            sockets.append(reserved)
            port = reserved.getsockname()[1]
    except BaseException:
        for reserved in sockets:
            reserved.close()
        raise
    return port, sockets


def _bind(family: int, type_: int, protocol: int, address: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    bound = socket.socket(family, type_, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier process may still end
        if is_shared:
            _share(bound)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does
        bound.bind(address)
        if is_shared:  # a later socket with SO_REUSEADDR could else listen while no worker does
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        bound.close()
        text = f"error while attempting to bind on address {address}: {(error.strerror or str(error)).lower()}"
        raise OSError(error.errno, text) from error
    return bound


if sys.platform == "win32":

    def _share(bound: socket.socket) -> None:
        raise OSError("workers need SO_REUSEPORT, which Windows does not have")

else:

    def _share(bound: socket.socket) -> None:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
