"""The end of a command that cannot do its work."""

import os
import sys
from typing import NoReturn

__all__ = ["fail"]


def fail(message: str, status: int) -> NoReturn:
    """Write a message and end the process."""
    sys.stderr.write(f"gateway: {message}\n")
    # threads of half-started parts must not keep a process that has nothing to do
    sys.stderr.flush()
    os._exit(status)
