import errno
import os

import pytest

from gateway.cli.ending import describe_listening
from gateway.config import ServerConfig


@pytest.mark.parametrize(
    ("number", "help_text"),
    [
        (errno.EADDRINUSE, "stop the program that listens there, or choose another port (server.port, --port)"),
        (errno.EACCES, "choose a port from 1024 on (server.port, --port)"),
        (errno.EADDRNOTAVAIL, "this machine has no such address (server.host, --host)"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_with_what_to_do(number: int, help_text: str) -> None:
    text = describe_listening(
        OSError(number, f"error while attempting to bind: {os.strerror(number)}"), ServerConfig(port=80)
    )
    assert text == f"cannot listen on 127.0.0.1:80: {os.strerror(number).lower()}; {help_text}"


def test_another_error_is_told_as_it_is() -> None:
    assert describe_listening(OSError("no luck"), ServerConfig()) == "cannot listen on 127.0.0.1:8080: no luck"
