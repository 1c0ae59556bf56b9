"""Whose memory a request uses that names no user: the default user's, as long as one person only stands behind a key.

A front end with many users that names nobody would mix their memories. So the identities that front ends send with a
key are counted, as digests, and at the second one the default user ends for this key, for good: chats go on without
memory. The counts are kept in the data folder.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import orjson

from gateway.identity import FrontEndHeaders, foreign_user, named_user, unknown_identity
from gateway.store.folder import write_whole
from gateway.turn import Ask, Principal

__all__ = ["Users"]

_log = logging.getLogger("gateway.users")
_ENDED = 2  # identities of one key at which its default user ends


class Users:
    """`path`: where the identities of each key are kept."""

    def __init__(self, default: str | None, known: FrontEndHeaders, path: Path) -> None:
        self.known = known
        self._default = default
        self._path = path
        self._identities: dict[str, list[str]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._is_unreadable = False

    async def load(self) -> None:
        """Read what is kept. While the file cannot be read the default user has ended for all keys: nobody knows whose
        memory it would be."""
        if self._default is None:
            return
        try:
            stored = orjson.loads(await asyncio.to_thread(self._path.read_bytes))
            self._identities = {str(key): [str(one) for one in seen][:_ENDED] for key, seen in stored.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError, TypeError) as error:
            self._is_unreadable = True
            _log.error(
                "identities_not_read",
                extra={
                    "cause": type(error).__name__,
                    "file": str(self._path),
                    "help": "requests that name no user have no memory until it is mended, or the gateway is stopped "
                    "and it is deleted",
                },
            )

    async def stop(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)

    def user_of(self, principal: Principal, headers: Mapping[str, str], ask: Ask) -> str | None:
        """The user of a request; None if nobody is named and there is no default user, or no longer. Raises
        BadRequest."""
        user = named_user(principal, headers, ask, self.known)
        if self._default is None or principal.user is not None:
            return user
        identity = foreign_user(headers, ask, self.known) or unknown_identity(headers)
        if identity is not None:
            self._note(principal, identity)
        if user is not None or self.is_ambiguous(principal):
            return user
        return self._default

    def is_ambiguous(self, principal: Principal) -> bool:
        """True if several people stand behind a key, so that the default user has ended for it."""
        if self._default is None:
            return False
        return self._is_unreadable or len(self._identities.get(_key(principal), ())) >= _ENDED

    def _note(self, principal: Principal, identity: str) -> None:
        if self._is_unreadable:  # it is left as it is, to be mended
            return
        seen = self._identities.setdefault(_key(principal), [])
        digest = hashlib.sha256(f"{principal.tenant}\0{identity}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if len(seen) >= _ENDED or digest in seen:
            return
        seen.append(digest)
        if len(seen) == _ENDED:
            _log.warning(
                "default_user_ended",
                extra={
                    "tenant": principal.tenant,
                    "key": principal.name,
                    "help": "several users come with this key: requests that name none have no memory from now on; see "
                    "`Front ends with several users` in the README",
                },
            )
        self._writing = asyncio.create_task(self._write(self._writing), name="identities")

    async def _write(self, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await asyncio.to_thread(write_whole, self._path, orjson.dumps(self._identities))
        except OSError as error:
            _log.error("identities_not_written", extra={"cause": str(error)})


def _key(principal: Principal) -> str:
    return f"{principal.tenant}\0{principal.name}"
