"""Builds the turn of a request: principal, user, conversation and memory mode."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.config import Config
from gateway.errors import BadRequest
from gateway.formats.base import ParsedRequest, WireFormat
from gateway.identity import derived_session, named_session, scope_of
from gateway.memory.recalled import MemoryStatus, Recalled
from gateway.server.guard import principal_of, request_id_of, set_request_id
from gateway.server.headers import header_number, header_share
from gateway.server.sessions import Sessions
from gateway.server.shared_sessions import SharedSessions
from gateway.server.users import Users
from gateway.text.clients import AGENT_HEADERS
from gateway.turn import Identity, MemoryMode, Principal, Right, Turn

__all__ = ["Turns"]

_MAX_BUDGET = 1_000_000
_AMBIGUOUS, _OFF = Recalled(MemoryStatus.AMBIGUOUS, reason="users"), Recalled(MemoryStatus.OFF)


class Turns:
    """Builds the turns of requests, and derives ids for conversations without one."""

    def __init__(self, config: Config, users: Users) -> None:
        self.users = users
        self._config = config
        self.sessions = Sessions()
        self.shared_sessions: SharedSessions | None = None

    async def prepare(self, request: web.Request, ask: ParsedRequest) -> None:
        """Look for the conversation of a request in other replicas, if it has no id. Raises BadRequest."""
        if self.shared_sessions is None or ask.is_task or _is_declared_task(request.headers):
            return
        principal = principal_of(request)
        user = self.users.user_of(principal, request.headers, ask)
        if user is not None and named_session(request.headers, ask, self.users.known) is None:
            scope = scope_of(principal.tenant, user).value
            await self.shared_sessions.prepare(scope, ask.opening, ask.first_answer)

    def read(
        self, request: web.Request, raw: bytes, body: Mapping[str, Any], ask: ParsedRequest, *, wire_format: WireFormat
    ) -> Turn:
        """Build the turn of a request. Raises BadRequest."""
        principal, headers, now = principal_of(request), request.headers, time.time()
        mode = _memory_mode(principal, headers, self._config)
        if _is_declared_task(headers):
            ask = replace(ask, is_task=True)
        user = self.users.user_of(principal, headers, ask)
        identity = None if user is None else self._build_identity(principal, user, headers, ask, now)
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
            wire_format=wire_format,
            mode=mode,
            token_budget=header_number(headers, "x-memory-budget", _MAX_BUDGET),
            selectivity=header_share(headers, "x-memory-selectivity"),
            identity=identity if mode is not MemoryMode.OFF else None,
            user=user or "",
            recalled=_AMBIGUOUS if is_ambiguous else _OFF,
        )

    def note_answer(self, turn: Turn, text: str | None) -> None:
        """Record the first answer, which distinguishes conversations with the same opening."""
        ask, identity = turn.ask, turn.identity
        if text and identity is not None and not identity.is_session_named and not ask.first_answer:
            self.sessions.answered(identity.reads[0].value, ask.opening, identity.session_id, text)

    def _build_identity(
        self, principal: Principal, user: str, headers: Mapping[str, str], ask: ParsedRequest, now: float
    ) -> Identity:
        user_scope = scope_of(principal.tenant, user)
        is_task = ask.is_task  # read before a plugin may change the body
        explicit_session = named_session(headers, ask, self.users.known)
        if explicit_session is not None:
            session = explicit_session
        elif is_task:  # tasks open no conversation
            session = derived_session(ask.opening, ask.first_answer)
        else:
            session = self.sessions.name(user_scope.value, ask.opening, ask.first_answer, now)
        return Identity(
            user, session, reads=(user_scope,), writes=(user_scope,), is_session_named=explicit_session is not None
        )


def _is_declared_task(headers: Mapping[str, str]) -> bool:
    """True if a front end declares a task of its own, or an agent calls another one."""
    for name in AGENT_HEADERS:
        if name in headers:
            return True
    return "x-memory-task" in headers and bool(headers["x-memory-task"].strip())


def _memory_mode(principal: Principal, headers: Mapping[str, str], config: Config) -> MemoryMode:
    requested = headers.get("x-memory-mode")
    try:
        mode = MemoryMode.ON if requested is None else MemoryMode(requested.strip().lower())
    except ValueError as error:
        raise BadRequest("x-memory-mode must be on, read, write or off", param="x-memory-mode") from error
    if not config.memory.enabled or Right.MEMORY not in principal.rights:
        return MemoryMode.OFF
    return mode


def _turn_id(request: web.Request, principal: Principal, user: str, raw: bytes) -> str:
    """Return the request's id, or one derived from an `Idempotency-Key`, so that a retry creates the same records."""
    key = request.headers.get("idempotency-key")
    if not key:
        return request_id_of(request)
    parts = "\0".join((principal.tenant, user, key, "")).encode("utf-8", "surrogateescape")
    turn_id = hashlib.sha256(parts + raw).hexdigest()[:32]
    set_request_id(request, turn_id)  # the client gets the id under which the turn can be explained
    return turn_id
