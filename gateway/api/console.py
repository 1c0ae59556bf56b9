"""The console at `/ui`: its files, and signing in with a key.

The pages need no key, since they contain no data; all that they show comes from the same API that programs use.
"""

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.config import LimitsConfig
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.identity import Keyring
from gateway.server.guard import parse_json, read_body
from gateway.server.sign_in import SESSION_COOKIE, SignIns, check_console_request
from gateway.turn import Right
from gateway.ui.console import PAGE, ConsoleFile, content_security_policy, is_file_name, load_files

__all__ = ["CONSOLE_PATH", "ConsoleFace", "accepts_gzip", "wants_page"]

CONSOLE_PATH: Final = "/ui"
_HEADERS: Final = {
    "cache-control": "no-cache",  # asked for again each time, answered with 304
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_MAX_BODY_MB = 1  # MiB of a sign-in, which needs no key
_SIGN_IN_RIGHTS: Final = frozenset((Right.ADMIN, Right.MEMORY))


class _SignInRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str = Field(min_length=1, max_length=4096)


class ConsoleFace:
    """HTTP handlers for the console; none if it is not enabled."""

    def __init__(self, keyring: Keyring, sign_ins: SignIns, limits: LimitsConfig, *, is_enabled: bool) -> None:
        self._is_enabled = is_enabled
        self._keyring = keyring
        self._sign_ins = sign_ins
        self._limits = limits.model_copy(update={"body_mb": _MAX_BODY_MB})
        self._files: dict[str, ConsoleFile] = {}

    def routes(self) -> list[web.AbstractRouteDef]:
        if not self._is_enabled:
            return []
        return [
            web.post("/ui/session", self.sign_in),
            web.delete("/ui/session", self.sign_out),
            web.get("/ui", self.page_or_file),
            web.get("/ui/{path:.*}", self.page_or_file),
        ]

    async def page_or_file(self, request: web.Request) -> web.Response:
        """Serve a file; any other path is one of the page's own, which the page itself resolves."""
        files = self._files = self._files or await asyncio.to_thread(load_files)
        path = request.match_info.get("path", "")
        file = files.get(path)
        if file is None:
            if is_file_name(path, files):
                raise NotFound("the console has no such file")
            file = files[PAGE]
        headers = {**_HEADERS, "etag": f'W/"{file.digest}"', "vary": "accept-encoding"}
        if file is files[PAGE]:
            headers["content-security-policy"] = content_security_policy(file.content)
        if any(tag.value in (file.digest, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return _respond(request, file, headers)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Start a session for the holder of a key. The key itself is not kept."""
        check_console_request(request.headers, request.host)
        try:
            body = _SignInRequest.model_validate(parse_json(await read_body(request, self._limits), self._limits))
        except ValidationError as error:
            raise BadRequest("`key`: a key of the gateway is needed", param="key") from error
        principal = self._keyring.principal({"x-gateway-key": body.key})
        if not self._keyring.is_open and _SIGN_IN_RIGHTS.isdisjoint(principal.rights):
            raise Forbidden("this key may only chat: the console needs a key with the right `admin` or `memory`")
        response = _json({"tenant": principal.tenant, "user": principal.user, "name": principal.name})
        response.set_cookie(
            SESSION_COOKIE,
            self._sign_ins.start(principal),
            max_age=int(self._sign_ins.seconds),
            httponly=True,
            samesite="Strict",
            secure=_is_encrypted(request),
            path="/",
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session of the cookie."""
        check_console_request(request.headers, request.host)
        self._sign_ins.end(request.cookies.get(SESSION_COOKIE, ""))
        response = _json({"signed_out": True})
        response.del_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Strict", secure=_is_encrypted(request))
        return response


def wants_page(request: web.Request) -> bool:
    """True if a browser opens an address: it prefers HTML to JSON."""
    accepted = request.headers.get("accept", "")
    position = accepted.find("text/html")
    return position >= 0 and not 0 <= accepted.find("application/json") < position


def accepts_gzip(accepted: str) -> bool:
    """True if an `Accept-Encoding` header allows gzip."""
    for item in accepted.lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _is_encrypted(request: web.Request) -> bool:
    return request.secure or request.headers.get("x-forwarded-proto", "").lower() == "https"


def _respond(request: web.Request, file: ConsoleFile, headers: dict[str, str]) -> web.Response:
    headers["content-type"] = file.content_type
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        return web.Response(body=file.compressed, headers={**headers, "content-encoding": "gzip"})
    return web.Response(body=file.content, headers=headers)


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers={"cache-control": "no-store"})
