"""The user of requests that name none: the default user, as long as only one person uses a key.

A front end with many users that sends no user ids would mix their memories. So the identities that front ends send with
a key are counted, as digests, and the second one disables the default user for this key permanently: chats continue
without memory. The counts are stored in the data folder. Several workers tell each other what they see, and the owner
of the store writes the file; so do replicas of a cluster, whose file is a shared document.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence

import orjson

from gateway import bus_kinds
from gateway.bus import Bus
from gateway.formats.base import ParsedRequest
from gateway.identity import FrontEndHeaders, foreign_user, named_user, unknown_identity
from gateway.storage.protocols import SmallFile
from gateway.turn import Principal
from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["Users"]

_log = logging.getLogger("gateway.users")
_MAX_IDENTITIES = 2  # identities of one key that disable its default user


class Users:
    """Determines users, and counts the identities seen per key in `file`. Construct it before the peers start."""

    def __init__(
        self,
        default: str | None,
        known: FrontEndHeaders,
        file: SmallFile,
        peers: Peers | None = None,
        bus: Bus | None = None,
    ) -> None:
        self.known = known
        self._default = default
        self._file = file
        self._identities: dict[str, list[str]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._is_unreadable = False
        self._peers = peers = Peers() if peers is None else peers
        self._is_loaded = not peers.is_shared  # other workers may send identities before the file is read
        peers.on(message_kinds.IDENTITY, lambda identity: self._add(*identity))
        peers.on(message_kinds.IDENTITIES, self._merge)
        peers.on_join.append(lambda number: peers.send(number, message_kinds.IDENTITIES, self._identities))
        self._bus = Bus() if bus is None else bus
        self._bus.on(bus_kinds.IDENTITY, self._note_elsewhere)

    async def load(self) -> None:
        """Load the stored identities. While the file is unreadable, the default user is disabled for all keys, since
        the owner of the memory is unknown."""
        if self._default is None:
            return
        earlier: Mapping[str, Sequence[str]] = {}
        try:
            stored = orjson.loads(await asyncio.to_thread(self._file.read))
            earlier = self._identities  # what other workers have sent already
            self._identities = {
                str(key): [str(digest) for digest in digests][:_MAX_IDENTITIES] for key, digests in stored.items()
            }
        except FileNotFoundError:
            earlier, self._identities = self._identities, {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            self._is_unreadable = True
            _log.error(
                "identities_not_read",
                extra={
                    "cause": type(error).__name__,
                    "file": self._file.name,
                    "help": "requests that name no user have no memory until it is mended, or the gateway is stopped "
                    "and it is deleted",
                },
            )
        self._is_loaded = True
        for key, digests in earlier.items():
            for digest in digests:
                self._add(key, digest)

    async def stop(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=5)

    def user_of(self, principal: Principal, headers: Mapping[str, str], ask: ParsedRequest) -> str | None:
        """Return the user of a request; None if it names none and there is no default user, or it is disabled.

        Raises BadRequest.
        """
        user = named_user(principal, headers, ask, self.known)
        if self._default is None or principal.user is not None:
            return user
        identity = foreign_user(headers, ask, self.known) or unknown_identity(headers)
        if identity is not None:
            self._note_identity(principal, identity)
        if user is not None or self.is_ambiguous(principal):
            return user
        return self._default

    def is_ambiguous(self, principal: Principal) -> bool:
        """True if several people use a key, so that the default user is disabled for it."""
        if self._default is None:
            return False
        return self._is_unreadable or len(self._identities.get(_key(principal), ())) >= _MAX_IDENTITIES

    def _note_identity(self, principal: Principal, identity: str) -> None:
        key = _key(principal)
        digest = hashlib.sha256(f"{principal.tenant}\0{identity}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if not self._add(key, digest):
            return
        self._peers.publish(message_kinds.IDENTITY, (key, digest))
        self._bus.publish(bus_kinds.IDENTITY, [key, digest])
        if self.is_ambiguous(principal):
            _log.warning(
                "default_user_ended",
                extra={
                    "tenant": principal.tenant,
                    "key": principal.name,
                    "help": "several users come with this key: requests that name none have no memory from now on; see "
                    "docs/guides/front-ends.md",
                },
            )

    def _add(self, key: str, digest: str) -> bool:
        """Note an identity of a key. False if it is known, or enough are."""
        if self._is_unreadable or self._default is None:  # the file is left unchanged, to be repaired
            return False
        digests = self._identities.setdefault(key, [])
        if len(digests) >= _MAX_IDENTITIES or digest in digests:
            return False
        digests.append(digest)
        if self._peers.is_owner and self._is_loaded:
            self._writing = asyncio.create_task(self._write(self._writing), name="identities")
        return True

    def _note_elsewhere(self, identity: Sequence[str]) -> None:
        """Note an identity that another replica has seen."""
        key, digest = identity
        self._add(key, digest)

    def _merge(self, identities: Mapping[str, Sequence[str]]) -> None:
        """Take over what the owner of the store knows, and tell it what it does not know: it may have been away."""
        for key, digests in self._identities.items():
            for digest in set(digests).difference(identities.get(key, ())):
                self._peers.publish(message_kinds.IDENTITY, (key, digest))
        for key, known in identities.items():
            for digest in known:
                self._add(key, digest)

    async def _read_others(self) -> Mapping[str, Sequence[str]]:
        """The identities that other replicas have written. Raises OSError."""
        if not self._bus.is_shared:
            return {}
        try:
            stored: Mapping[str, Sequence[str]] = orjson.loads(await asyncio.to_thread(self._file.read))
        except FileNotFoundError:
            return {}
        return stored

    async def _write(self, previous: "asyncio.Task[None] | None") -> None:
        if previous is not None:
            await asyncio.wait([previous])
        try:
            for key, digests in (await self._read_others()).items():
                known = self._identities.setdefault(key, [])
                known += [digest for digest in digests if digest not in known][: _MAX_IDENTITIES - len(known)]
            await asyncio.to_thread(self._file.write, orjson.dumps(self._identities))
        except (OSError, ValueError, AttributeError) as error:
            _log.error("identities_write_failed", extra={"cause": str(error)})


def _key(principal: Principal) -> str:
    return f"{principal.tenant}\0{principal.name}"
