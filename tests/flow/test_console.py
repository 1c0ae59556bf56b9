"""The console over HTTP: its files, and sessions of people who sign in with a key."""

import asyncio
import gzip
import re
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.raw import connected, read_all
from tests.fakes.running import Reply, Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream

KEYS = [
    {"key": "key-of-the-admin", "tenant": "acme", "rights": ["chat", "memory", "admin"], "name": "operator"},
    {"key": "key-of-ada", "tenant": "acme", "user": "ada", "rights": ["chat", "memory"], "name": "ada"},
    {"key": "key-for-chat-only", "tenant": "acme", "rights": ["chat"]},
]
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
CONSOLE = {"x-gateway-console": "1", "sec-fetch-site": "same-origin"}
LIST = "/v1/memory/list?user=ada"
PLAIN = {"accept-encoding": "identity"}


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"auth": {"keys": KEYS}}


async def sign_in(gateway: Running, key: str, **headers: str) -> Reply:
    return await gateway.post("/ui/session", {"key": key}, {**CONSOLE, **headers})


def cookie_of(reply: Reply) -> dict[str, str]:
    """The header that sends back the cookie of a reply."""
    cookies = SimpleCookie(reply.headers["set-cookie"])
    return {"cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())}


async def test_a_browser_gets_the_console_and_a_program_json(gateway: Running) -> None:
    async with gateway.session.get(f"{gateway.url}/", headers=BROWSER, allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (302, "/ui/")
        assert response.headers["vary"] == "accept"
    reply = await gateway.get("/", {"accept": "application/json"})
    assert reply.json["console"] == "/ui"
    assert (await gateway.get("/")).json["name"] == "memory-gateway"


async def test_the_page_has_its_policy_and_needs_no_key(gateway: Running) -> None:
    for path in (
        "/ui",
        "/ui/",
        "/ui/turns",
        "/ui/turns/abc",
        "/ui/memories/x.y",
        "/ui/?key=1",
        "/ui//turns",
        "/ui/index.html",
    ):
        reply = await gateway.get(path)
        assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8"), path
        assert "default-src 'none'" in reply.headers["content-security-policy"], path
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["cache-control"] == "no-cache"


async def test_all_files_that_the_page_names_are_there(gateway: Running) -> None:
    page = (await gateway.get("/ui/")).body.decode()
    paths = set(re.findall(r'(?:href|src)="(/ui/[^"]+)"', page))
    assert len(paths) > 20
    for path in paths:
        reply = await gateway.get(path)
        assert reply.status == 200, path
        assert "html" not in reply.headers["content-type"]
        assert reply.headers["x-content-type-options"] == "nosniff"


async def test_a_file_that_a_browser_has_is_not_sent_again(gateway: Running) -> None:
    first = await gateway.get("/ui/main.js", PLAIN)
    tag = first.headers["etag"]
    for value in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = await gateway.get("/ui/main.js", {"if-none-match": value})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag), value
    changed = await gateway.get("/ui/main.js", {"if-none-match": '"other"', **PLAIN})
    assert (changed.status, changed.body) == (200, first.body)


async def test_files_are_compressed_for_those_who_accept_it(gateway: Running) -> None:
    async with gateway.session.get(
        f"{gateway.url}/ui/main.js", headers={"accept-encoding": "gzip"}, auto_decompress=False
    ) as response:
        compressed, headers = await response.read(), response.headers
    plain = await gateway.get("/ui/main.js", PLAIN)
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed) == plain.body
    assert "content-encoding" not in plain.headers
    assert headers["vary"] == plain.headers["vary"] == "accept-encoding"


async def test_the_head_of_a_file_has_no_body(gateway: Running) -> None:
    async with gateway.session.head(f"{gateway.url}/ui/main.js", headers=PLAIN) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["content-length"]) == len((await gateway.get("/ui/main.js", PLAIN)).body)


@pytest.mark.parametrize("path", ["/ui/missing.js", "/ui/lib/missing.js", "/ui/vendor/x.mjs", "/ui/style/no.css"])
async def test_a_file_that_is_missing_is_not_found(gateway: Running, path: str) -> None:
    reply = await gateway.get(path, BROWSER)
    assert (reply.status, reply.error["message"]) == (404, "the console has no such file")


@pytest.mark.parametrize(
    "path",
    [
        *("/ui/../v1/memory/list?user=ada", "/ui//../v1/memory/list?user=ada", "/ui/..//v1/memory/list?user=ada"),
        *("/ui/%2e%2e/v1/memory/list?user=ada", "/ui//%2e%2e/v1/memory/list?user=ada", "/ui%2f..%2fv1%2fmemory%2flist"),
        *("/ui/./..//v1/memory/list?user=ada", "/ui/..;/v1/memory/list?user=ada", "//ui/..//v1/memory/export"),
        *(
            "/ui/../../gateway/ui/console.py",
            "/ui/lib/../../console.py",
            "/ui/%2e%2e/console.py",
            "/uix/v1/memory/export",
        ),
    ],
)
async def test_no_path_below_the_console_leads_elsewhere(gateway: Running, path: str) -> None:
    await gateway.chat("My cat is called Miso.", headers={"authorization": "Bearer key-of-the-admin"})
    await gateway.settled()
    lines = (f"GET {path} HTTP/1.1", f"Host: {gateway.url[7:]}", "Connection: close", "", "")
    with await connected(gateway.url, "\r\n".join(lines).encode()) as client:
        answer = await read_all(client, 10)
    assert b"Miso" not in answer
    assert b"object" not in answer
    assert b"load_files" not in answer


async def test_other_methods_are_refused(gateway: Running) -> None:
    assert (await gateway.post("/ui/turns", {}, CONSOLE)).status == 405
    async with gateway.session.put(f"{gateway.url}/ui/session", json={}, headers=CONSOLE) as response:
        assert response.status == 405


async def test_a_session_acts_as_its_key(gateway: Running) -> None:
    reply = await sign_in(gateway, "key-of-ada")
    assert (reply.status, reply.json["user"], reply.json["tenant"]) == (200, "ada", "acme")
    own = {**CONSOLE, **cookie_of(reply)}
    assert (await gateway.get(LIST, own)).status == 200
    assert (await gateway.get("/v1/memory/list?user=bob", own)).status in (403, 404)
    assert (await gateway.get("/v1/memory/export", own)).status == 403  # needs `admin`
    chat = await gateway.chat("Hello.", user="bob", headers=own)
    assert chat.status == 200


async def test_the_cookie_is_for_the_browser_alone(gateway: Running) -> None:
    cookie = SimpleCookie((await sign_in(gateway, "key-of-ada")).headers["set-cookie"])["gateway_session"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "Strict", "/", "")
    assert not cookie["secure"]
    assert int(cookie["max-age"]) == 12 * 3600
    encrypted = await sign_in(gateway, "key-of-ada", **{"x-forwarded-proto": "https"})
    assert SimpleCookie(encrypted.headers["set-cookie"])["gateway_session"]["secure"]


async def test_the_key_comes_back_nowhere(gateway: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    for key in ("key-of-ada", "key-for-chat-only", "key-that-is-unknown"):
        reply = await sign_in(gateway, key)
        assert key not in reply.body.decode()
        assert key not in str(reply.headers)
    assert "key-" not in caplog.text.replace("key-1", "")


@pytest.mark.parametrize(
    ("key", "status", "words"),
    [
        ("key-that-is-unknown", 401, "not known"),
        ("key-for-chat-only", 403, "needs a key with the right `admin` or `memory`"),
        ("", 400, "`key`"),
        ("x" * 5000, 400, "`key`"),
        (None, 400, "`key`"),
        (["a"], 400, "`key`"),
    ],
)
async def test_a_key_that_does_not_do_is_refused_in_words(gateway: Running, key: Any, status: int, words: str) -> None:
    reply = await gateway.post("/ui/session", {"key": key}, CONSOLE)
    assert (reply.status, words in reply.error["message"]) == (status, True), reply.error
    assert "set-cookie" not in reply.headers


async def test_a_body_that_is_no_object_is_refused(gateway: Running) -> None:
    for raw in (b"", b"[]", b"null", b"{", b'"key"', b'{"key": "key-of-ada", "more": 1}'):
        reply = await gateway.post("/ui/session", None, CONSOLE, raw=raw)
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error"), raw


async def test_a_sign_in_needs_no_key_and_is_short(gateway: Running) -> None:
    reply = await gateway.post("/ui/session", {"key": "x" * (2**20 + 1)}, CONSOLE)
    assert (reply.status, reply.error["message"]) == (413, "the body has more than 1 MiB")


FOREIGN = [
    {"sec-fetch-site": "same-origin"},
    {"x-gateway-console": "1", "sec-fetch-site": "cross-site"},
    {"x-gateway-console": "1", "sec-fetch-site": "same-site"},
    {"x-gateway-console": "1", "origin": "http://elsewhere.example"},
    {"x-gateway-console": "1", "origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_pages_of_other_sites_can_use_no_session(gateway: Running, headers: dict[str, str]) -> None:
    cookie = cookie_of(await sign_in(gateway, "key-of-the-admin"))
    assert (await gateway.get(LIST, {**headers, **cookie})).status == 403
    assert (await gateway.chat("Hello.", headers={**headers, **cookie})).status == 403
    assert (await gateway.post("/ui/session", {"key": "key-of-the-admin"}, headers)).status == 403
    async with gateway.session.delete(f"{gateway.url}/ui/session", headers={**headers, **cookie}) as response:
        assert response.status == 403
    assert (await gateway.get(LIST, {**CONSOLE, **cookie})).status == 200  # nothing ended it


async def test_a_session_ends_with_signing_out(gateway: Running) -> None:
    own = {**CONSOLE, **cookie_of(await sign_in(gateway, "key-of-ada"))}
    async with gateway.session.delete(f"{gateway.url}/ui/session", headers=own) as response:
        assert response.status == 200
        assert SimpleCookie(response.headers["set-cookie"])["gateway_session"].value == ""
    reply = await gateway.get(LIST, own)
    assert (reply.status, reply.error["message"]) == (401, "this session has ended: sign in to the console again")


async def test_made_up_sessions_are_refused(gateway: Running) -> None:
    for value in ("x", "", '"quoted"', "a" * 4000, "key-of-ada"):
        reply = await gateway.get(LIST, {**CONSOLE, "cookie": f"gateway_session={value}"})
        assert reply.status == 401, value
    assert (await gateway.get(LIST, {**CONSOLE, "cookie": "=;;@=,"})).status == 401


async def test_a_key_counts_before_a_session(gateway: Running) -> None:
    cookie = cookie_of(await sign_in(gateway, "key-of-the-admin"))
    key = {"authorization": "Bearer key-of-ada"}
    assert (await gateway.get("/v1/memory/list?user=bob", {**CONSOLE, **cookie, **key})).status in (403, 404)
    # and a program's key works in a browser that has a session, without the console's header
    assert (await gateway.get(LIST, {**cookie, **key})).status == 200
    assert (await gateway.get(LIST, {**CONSOLE, **cookie, "authorization": "Bearer wrong"})).status == 401


async def test_sessions_end_with_the_gateway(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> None:
    config = await asyncio.to_thread(configuration, tmp_path, upstream.url, **changes)
    async with running_gateway(config) as gateway:
        own = {**CONSOLE, **cookie_of(await sign_in(gateway, "key-of-ada"))}
        assert (await gateway.get(LIST, own)).status == 200
    async with running_gateway(config) as gateway:
        assert (await gateway.get(LIST, own)).status == 401


async def test_a_session_ends_after_its_hours(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> None:
    config = await asyncio.to_thread(configuration, tmp_path, upstream.url, console__session_hours=1 / 3600, **changes)
    async with running_gateway(config) as gateway:
        own = {**CONSOLE, **cookie_of(await sign_in(gateway, "key-of-ada"))}
        assert (await gateway.get(LIST, own)).status == 200

        async def has_ended() -> bool:
            return (await gateway.get(LIST, own)).status == 401

        await eventually(has_ended)


async def test_what_varies_is_named_for_pages_of_allowed_origins(tmp_path: Path, upstream: FakeUpstream) -> None:
    allowed = "http://tool.example"
    config = await asyncio.to_thread(
        configuration, tmp_path, upstream.url, auth={"keys": KEYS}, server__cors_origins=[allowed]
    )
    async with running_gateway(config, wait=False) as gateway:
        reply = await gateway.get("/ui/main.js", {"origin": allowed})
        assert reply.headers["vary"] == "accept-encoding, origin"
        cookie = cookie_of(await sign_in(gateway, "key-of-ada"))
        headers = {"x-gateway-console": "1", "origin": allowed, **cookie}
        assert (await gateway.get(LIST, headers)).status == 403  # allowed to use a key, not a person's session


@pytest.mark.parametrize("changes", [{}])
async def test_without_keys_the_console_is_open_on_this_machine(gateway: Running) -> None:
    assert (await gateway.get("/ui/")).status == 200
    assert (await gateway.get(LIST, CONSOLE)).status == 200
    assert (await gateway.get(LIST, {**CONSOLE, "cookie": "gateway_session=old"})).status == 200
    assert (await gateway.get(LIST, {**CONSOLE, "host": "rebound.example"})).status == 403
    assert (await sign_in(gateway, "any")).status == 200


@pytest.mark.parametrize("changes", [{"console": {"enabled": False}}])
async def test_a_console_that_is_off_is_not_there(gateway: Running) -> None:
    for path in ("/ui", "/ui/", "/ui/turns", "/ui/main.js"):
        assert (await gateway.get(path, BROWSER)).status == 404, path
    assert (await sign_in(gateway, "any")).status == 404
    reply = await gateway.get("/", BROWSER)
    assert (reply.status, reply.json["console"]) == (200, None)
