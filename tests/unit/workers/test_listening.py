"""Tests of the reserved port, with real sockets."""

import asyncio
import socket
from contextlib import closing

import pytest

from gateway.workers.listening import reserve_port


def listening(port: int, *, is_shared: bool) -> socket.socket:
    """A socket that listens as a gateway with workers does, or as one without."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def reserved(host: str, port: int) -> int:
    """The port, if it can be reserved."""
    port, sockets = reserve_port(host, port)
    for placeholder in sockets:
        placeholder.close()
    return port


def test_a_reserved_port_is_free_for_workers_and_for_no_other_gateway() -> None:
    port, (reservation,) = reserve_port("127.0.0.1", 0)
    with closing(reservation):
        for _ in range(2):  # also after all workers died
            with pytest.raises(OSError, match="in use"):
                listening(port, is_shared=False)
            with pytest.raises(OSError, match="in use"):
                reserve_port("127.0.0.1", port)
            with listening(port, is_shared=True), listening(port, is_shared=True):
                with pytest.raises(OSError, match="in use"):
                    listening(port, is_shared=False)
                with pytest.raises(OSError, match="in use"):
                    reserve_port("127.0.0.1", port)
    with listening(port, is_shared=False):
        pass


def test_a_reservation_gets_no_connections() -> None:
    port, (reservation,) = reserve_port("127.0.0.1", 0)
    with closing(reservation), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


async def test_a_port_in_use_is_refused_in_the_words_of_asyncio() -> None:
    with listening(0, is_shared=False) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match="in use") as ours:
            reserve_port("127.0.0.1", port)
        with pytest.raises(OSError, match="in use") as theirs:
            await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)
        assert ours.value.strerror == theirs.value.strerror


def test_all_addresses_of_a_name_get_one_port() -> None:
    port, sockets = reserve_port("localhost", 0)
    try:
        assert {placeholder.getsockname()[1] for placeholder in sockets} == {port}
    finally:
        for placeholder in sockets:
            placeholder.close()


def test_a_port_with_connections_that_still_end_can_be_reserved() -> None:
    with listening(0, is_shared=False) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        connection, _ = listener.accept()
        connection.close()  # this side closes first: the port stays in TIME_WAIT
        client.close()
    assert reserved("127.0.0.1", port) == port
