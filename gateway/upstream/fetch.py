"""Fetches a file from a public URL, for operators who allow that. Never from a private address.

A host name is resolved once and the connection uses the address that was checked, which prevents DNS rebinding.
Redirects are not followed and proxies from the environment are not used.
"""

import socket
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.concurrency.reading import TooLong, read_bounded

__all__ = ["FetchRefused", "fetch"]

_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)


class FetchRefused(Exception):
    """Raised when a URL is not fetched. The message is for the client that gave the URL."""


async def fetch(url: str, most: int) -> bytes:
    """The content of a public URL, at most `most` bytes. Raises FetchRefused."""
    try:
        address = URL(url)  # normalises unusual digits and dots, so that the check and the connection use the same host
    except ValueError as error:
        raise FetchRefused("is no web address") from error
    host = address.host
    if not host or address.scheme not in ("http", "https") or not host.isascii() or _is_private_literal(host):
        raise FetchRefused("is not a public web address")
    connector = aiohttp.TCPConnector(resolver=_PublicResolver(), use_dns_cache=False)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.get(address, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise FetchRefused(f"the server answered {response.status}")
            return await read_bounded(response.content.iter_any(), most)
    except TooLong as error:
        raise FetchRefused(f"has more than {most // 2**20} MiB") from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise FetchRefused("cannot be fetched, or is not a public web address") from error


def _is_private_literal(host: str) -> bool:
    """True for a non-public IP address literal, in any notation that the system accepts."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        pass
    try:
        return not ip_address(socket.inet_ntoa(socket.inet_aton(host))).is_global
    except OSError:
        return False


class _PublicResolver(AbstractResolver):
    """The system's resolver, restricted to public addresses."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._system.resolve(host, port, family)
        public = [result for result in results if ip_address(result["host"].partition("%")[0]).is_global]
        if not public:
            raise OSError("no public address")
        return public

    async def close(self) -> None:
        await self._system.close()
