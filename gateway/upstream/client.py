"""HTTP client for upstream model servers. Only configured addresses are used, and redirects are not followed.

Bodies are passed as they are on the wire (`auto_decompress` off), one chunk per read. Four time-outs: connect, first
byte, idle between chunks, total.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote_plus, urlencode, urlsplit

import aiohttp
import orjson
from yarl import URL

from gateway.concurrency.deadline import within
from gateway.config import TimeoutsConfig, TlsConfig, UpstreamConfig
from gateway.errors import ConfigError, ConnectTimedOut, NotFound, StreamCut, UpstreamTimedOut, UpstreamUnreachable

__all__ = ["Answered", "HttpUpstream", "Incoming", "Outgoing", "Upstream", "make_session"]

_KEEP_ALIVE = 30.0
_MODEL = "{model}"
_READ_AHEAD = 16_384  # aiohttp's buffer per answer in bytes; it stops reading at twice as many
_CHECK_EVERY = 1.0  # seconds
_PATIENCE = 600.0  # seconds that the consumer may take for a chunk before the idle limit counts
_RECEIVE_BUFFER = 32 * 1024  # bytes of the socket's receive buffer: small, so that a slow reader slows the upstream
_SLICE = 2**20  # longer bodies are written in slices of this size, so that other tasks run in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request to an upstream. `path` is the part after the version prefix (`/chat/completions`), percent-encoded.
    `model` is empty if the request names none."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes] | None
    model: str = ""


class Incoming(Protocol):
    """An upstream's answer: the status and headers were read, the body was not."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body, one chunk per read. Raises StreamCut or UpstreamTimedOut."""
        ...

    def close(self) -> None:
        """Close the connection at once; does nothing after the whole body was read."""
        ...


class Answered:
    """A JSON answer that the gateway itself generates."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {**(headers or {}), "content-type": "application/json"}
        self._body = orjson.dumps(body)

    async def chunks(self) -> AsyncGenerator[bytes]:
        yield self._body

    def close(self) -> None:
        """Does nothing: there is no connection."""


class Upstream(Protocol):
    """A server or library that provides models."""

    name: str
    config: UpstreamConfig

    async def send(self, request: Outgoing) -> Incoming:
        """Raises UpstreamUnreachable or UpstreamTimedOut."""
        ...


def make_session() -> aiohttp.ClientSession:
    """Create the session that all upstreams of the process share."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE, socket_factory=_bounded_socket)
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        read_bufsize=_READ_AHEAD,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=None),
    )


def _bounded_socket(address: Any) -> socket.socket:
    """A socket with a small receive buffer."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return connection


class HttpUpstream:
    """Upstream over HTTP.

    The constructor reads the files of `tls`, relative to `folder`, so run it in a thread. Raises ConfigError if they
    cannot be used.
    """

    def __init__(self, config: UpstreamConfig, session: aiohttp.ClientSession, folder: Path = Path()) -> None:
        self.name = config.name
        self.config = config
        self._session = session
        base = config.base_url.rstrip("/")
        self._base = base if urlsplit(base).path else base + "/v1"
        self._query_names = frozenset(config.query)
        self._query = urlencode({name: value.get_secret_value() for name, value in config.query.items()})
        self._proxy = None if config.proxy is None else URL(config.proxy.get_secret_value())
        self._tls = _tls(config, folder)
        self._timeout = aiohttp.ClientTimeout(total=config.timeouts.total, sock_connect=config.timeouts.connect)

    async def send(self, request: Outgoing) -> Incoming:
        body, headers = request.body, dict(request.headers)
        if isinstance(body, bytes) and len(body) > _SLICE:
            headers["content-length"] = str(len(body))
            body = _slices(body)
        url = self._url(request)
        try:
            answering = self._session.request(
                request.method,
                _parsed(url),
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout,
                proxy=self._proxy,
                ssl=self._tls,
            )
            response = await within(self.config.timeouts.first_byte, answering)
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectTimedOut(f"the upstream {self.name} could not be reached in time") from error
        except TimeoutError as error:
            raise UpstreamTimedOut(f"the upstream {self.name} did not answer in time") from error
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnreachable(f"the upstream {self.name} cannot be reached") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamUnreachable(f"the upstream {self.name} broke the connection before it answered") from error
        return HttpIncoming(response, self.name, self.config.timeouts)

    def _url(self, request: Outgoing) -> str:
        base = self._base
        if _MODEL in base:
            if not request.model:
                raise NotFound(f"the upstream {self.name} has an address for each model; name one in the body")
            if request.model in (".", ".."):
                raise NotFound("there is no such model", code="model_not_found", param="model")
            base = base.replace(_MODEL, quote(request.model, safe=""))
        client_query = request.query_string
        if client_query and self._query_names:  # clients cannot override configured parameters
            pairs = client_query.split("&")
            pairs = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in self._query_names]
            client_query = "&".join(pairs)
        query = "&".join(filter(None, (client_query, self._query)))
        return f"{base}{request.path}?{query}" if query else base + request.path


def _tls(config: UpstreamConfig, folder: Path) -> ssl.SSLContext | bool:
    """The TLS context of an upstream; True for aiohttp's default. Raises ConfigError."""
    tls = config.tls
    if tls == TlsConfig():
        return True
    try:
        context = ssl.create_default_context(cafile=_in(folder, tls.ca_file))
        if tls.cert_file is not None:
            context.load_cert_chain(folder / tls.cert_file, _in(folder, tls.key_file))
    except OSError as error:  # SSLError is a subclass
        raise ConfigError(
            f"upstreams: {config.name}.tls: its files cannot be used: {error.strerror or error}"
        ) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _in(folder: Path, file: str | None) -> Path | None:
    return None if file is None else folder / file


@lru_cache(256)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


async def _slices(body: bytes) -> AsyncGenerator[bytes]:
    for begin in range(0, len(body), _SLICE):
        yield body[begin : begin + _SLICE]


class HttpIncoming:
    """An answer over HTTP; one idle timer, whose deadline is moved with each chunk, detects a silent upstream."""

    def __init__(self, response: aiohttp.ClientResponse, name: str, timeouts: TimeoutsConfig) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._name = name
        self._idle = timeouts.idle

    async def chunks(self) -> AsyncGenerator[bytes]:
        content = self._response.content
        if content.is_eof() and content.exception() is None:  # it arrived with the headers, as most plain answers do
            try:
                body = content.read_nowait()
            except TimeoutError as error:
                raise UpstreamTimedOut(f"the upstream {self._name} took too long") from error
            if body:
                yield body
            return
        watch = _Watch(self._idle, self._response.close, self._is_broken)
        time = asyncio.get_running_loop().time
        try:
            while chunk := await content.readany():
                watch.last = time() + _PATIENCE  # a slow consumer does not count as a silent upstream
                yield chunk
                watch.last = time()
        except TimeoutError as error:
            raise UpstreamTimedOut(f"the upstream {self._name} took too long") from error
        except (aiohttp.ClientError, OSError) as error:
            if watch.has_fired and not watch.is_broken:
                raise UpstreamTimedOut(f"the upstream {self._name} fell silent") from error
            raise StreamCut(f"the upstream {self._name} broke off its answer") from error
        finally:
            watch.stop()
        if watch.is_broken:
            raise StreamCut(f"the upstream {self._name} broke off its answer")
        if watch.has_fired:
            raise UpstreamTimedOut(f"the upstream {self._name} fell silent")

    def _is_broken(self) -> bool:
        """True if the connection is closed before the end of the body: aiohttp does not report invalid chunked
        encoding."""
        connection = self._response.connection
        return connection is not None and (connection.transport is None or connection.transport.is_closing())

    def close(self) -> None:
        self._response.close()


class _Watch:
    """Calls `on_silence` if `last`, the time of the newest chunk, is `limit` seconds ago, or if the connection looks
    broken. Moving `last` is cheaper than a timer for each chunk."""

    def __init__(self, limit: float, on_silence: Callable[[], None], looks_broken: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._on_silence = on_silence
        self._looks_broken = looks_broken
        self.last = self._loop.time()
        self._timer = self._loop.call_later(min(limit, _CHECK_EVERY), self._check)
        self.has_fired = self.is_broken = False

    def stop(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        remaining = self.last + self._limit - self._loop.time()
        # only if broken twice in a row: the connection is also closed right after a regular end
        was_broken, self.is_broken = self.is_broken, self._looks_broken()
        if remaining > 0 and not (was_broken and self.is_broken):
            self._timer = self._loop.call_later(min(remaining, _CHECK_EVERY), self._check)
            return
        self.has_fired = True
        self._on_silence()
