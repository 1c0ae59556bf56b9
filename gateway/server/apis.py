"""An HTTP API as a value, and the table that tells which API a path belongs to."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from aiohttp import web
from aiohttp.hdrs import METH_ANY

from gateway.errors import GatewayError
from gateway.turn import Right

__all__ = ["Answerer", "Api", "Apis", "error_response", "normalized_path"]

_SLASHES: Final = re.compile(r"/{2,}")


class Answerer(Enum):
    """Which of several workers answers a request (`server.workers`)."""

    WORKER = auto()
    """The worker that got it."""
    OWNER = auto()
    """The owner of the store, which has all state beside that of chats."""
    OWNER_OR_WORKER = auto()
    """The owner; the worker that got it while there is no owner."""


def _describe_nothing(schemas: dict[str, Any]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Api:
    """An HTTP API: its routes, and what they have in common.

    It owns the paths that begin with one of `prefixes`, and those in `paths`; one API without either owns all others.
    `name` is its label in metrics. A key needs the `right`; with None, the paths that it names need no key.
    `is_for_any_key`: any key is let in, whatever its rights. `write_error` serializes an error as JSON; `challenge` is
    the header `WWW-Authenticate` of an answer to a request without a valid key, empty for none. `describe` returns its
    paths for the OpenAPI document and adds the schemas that those refer to. `answerer` says which of several workers
    answers; `answerers` are paths for which it is another one.
    """

    name: str
    routes: Sequence[web.AbstractRouteDef]
    write_error: Callable[[GatewayError], bytes]
    prefixes: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    right: Right | None = Right.CHAT
    is_for_any_key: bool = False
    challenge: str = ""
    describe: Callable[[dict[str, Any]], dict[str, Any]] = _describe_nothing
    answerer: Answerer = Answerer.OWNER
    answerers: Mapping[str, Answerer] = field(default_factory=dict)


class Apis:
    """The APIs of a gateway. A path belongs to the API with the longest prefix."""

    def __init__(self, apis: Iterable[Api]) -> None:
        """Raises ValueError if two APIs own the same paths, or none owns the rest."""
        self._all = tuple(apis)
        self._by_path = {path: api for api in self._all for path in api.paths}
        by_prefix = {prefix: api for api in self._all for prefix in api.prefixes}
        self._by_prefix = sorted(by_prefix.items(), key=lambda item: -len(item[0]))
        self._prefixes = tuple(by_prefix)  # compared at once: most paths have none of them
        others = [api for api in self._all if not api.prefixes and not api.paths]
        count = sum(len(api.prefixes) + len(api.paths) for api in self._all)
        if len(self._by_path) + len(by_prefix) < count or len({api.name for api in self._all}) < len(self._all):
            raise ValueError("two APIs have the same name, path or prefix")
        if len(others) != 1:
            raise ValueError("exactly one API has neither paths nor prefixes, and owns all other paths")
        self._rest = others[0]

    def of(self, path: str) -> Api:
        """The API that a path belongs to."""
        if path.startswith(self._prefixes):
            return next(api for prefix, api in self._by_prefix if path.startswith(prefix))
        return self._by_path.get(path, self._rest)

    def answerer_of(self, path: str) -> Answerer:
        """Which worker answers requests for a path, in which slashes may be repeated."""
        path = normalized_path(path)
        api = self.of(path)
        return api.answerers.get(path, api.answerer)

    def is_open(self, api: Api) -> bool:
        """True if the paths of an API need no key."""
        return api.right is None and api is not self._rest

    def routes(self) -> list[web.AbstractRouteDef]:
        """The routes of all APIs. Those of the API that owns all other paths are last: they match anything, so paths
        that need another right end before them."""
        apis = [api for api in self._all if api is not self._rest]
        closed = [api for api in apis if api.right is not self._rest.right or api.is_for_any_key]
        ends = [web.route("*", path, _refuse_unknown) for api in closed if api.right for path in sorted(api.paths)]
        ends += [web.route("*", prefix + "{tail:.*}", _refuse_unknown) for api in closed for prefix in api.prefixes]
        return [*(route for api in apis for route in api.routes), *ends, *self._rest.routes]


def normalized_path(path: str) -> str:
    """A path without repeated slashes: clients join `base/` and `/path`."""
    return _SLASHES.sub("/", path) if "//" in path else path


async def _refuse_unknown(request: web.Request) -> web.StreamResponse:
    """Refuse a path without a route, or a method that its routes do not have."""
    methods: set[str] = set()
    for resource in request.app.router.resources():
        methods |= (await resource.resolve(request))[1]
    methods.discard(METH_ANY)
    if methods:
        raise web.HTTPMethodNotAllowed(request.method, methods)
    raise web.HTTPNotFound


def error_response(error: GatewayError, api: Api) -> web.Response:
    """Build the response for an error, in the format of an API."""
    body = api.write_error(error)
    is_challenged = error.status == 401 and api.challenge
    headers = {**error.headers, "www-authenticate": api.challenge} if is_challenged else error.headers
    return web.Response(status=error.status, body=body, headers=headers, content_type="application/json")
