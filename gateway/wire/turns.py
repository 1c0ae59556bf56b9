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
from gateway.identity import identify
from gateway.turn import Ask, MemoryMode, Principal, Right, Turn
from gateway.wire.guard import header_number, principal_of, request_id_of, set_request_id

__all__ = ["turn_of"]

_MAX_BUDGET = 1_000_000


def turn_of(
    request: web.Request, raw: bytes, body: Mapping[str, Any], ask: Ask, *, dialect: Dialect, config: Config
) -> Turn:
    """Raises BadRequest."""
    principal, headers = principal_of(request), request.headers
    mode = _mode(principal, headers, config)
    if headers.get("x-memory-task", "").strip():  # a front end says itself that it asks on its own account
        ask = replace(ask, is_task=True)
    identity = identify(principal, headers, ask, config.memory.default_user)
    return Turn(
        id=_turn_id(request, principal, identity.user_id if identity else "", raw),
        started=time.perf_counter(),
        received_at=time.time(),
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
        identity=identity if mode is not MemoryMode.OFF else None,
        user=identity.user_id if identity else "",
    )


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
