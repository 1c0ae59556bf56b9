"""Response affinity: which upstream keeps a response or conversation, for whom, and in which session.

An id of another tenant or user does not exist for the caller. An id that the gateway has never seen may be anybody's
of the upstream's account: only a key with the right `upstream_state`, or a client that sends its own credentials to
the upstream, reaches it.
"""

from typing import Any

from gateway.errors import NotFound
from gateway.store.owners import Owner, Owners
from gateway.turn import Principal, Right

__all__ = ["Affinity"]


class Affinity:
    """Checks ids of stored responses against their owners, which survive a restart."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def put(self, response_id: str, owner: Owner) -> None:
        self._owners.put(response_id, owner)

    async def get(
        self, principal: Principal, response_id: Any, user: str | None = None, *, is_own_account: bool = False
    ) -> Owner | None:
        """The owner of a response; None for no id, or for an unknown one that the caller may use. `user`: whom the
        request names; a key that names nobody sees those of all users of its tenant. `is_own_account`: the client's own
        credentials go to the upstream. Raises NotFound."""
        if not isinstance(response_id, str) or not response_id:
            return None
        owner = await self._owners.get(response_id)
        caller = principal.user or user
        if owner is None:
            is_refused = Right.UPSTREAM_STATE not in principal.rights and not is_own_account
        else:
            is_refused = owner.tenant != principal.tenant or (caller is not None and owner.user != caller)
        if is_refused:
            raise NotFound("there is no such response", param="previous_response_id")
        return owner
