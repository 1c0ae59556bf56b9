"""Authentication, identity and memory scopes of requests. Pure; the only place that makes a `Scope`.

Keys are stored and compared as sha256 digests; no lookup by a raw key, no key in an error.
"""

import base64
import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.config import KeyConfig
from gateway.config.ids import problem_of_id, usable_id
from gateway.errors import BadRequest, Unauthenticated
from gateway.formats.base import ParsedRequest
from gateway.turn import Identity, Principal, Right, Scope, ScopeKind

__all__ = [
    "FrontEndHeaders",
    "Keyring",
    "agent_scope",
    "checked_id",
    "cube_scopes",
    "derived_session",
    "foreign_user",
    "identify",
    "key_of",
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
    """The keys of the configuration. Without any, every request from this machine is accepted."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._principals: dict[bytes, Principal] = {}
        is_shared = len({(key.tenant, key.user) for key in keys}) > 1
        for number, key in enumerate(keys, start=1):
            rights = set(key.rights)
            if not is_shared:  # no other tenant or user to protect
                rights.add(Right.UPSTREAM_STATE)
            if key.user is None:  # it acts for all users of its tenant anyway
                rights.add(Right.PUBLIC)
            digest = _digest(key.key.get_secret_value())
            self._principals[digest] = Principal(key.tenant, frozenset(rights), key.user, key.name or f"key-{number}")

    @property
    def is_open(self) -> bool:
        return not self._principals

    @property
    def principals(self) -> list[Principal]:
        """The owners of all keys, in the order of the configuration."""
        return list(self._principals.values())

    def has(self, value: str) -> bool:
        """True if a header's value contains a key of the gateway, in any form."""
        if not self._principals:
            return False
        parts = [_strip_scheme(value), *_KEY_PARTS.split(value), *(piece for piece in value.split() if piece)]
        for piece in value.split():  # `Basic`: user and password
            with contextlib.suppress(ValueError):
                plain = base64.b64decode(piece, validate=True).decode("utf-8", "replace")
                parts += [plain, *plain.split(":", 1)]
        return any(_digest(part) in self._principals for part in parts)

    def principal(self, headers: Mapping[str, str]) -> Principal:
        """The principal of the key in a request. Raises Unauthenticated."""
        if self.is_open:
            return _OPEN
        key = key_of(headers)
        if not key:
            raise Unauthenticated("send the gateway's key as `Authorization: Bearer KEY` or in `x-gateway-key`")
        # a digest reveals nothing of a key: the duration of this lookup is no secret
        principal = self._principals.get(_digest(key))
        if principal is None:
            raise Unauthenticated("this key is not known to the gateway")
        return principal


def key_of(headers: Mapping[str, str]) -> str:
    """The gateway's key in a request, or an empty string."""
    for name in ("x-gateway-key", "authorization", "x-api-key", "api-key"):
        key = _strip_scheme(headers.get(name, ""))
        if key:
            return key
    return ""


def _strip_scheme(value: str) -> str:
    value = value.strip()
    while True:
        scheme, _, rest = value.partition(" ")
        if not rest or scheme.lower() not in ("bearer", "token"):
            return value
        value = rest.strip()


@dataclass(frozen=True, slots=True)
class FrontEndHeaders:
    """Headers in which front ends send the ids of user and conversation, in lower case; the first present counts."""

    user: tuple[str, ...] = ()
    session: tuple[str, ...] = ()


def identify(
    principal: Principal,
    headers: Mapping[str, str],
    ask: ParsedRequest,
    default_user: str | None,
    known: FrontEndHeaders = FrontEndHeaders(),
) -> Identity | None:
    """The user and the conversation of a turn; None if no user is known. Raises BadRequest on an invalid id in an
    `x-memory-…` header."""
    user = named_user(principal, headers, ask, known) or default_user
    if not user:
        return None
    session_name = named_session(headers, ask, known)
    session = session_name or derived_session(ask.opening, ask.first_answer)
    scope = scope_of(principal.tenant, user)
    return Identity(user, session, reads=(scope,), writes=(scope,), is_session_named=session_name is not None)


def named_user(
    principal: Principal, headers: Mapping[str, str], ask: ParsedRequest, known: FrontEndHeaders
) -> str | None:
    """The user named by the key, a header or the body. Raises BadRequest."""
    if principal.user is not None:
        return principal.user
    if "x-memory-user" in headers:
        return checked_id(headers["x-memory-user"], "x-memory-user")
    return foreign_user(headers, ask, known)


def foreign_user(headers: Mapping[str, str], ask: ParsedRequest, known: FrontEndHeaders) -> str | None:
    """The user named by a header of a front end, or by the body."""
    for name in known.user:
        if name in headers and (user := usable_id(headers[name])):
            return user
    return (usable_id(ask.user_hint) or None) if ask.user_hint else None


def named_session(headers: Mapping[str, str], ask: ParsedRequest, known: FrontEndHeaders) -> str | None:
    """The conversation named by a header or the body. Raises BadRequest."""
    if headers.get("x-memory-session"):
        return checked_id(headers["x-memory-session"], "x-memory-session")
    values = (headers.get(name) for name in known.session)
    return next((session for value in (ask.session_hint, *values) if value and (session := usable_id(value))), None)


def unknown_identity(headers: Mapping[str, str]) -> str | None:
    """The first header, with its value, that appears to name a user but is not one of a known front end."""
    for name, value in headers.items():
        if _IDENTITY_HEADER.search(name) and name.lower() not in _NO_IDENTITY and value.strip():
            return f"{name.lower()}: {value.strip()}"
    return None


def scope_of(tenant: str, user: str) -> Scope:
    """The scope of a user's default cube, whose id is the user's."""
    return _scope(tenant, user, user, ScopeKind.USER, user)


def cube_scopes(tenant: str, user: str, cube_ids: Sequence[str]) -> tuple[Scope, ...]:
    """The scopes of cubes that a user names, without duplicates. Cubes other than the default one belong to this user
    too: naming the cube of another user gives no access to it."""
    scopes = [
        scope_of(tenant, user) if cube == user else _scope(tenant, f"{user}\0{cube}", cube, ScopeKind.CUBE, user)
        for cube in cube_ids
    ]
    return tuple({scope.value: scope for scope in scopes}.values())


def agent_scope(tenant: str, agent: str) -> Scope:
    """The scope of messages to an agent, of all users."""
    return _scope(tenant, f"\0agent\0{agent}", agent, ScopeKind.AGENT, "")


def knowledge_scope(tenant: str, cube_id: str) -> Scope:
    """The scope of a knowledge base: readable by all users of the tenant that name it."""
    return _scope(tenant, f"\0knowledge\0{cube_id}", cube_id, ScopeKind.KNOWLEDGE, "")


def public_scope(tenant: str) -> Scope:
    """The scope of memories that users of a tenant made public within it."""
    return _scope(tenant, "\0public", "public", ScopeKind.PUBLIC, "")


def named_scope(tenant: str, kind: ScopeKind, cube_id: str, owner: str) -> Scope:
    """Rebuild a scope from its kind and names."""
    builders = {
        ScopeKind.USER: lambda: scope_of(tenant, owner),
        ScopeKind.CUBE: lambda: cube_scopes(tenant, owner, [cube_id])[0],
        ScopeKind.AGENT: lambda: agent_scope(tenant, cube_id),
        ScopeKind.KNOWLEDGE: lambda: knowledge_scope(tenant, cube_id),
        ScopeKind.PUBLIC: lambda: public_scope(tenant),
    }
    return builders[kind]()


def may_touch(principal: Principal, scope: Scope) -> bool:
    """True if the principal may read, change and delete memories of this scope by id."""
    if scope.tenant != principal.tenant:
        return False
    return principal.user is None or scope.owner == principal.user


def _scope(tenant: str, name: str, cube_id: str, kind: ScopeKind, owner: str) -> Scope:
    # no id contains NUL (see `checked_id`), so names of different kinds never collide
    return Scope(hashlib.sha256(f"{tenant}\0{name}".encode()).hexdigest(), tenant, cube_id, kind, owner)


def checked_id(value: str, name: str) -> str:
    """Validate an id sent by a client. Raises BadRequest."""
    problem = problem_of_id(value)
    if problem:
        raise BadRequest(f"{name} {problem}", code="invalid_id", param=name)
    return value


def derived_session(opening: str, first_answer: str) -> str:
    """Derive an id for a conversation without one, from its first messages."""
    beginning = f"{opening}\0{first_answer}" if first_answer else opening
    return "s-" + hashlib.sha256(beginning.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
