"""Fetches a file from a public web address, for operators who allow that. Never from a private one.

A name is resolved once, and the connection goes to the very address that was looked at, so that a name cannot lead
elsewhere the second time. Redirects are not followed, proxies of the environment not used.
"""

import socket
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

__all__ = ["FetchRefused", "fetch"]

_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)


class FetchRefused(Exception):
    """The message is for whoever named the address."""


async def fetch(url: str, most: int) -> bytes:
    """The content behind a public address, `most` bytes at the most. Raises FetchRefused."""
    try:
        address = URL(url)  # what is looked at is what is connected to: odd digits and dots are made plain here
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
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > most:
                    raise FetchRefused(f"has more than {most // 2**20} MiB")
            return bytes(content)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise FetchRefused("cannot be fetched, or is not a public web address") from error


def _is_private_literal(host: str) -> bool:
    """True for an address written as a number that is not a public one, in whatever notation the system takes."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        pass
    try:
        return not ip_address(socket.inet_ntoa(socket.inet_aton(host))).is_global
    except OSError:
        return False


class _PublicResolver(AbstractResolver):
    """The system's resolver, without addresses that are not public."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        public = [one for one in found if ip_address(one["host"].partition("%")[0]).is_global]
        if not public:
            raise OSError("no public address")
        return public

    async def close(self) -> None:
        await self._system.close()
