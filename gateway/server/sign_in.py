"""Sessions of people who signed in to the console with a key of the gateway.

A session is a random token in a cookie that scripts cannot read and other sites cannot use; here it is kept by its
digest, in RAM only. It stands for the key's principal, and only for requests that the console's own pages send.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.errors import Forbidden
from gateway.identity import key_of
from gateway.turn import Principal

__all__ = ["CONSOLE_HEADER", "SESSION_COOKIE", "SignIns", "check_console_request", "session_token"]

SESSION_COOKIE: Final = "gateway_session"
CONSOLE_HEADER: Final = "x-gateway-console"
"""A header that pages of other sites cannot send without permission (CORS)."""

_MAX_SESSIONS = 1000
_MAX_OF_KEY = 50  # sessions of one key: it cannot end those of others
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class _SignIn:
    principal: Principal
    expires_at: float


class SignIns:
    """The sessions, each of `hours`. The oldest ends when there are too many, of one key or in all."""

    def __init__(self, hours: float) -> None:
        self.seconds = hours * 3600
        self._sessions: OrderedDict[bytes, _SignIn] = OrderedDict()

    def start(self, principal: Principal) -> str:
        """Start a session; return its token."""
        now, token = time.monotonic(), secrets.token_urlsafe(_TOKEN_BYTES)
        while self._sessions and next(iter(self._sessions.values())).expires_at <= now:
            self._sessions.popitem(last=False)
        of_key = [digest for digest, session in self._sessions.items() if session.principal is principal]
        for digest in of_key[: max(0, len(of_key) + 1 - _MAX_OF_KEY)]:
            del self._sessions[digest]
        self._sessions[_digest(token)] = _SignIn(principal, now + self.seconds)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(_digest(token), None)

    def principal(self, token: str) -> Principal | None:
        """The principal of a session; None if it has ended."""
        digest = _digest(token)
        session = self._sessions.get(digest)
        if session is not None and session.expires_at <= time.monotonic():
            del self._sessions[digest]
            return None
        return None if session is None else session.principal


def session_token(request: web.Request) -> str | None:
    """The token of the session that a request is sent in, which may have ended; None for a request with a key."""
    if "cookie" not in request.headers or key_of(request.headers):
        return None
    return request.cookies.get(SESSION_COOKIE)


def check_console_request(headers: Mapping[str, str], host: str) -> None:
    """Raise Forbidden unless a page of this very origin sent the request.

    Browsers name the relation of the sender in `Sec-Fetch-Site` where the page is local or encrypted; this also holds
    behind a proxy that changes `Host`. Elsewhere they send `Origin`. The console's own header cannot be sent by pages
    of other sites, whatever the browser.
    """
    relation, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_own = relation == "same-origin" if relation is not None else origin is None or origin.partition("://")[2] == host
    if CONSOLE_HEADER not in headers or not is_own:
        raise Forbidden("a session of the console is for its own pages only: programs send a key")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
