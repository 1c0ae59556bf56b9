"""HTTP client of the command line for a running gateway."""

import argparse
import json
import os
import re
import urllib.error
import urllib.request
from typing import Any

from gateway.config import Config

__all__ = ["NotAnswered", "add_address", "address_of", "ask", "memory_id", "message_of", "readable"]

_TIMEOUT = 30.0
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class NotAnswered(Exception):
    """The gateway gave no usable answer; the message contains the reason and a remedy."""


def add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="URL of the gateway; default: server.host and server.port of the configuration")
    parser.add_argument("--key", help="gateway key; default: the environment variable GATEWAY_KEY")


def address_of(arguments: argparse.Namespace, config: Config) -> tuple[str, str]:
    """The base URL and the key (empty if none) of the gateway."""
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    host = "127.0.0.1" if host in ("0.0.0.0", "[::]") else host  # noqa: S104 — a wildcard address is no target for requests
    url = arguments.url or f"http://{host}:{config.server.port}"
    return url.rstrip("/"), arguments.key or os.environ.get("GATEWAY_KEY", "")


def ask(url: str, key: str, body: Any = None, timeout: float = _TIMEOUT) -> Any:
    """Send a GET, or a POST if there is a body; return the parsed JSON. Raises NotAnswered."""
    headers = {"content-type": "application/json"} | ({"x-gateway-key": key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 — the operator's own address
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310 — as above
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise NotAnswered(message_of(error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise NotAnswered(f"no gateway answers at {url}: {reason}. Start it, or name its address with --url") from error


def memory_id(text: str) -> str:
    """Argument type: an id of a memory, or a prefix of one, but not empty, which would match all."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an id, or the beginning of one, is needed")
    return text.strip()


def readable(text: str) -> str:
    """Escape untrusted text for the terminal: control characters, which move the cursor or set colours, and markup."""
    from rich.markup import escape  # noqa: PLC0415 — not needed by `serve`

    return escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def message_of(error: urllib.error.HTTPError) -> str:
    """The status and message of an error answer."""
    try:
        return f"{error.code}: {json.loads(error.read())['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{error.code}: {error.reason}"
