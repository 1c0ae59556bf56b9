"""Who is asking, and whose memory that is. Pure; the only place that makes a `Scope`.

Keys are held as sha256 digests and compared as such; no lookup by a raw key, no key in an error.
"""

import base64
import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.config import KeyConfig
from gateway.errors import BadRequest, Unauthenticated
from gateway.ids import problem_of_id, usable_id
from gateway.turn import Ask, Identity, Principal, Right, Scope, ScopeKind

__all__ = [
    "FrontEndHeaders",
    "Keyring",
    "agent_scope",
    "checked_id",
    "cube_scopes",
    "derived_session",
    "foreign_user",
    "identify",
    "knowledge_scope",
    "may_touch",
    "named_scope",
    "named_session",
    "named_user",
    "public_scope",
    "scope_of",
    "unknown_identity",
]

# `x-forwarded-user`, `remote-user`, `cf-access-authenticated-user-email`, `x-librechat-user-id` ...
_IDENTITY_HEADER = re.compile(
    r"(?:^|[-_])(?:user|username|userid|userinfo|email|login|principal|member|customer|account|sub|upn)(?:[-_](?:id|name|email|login|key|uid|role))?$",
    re.IGNORECASE,
)
_NO_IDENTITY = ("x-memory-user", "x-stainless-user")
_KEY_PARTS = re.compile(r"[\s,;:=\"']+")
_OPEN = Principal("default", frozenset(Right))


class Keyring:
    """The keys of the configuration. Without any, everybody on this machine is let in."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._principals: dict[bytes, Principal] = {}
        is_shared = len({(key.tenant, key.user) for key in keys}) > 1
        for number, key in enumerate(keys, start=1):
            rights = set(key.rights)
            if not is_shared:  # there is nobody to keep apart from
                rights.add(Right.UPSTREAM_STATE)
            if key.user is None:  # it acts for all users of its tenant anyway
                rights.add(Right.PUBLIC)
            digest = _digest(key.key.get_secret_value())
            self._principals[digest] = Principal(key.tenant, frozenset(rights), key.user, key.name or f"key-{number}")

    @property
    def is_open(self) -> bool:
        return not self._principals

    def has(self, value: str) -> bool:
        """True if a key of the gateway stands in a header's value, in whatever form."""
        if not self._principals:
            return False
        parts = [_bare(value), *_KEY_PARTS.split(value), *(piece for piece in value.split() if piece)]
        for piece in value.split():  # `Basic`: user and password
            with contextlib.suppress(ValueError):
                plain = base64.b64decode(piece, validate=True).decode("utf-8", "replace")
                parts += [plain, *plain.split(":", 1)]
        return any(_digest(part) in self._principals for part in parts)

    def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who holds the key of a request. Raises Unauthenticated."""
        if self.is_open:
            return _OPEN
        key = key_of(headers)
        if not key:
            raise Unauthenticated("send the gateway's key as `Authorization: Bearer KEY` or in `x-gateway-key`")
        # a digest tells nothing of a key: how long this look-up takes is no secret
        principal = self._principals.get(_digest(key))
        if principal is None:
            raise Unauthenticated("this key is not known to the gateway")
        return principal


def key_of(headers: Mapping[str, str]) -> str:
    """The gateway's key in a request, or an empty string."""
    for name in ("x-gateway-key", "authorization", "x-api-key", "api-key"):
        key = _bare(headers.get(name, ""))
        if key:
            return key
    return ""


def _bare(value: str) -> str:
    value = value.strip()
    while True:
        scheme, _, rest = value.partition(" ")
        if not rest or scheme.lower() not in ("bearer", "token"):
            return value
        value = rest.strip()


@dataclass(frozen=True, slots=True)
class FrontEndHeaders:
    """Headers by which front ends name the user and the conversation, in lower case, the first that is there counts."""

    user: tuple[str, ...] = ()
    session: tuple[str, ...] = ()


def identify(
    principal: Principal,
    headers: Mapping[str, str],
    ask: Ask,
    default_user: str | None,
    known: FrontEndHeaders = FrontEndHeaders(),
) -> Identity | None:
    """The user and the conversation of a turn; None if no user is known. Raises BadRequest on a bad id in a header of
    the gateway's own."""
    user = named_user(principal, headers, ask, known) or default_user
    if not user:
        return None
    named = named_session(headers, ask, known)
    session = named or derived_session(ask.opening, ask.first_answer)
    own = scope_of(principal.tenant, user)
    return Identity(user, session, reads=(own,), writes=(own,), is_session_named=named is not None)


def named_user(principal: Principal, headers: Mapping[str, str], ask: Ask, known: FrontEndHeaders) -> str | None:
    """The user that the key, a header or the body names. Raises BadRequest."""
    if principal.user is not None:
        return principal.user
    if "x-memory-user" in headers:
        return checked_id(headers["x-memory-user"], "x-memory-user")
    return foreign_user(headers, ask, known)


def foreign_user(headers: Mapping[str, str], ask: Ask, known: FrontEndHeaders) -> str | None:
    """The user that a front end names in its own way."""
    named = (headers.get(name) for name in known.user)
    return next((user for value in (*named, ask.user_hint) if value and (user := usable_id(value))), None)


def named_session(headers: Mapping[str, str], ask: Ask, known: FrontEndHeaders) -> str | None:
    """The conversation that a header or the body names. Raises BadRequest."""
    if headers.get("x-memory-session"):
        return checked_id(headers["x-memory-session"], "x-memory-session")
    named = (headers.get(name) for name in known.session)
    return next((session for value in (ask.session_hint, *named) if value and (session := usable_id(value))), None)


def unknown_identity(headers: Mapping[str, str]) -> str | None:
    """What stands in a header that looks as if it named a user, although no front end is known to send it."""
    for name, value in headers.items():
        if _IDENTITY_HEADER.search(name) and name.lower() not in _NO_IDENTITY and value.strip():
            return f"{name.lower()}: {value.strip()}"
    return None


def scope_of(tenant: str, user: str) -> Scope:
    """The scope of a user's own cube, whose id is the user's."""
    return _scope(tenant, user, user, ScopeKind.USER, user)


def cube_scopes(tenant: str, user: str, cube_ids: Sequence[str]) -> tuple[Scope, ...]:
    """The scopes of cubes that a user names, each once. A cube other than the user's own is one of this user all the
    same: naming another's cube reaches nothing of theirs."""
    scopes = [
        scope_of(tenant, user) if cube == user else _scope(tenant, f"{user}\0{cube}", cube, ScopeKind.CUBE, user)
        for cube in cube_ids
    ]
    return tuple({scope.value: scope for scope in scopes}.values())


def agent_scope(tenant: str, agent: str) -> Scope:
    """What was said to an agent, whoever said it."""
    return _scope(tenant, f"\0agent\0{agent}", agent, ScopeKind.AGENT, "")


def knowledge_scope(tenant: str, cube_id: str) -> Scope:
    """A knowledge base: readable by all users of the tenant that name it."""
    return _scope(tenant, f"\0knowledge\0{cube_id}", cube_id, ScopeKind.KNOWLEDGE, "")


def public_scope(tenant: str) -> Scope:
    """What users of a tenant allowed to be public within it."""
    return _scope(tenant, "\0public", "public", ScopeKind.PUBLIC, "")


def named_scope(tenant: str, kind: ScopeKind, cube_id: str, owner: str) -> Scope:
    """The scope that was made of these names once."""
    made = {
        ScopeKind.USER: lambda: scope_of(tenant, owner),
        ScopeKind.CUBE: lambda: cube_scopes(tenant, owner, [cube_id])[0],
        ScopeKind.AGENT: lambda: agent_scope(tenant, cube_id),
        ScopeKind.KNOWLEDGE: lambda: knowledge_scope(tenant, cube_id),
        ScopeKind.PUBLIC: lambda: public_scope(tenant),
    }
    return made[kind]()


def may_touch(principal: Principal, scope: Scope) -> bool:
    """True if a memory of this scope is one that the holder of the key may read, change and delete by its id."""
    if scope.tenant != principal.tenant:
        return False
    return principal.user is None or scope.owner == principal.user


def _scope(tenant: str, name: str, cube_id: str, kind: ScopeKind, owner: str) -> Scope:
    # no id holds a 0 (see `checked_id`), so no name of one kind can be one of another
    return Scope(hashlib.sha256(f"{tenant}\0{name}".encode()).hexdigest(), tenant, cube_id, kind, owner)


def checked_id(value: str, name: str) -> str:
    """An id as a client may send it. Raises BadRequest."""
    problem = problem_of_id(value)
    if problem:
        raise BadRequest(f"{name} {problem}", code="invalid_id", param=name)
    return value


def derived_session(opening: str, first_answer: str) -> str:
    """The name of a conversation that has none, by how it began."""
    beginning = f"{opening}\0{first_answer}" if first_answer else opening
    return "s-" + hashlib.sha256(beginning.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
