"""The end of a command that cannot do its work."""

import errno
import os
import sys
from typing import NoReturn

from gateway.config import ServerConfig

__all__ = ["describe_listening", "fail"]


def fail(message: str, status: int) -> NoReturn:
    """Write a message and end the process."""
    sys.stderr.write(f"gateway: {message}\n")
    # threads of half-started parts must not keep a process that has nothing to do
    sys.stderr.flush()
    os._exit(status)


def describe_listening(error: OSError, server: ServerConfig) -> str:
    """Describe why a gateway cannot listen, and what to do."""
    help_text = {
        errno.EADDRINUSE: "stop the program that listens there, or choose another port (server.port, --port)",
        errno.EACCES: "choose a port from 1024 on (server.port, --port)",
        errno.EADDRNOTAVAIL: "this machine has no such address (server.host, --host)",
    }.get(error.errno or 0)
    if error.errno is None or help_text is None:
        reason = error.strerror or str(error)
    else:  # asyncio writes the address into the text once more
        reason = f"{os.strerror(error.errno).lower()}; {help_text}"
    return f"cannot listen on {server.host}:{server.port}: {reason}"
