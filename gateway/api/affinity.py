"""Response affinity: which upstream keeps a response or conversation, for whom, and in which session.

For the caller, an id that belongs to another tenant or user does not exist. An id unknown to the gateway may belong to
any user of the upstream's account: it needs a key with the right `upstream_state`, or a client that sends its own
credentials to the upstream.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web

from gateway.api.state_references import (
    check_unambiguous,
    may_refer_to_state,
    owned_references,
    refers_to_item,
    refers_to_state,
)
from gateway.concurrency.offload import offload
from gateway.errors import Forbidden, NotFound
from gateway.formats.base import ParsedRequest
from gateway.server.guard import principal_of
from gateway.server.users import Users
from gateway.storage.protocols import Owners
from gateway.storage.values import Owner
from gateway.turn import Principal, Right
from gateway.upstream.client import Upstream
from gateway.upstream.forward import Forwarder

__all__ = ["Affinity", "StateGuard"]


class Affinity:
    """Checks ids of stored responses against the registry of their owners, which survives a restart."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def put(self, response_id: str, owner: Owner) -> None:
        self._owners.put(response_id, owner)

    async def get(
        self,
        principal: Principal,
        response_id: Any,
        user: str | None,
        upstreams: Collection[str],
        *,
        is_own_account: bool = False,
    ) -> Owner | None:
        """Return the owner of a response; None without an id, or for an unknown one that the caller may use.

        Raises NotFound.

        `user`: the user that the request names; without one, a key sees the responses of all users of its tenant.
        `upstreams`: names of the candidate upstreams; an id of another upstream is unknown. `is_own_account`: these
        upstreams get the client's own credentials.
        """
        if not isinstance(response_id, str) or not response_id:
            return None
        owner = await self._owners.get(response_id)
        if owner is not None and owner.upstream not in upstreams:
            owner = None
        caller = principal.user or user
        if owner is None:
            is_refused = Right.UPSTREAM_STATE not in principal.rights and not is_own_account
        else:
            is_refused = owner.tenant != principal.tenant or (caller is not None and owner.user != caller)
        if is_refused:
            raise NotFound("there is no such response", param="previous_response_id")
        return owner


class StateGuard:
    """Access control for server-side state: refuses requests that refer to state stored for other users."""

    def __init__(self, affinity: Affinity, forwarder: Forwarder, users: Users) -> None:
        self.affinity = affinity
        self._forwarder = forwarder
        self._users = users

    def is_own_account(self, request: web.Request, upstreams: Iterable[Upstream]) -> bool:
        """True if the client's own credentials, and none of ours, go to all candidate upstreams."""
        return self._forwarder.is_clients_account(upstreams, request.headers)

    async def check_chat(
        self, request: web.Request, raw: bytes, body: Mapping[str, Any], ask: ParsedRequest
    ) -> Owner | None:
        """Run `check_body` for the upstreams of a model. A quick scan spares most bodies routing and user lookup."""
        principal = principal_of(request)
        if Right.UPSTREAM_STATE in principal.rights:
            may_refer = bool(owned_references(body, is_strict=False))
        else:
            may_refer = may_refer_to_state(raw) or refers_to_item(body)
        if not may_refer:
            return None
        upstreams = [target.upstream for target in self._forwarder.route(ask.model).targets]
        return await self.check_body(
            request, raw, body, upstreams, self._users.user_of(principal, request.headers, ask)
        )

    async def check_body(
        self, request: web.Request, raw: bytes, body: Mapping[str, Any], upstreams: Sequence[Upstream], user: str | None
    ) -> Owner | None:
        """Return the owner of the response or conversation that a body continues; None if there is no known one.

        Raises BadRequest, NotFound or Forbidden."""
        names = [upstream.name for upstream in upstreams]
        principal, owner = principal_of(request), None
        is_own_account = self.is_own_account(request, upstreams)
        is_shared = not is_own_account and Right.UPSTREAM_STATE not in principal.rights
        refers = is_shared and refers_to_item(body)
        if is_shared and may_refer_to_state(raw):
            refers = await offload(partial(_has_state_references, raw, body), len(raw)) or refers
        for id_ in owned_references(body, is_strict=is_shared):
            owner = await self.affinity.get(principal, id_, user, names, is_own_account=is_own_account) or owner
        if not refers:
            return owner
        raise Forbidden(
            "the body names files, vector stores, containers or the like, which the upstream keeps for all keys of "
            f"the gateway: this key does not have the right `{Right.UPSTREAM_STATE}`"
        )


def _has_state_references(raw: bytes, body: Mapping[str, Any]) -> bool:
    """True if a body refers to state of the upstream. Raises BadRequest for duplicate keys, which are ambiguous."""
    check_unambiguous(raw)
    return refers_to_state(body)
