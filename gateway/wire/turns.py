"""From a request to its turn: who asks, for whom, in which conversation, and what of memory."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.config import Config
from gateway.dialect import Dialect
from gateway.errors import BadRequest
from gateway.identity import derived_session, named_session, scope_of
from gateway.text.clients import AGENT_HEADERS
from gateway.turn import Ask, Identity, MemoryMode, MemoryStatus, Principal, Recalled, Right, Turn
from gateway.wire.guard import principal_of, request_id_of, set_request_id
from gateway.wire.headers import header_number, header_share
from gateway.wire.sessions import Sessions
from gateway.wire.users import Users

__all__ = ["Turns"]

_MAX_BUDGET = 1_000_000


class Turns:
    """Makes the turn of a request."""

    def __init__(self, config: Config, users: Users) -> None:
        self.users = users
        self._config = config
        self._sessions = Sessions()

    def read(self, request: web.Request, raw: bytes, body: Mapping[str, Any], ask: Ask, *, dialect: Dialect) -> Turn:
        """Raises BadRequest."""
        principal, headers, now = principal_of(request), request.headers, time.time()
        mode = _mode(principal, headers, self._config)
        # a front end says itself that it asks on its own account, or an agent asks another one
        if headers.get("x-memory-task", "").strip() or any(name in headers for name in AGENT_HEADERS):
            ask = replace(ask, is_task=True)
        user = self.users.user_of(principal, headers, ask)
        identity = None if user is None else self._identity(principal, user, headers, ask, now)
        is_ambiguous = user is None and mode is not MemoryMode.OFF and self.users.is_ambiguous(principal)
        return Turn(
            id=_turn_id(request, principal, user or "", raw),
            started=time.perf_counter(),
            received_at=now,
            principal=principal,
            path=request.rel_url.raw_path.removeprefix("/v1"),
            query_string=request.rel_url.raw_query_string,
            headers=headers,
            raw=raw,
            body=body,
            ask=ask,
            dialect=dialect,
            mode=mode,
            token_budget=header_number(headers, "x-memory-budget", _MAX_BUDGET),
            selectivity=header_share(headers, "x-memory-selectivity"),
            identity=identity if mode is not MemoryMode.OFF else None,
            user=user or "",
            recalled=Recalled(MemoryStatus.AMBIGUOUS, reason="users") if is_ambiguous else Recalled(MemoryStatus.OFF),
        )

    def note_answer(self, turn: Turn, text: str | None) -> None:
        """Tell conversations that open alike apart by their first answers."""
        ask, identity = turn.ask, turn.identity
        if text and identity is not None and not identity.is_session_named and not ask.first_answer:
            self._sessions.answered(identity.reads[0].value, ask.opening, identity.session_id, text)

    def _identity(self, principal: Principal, user: str, headers: Mapping[str, str], ask: Ask, now: float) -> Identity:
        own = scope_of(principal.tenant, user)
        named = named_session(headers, ask, self.users.known)
        if named is not None:
            session = named
        elif ask.is_task:  # opens no conversation
            session = derived_session(ask.opening, ask.first_answer)
        else:
            session = self._sessions.name(own.value, ask.opening, ask.first_answer, now)
        return Identity(user, session, reads=(own,), writes=(own,), is_session_named=named is not None)


def _mode(principal: Principal, headers: Mapping[str, str], config: Config) -> MemoryMode:
    asked = headers.get("x-memory-mode", MemoryMode.ON).strip().lower()
    try:
        mode = MemoryMode(asked)
    except ValueError as error:
        raise BadRequest("x-memory-mode must be on, read, write or off", param="x-memory-mode") from error
    if not config.memory.enabled or Right.MEMORY not in principal.rights:
        return MemoryMode.OFF
    return mode


def _turn_id(request: web.Request, principal: Principal, user: str, raw: bytes) -> str:
    """The request's id; with an `Idempotency-Key` the same one each time, so that a retry makes the same records."""
    key = request.headers.get("idempotency-key")
    if not key:
        return request_id_of(request)
    parts = "\0".join((principal.tenant, user, key, "")).encode("utf-8", "surrogateescape")
    made = hashlib.sha256(parts + raw).hexdigest()[:32]
    set_request_id(request, made)  # what the client is told is what explains the turn
    return made
