"""`gateway mcp`: passes the messages of an MCP client between standard input and output and `/mcp` of a gateway."""

import argparse
import base64
import http.client
import json
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO

from gateway.cli.calling import add_address
from gateway.config import Config

__all__ = ["Bridge", "add_arguments", "beside", "protocol_output", "run"]

_MAX_LINE = 64 * 2**20  # bytes
_THREADS = 8
_MAX_WAITING = 64  # messages that are sent or wait to be
_TIMEOUT = 120.0
_META = "io.modelcontextprotocol/protocolVersion"
_NAMES = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_PARSE_ERROR, _INTERNAL_ERROR = -32700, -32603


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; the caller sets its `run` function."""
    parser.add_argument("--user", help="the user whose memory is used; a key of one user needs no name")
    add_address(parser)


def beside(config: Config) -> Config:
    """The configuration of a gateway for one client: the same, on a free loopback port."""
    return config.model_copy(update={"server": config.server.model_copy(update={"host": "127.0.0.1", "port": 0})})


def protocol_output() -> BinaryIO:
    """A stream to the standard output, which from now on is the standard error for everything else in the process:
    nothing but messages may be written to it."""
    sys.stdout.flush()
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def run(url: str, key: str, user: str | None, source: BinaryIO, output: BinaryIO) -> int:
    """Pass messages on until the input ends, and wait for the answers that are owed."""
    headers = {"x-gateway-key": key} if key else {}
    headers |= {"x-memory-user": user} if user else {}
    with suppress(KeyboardInterrupt):
        Bridge(f"{url}/mcp", headers, output).serve(source)
    return 0


class Bridge:
    """Sends each message of a client by HTTP, several at once, and writes the answers as lines to `output`."""

    def __init__(self, url: str, headers: Mapping[str, str], output: BinaryIO) -> None:
        self._url = url
        self._headers = {"content-type": "application/json", "accept": "application/json", **headers}
        self._output = output
        self._lock = threading.Lock()
        self._version = ""  # negotiated by `initialize`
        self._in_flight: set[int | str] = set()
        self._cancelled: set[int | str] = set()

    def serve(self, source: BinaryIO) -> None:
        """Serve the lines of `source` until its end."""
        waiting = threading.Semaphore(_MAX_WAITING)
        with ThreadPoolExecutor(_THREADS, "mcp") as threads:
            for line in _lines(source):
                message = None if line is None else _parsed(line)
                if line is None or message is None:
                    self._write(_error(None, _PARSE_ERROR, "this line is no JSON object, or is too long"))
                elif message.get("method") == "initialize":  # what follows has the version that it negotiates
                    self._pass_on(line, message)
                elif message.get("method") == "notifications/cancelled":
                    self._cancel(message)
                else:
                    waiting.acquire()
                    with self._lock:
                        self._in_flight |= _ids(message)
                    done = threads.submit(self._pass_on, line, message)
                    done.add_done_callback(lambda _: waiting.release())

    def _pass_on(self, line: bytes, message: Mapping[str, Any]) -> None:
        id_ = next(iter(_ids(message)), None)
        answer = self._ask(line, message)
        with self._lock:
            is_cancelled = id_ in self._cancelled
            self._in_flight -= _ids(message)
            self._cancelled -= _ids(message)
        is_notification = "id" not in message and "method" in message
        if answer is None or is_cancelled or is_notification:
            return  # nothing is answered to a notification
        if message.get("method") == "initialize":
            self._version = str(answer.get("result", {}).get("protocolVersion", ""))
        if answer.get("id") is None:
            answer["id"] = id_  # an error of the whole request, which the client must find its request by
        self._write(answer)

    def _ask(self, line: bytes, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer of the gateway as an object; None for an accepted notification."""
        id_ = next(iter(_ids(message)), None)
        headers = self._headers | _headers_of(message, self._version)
        request = urllib.request.Request(self._url, line, headers)  # noqa: S310 — the operator's own address
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310 — as above
                body = response.read()
                answer = json.loads(body) if body else None
        except urllib.error.HTTPError as error:
            body = error.read()
            with suppress(ValueError):
                answer = json.loads(body)
                if isinstance(answer, dict) and "jsonrpc" in answer:
                    return answer
            return _error(id_, _INTERNAL_ERROR, f"{error.code}: {error.reason}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            return _error(id_, _INTERNAL_ERROR, f"the gateway does not answer: {reason}")
        return answer if isinstance(answer, dict) else None

    def _cancel(self, message: Mapping[str, Any]) -> None:
        """Drop the answer to a request that the client no longer waits for."""
        params = message.get("params")
        id_ = params.get("requestId") if isinstance(params, dict) else None
        with self._lock:
            if isinstance(id_, int | str) and id_ in self._in_flight:
                self._cancelled.add(id_)

    def _write(self, answer: Mapping[str, Any]) -> None:
        line = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        with self._lock, suppress(OSError, ValueError):  # a client that has gone closes the input, too
            self._output.write(line)
            self._output.flush()


def _lines(source: BinaryIO) -> Iterator[bytes | None]:
    """The lines that are not empty; None for one that is too long."""
    while line := source.readline(_MAX_LINE):
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            while (rest := source.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip():
            yield line


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _ids(message: Mapping[str, Any]) -> set[int | str]:
    """The id of a message; empty if it has no valid one."""
    id_ = message.get("id")
    return {id_} if isinstance(id_, int | str) and not isinstance(id_, bool) else set()


def _headers_of(message: Mapping[str, Any], version: str) -> dict[str, str]:
    """The headers of a message: in the stateless form those that repeat its body, else the negotiated version."""
    method, params = message.get("method"), message.get("params")
    params = params if isinstance(params, dict) else {}
    meta = params.get("_meta")
    if not isinstance(meta, dict) or _META not in meta:
        is_negotiated = version and method != "initialize"
        return {"mcp-protocol-version": version} if is_negotiated else {}
    name = params.get(_NAMES.get(str(method), ""))
    values = {"mcp-protocol-version": meta[_META], "mcp-method": method, "mcp-name": name}
    return {header: _encoded(value) for header, value in values.items() if isinstance(value, str)}


def _encoded(value: str) -> str:
    """The value as a header: in Base64 if it cannot be sent as it is."""
    if _PLAIN.fullmatch(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'replace')).decode()}?="


def _error(id_: int | str | None, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": message}}
