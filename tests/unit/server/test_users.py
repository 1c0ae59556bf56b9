"""The default user ends for a key at the second identity that comes with it, for good."""

import asyncio
from pathlib import Path

import pytest

from gateway.identity import FrontEndHeaders
from gateway.server.users import Users
from gateway.storage.local_file import LocalFile
from gateway.turn import ParsedRequest, Principal, Right

ASK = ParsedRequest(model="m", stream=False)
KEY = Principal("t", frozenset(Right), name="key-1")
OTHER = Principal("t", frozenset(Right), name="key-2")
KNOWN = FrontEndHeaders(user=("x-openwebui-user-id",))


def users(folder: Path, default: str | None = "me") -> Users:
    return Users(default, KNOWN, LocalFile(folder / "identities.json"))


@pytest.mark.parametrize(
    "header",
    [
        "x-openwebui-user-id",
        "X-Forwarded-User",
        "remote-user",
        "x-librechat-user-id",
        "cf-access-authenticated-user-email",
        "X-Auth-Request-Email",
        "tailscale-user-login",
        "x-customer-id",
    ],
)
async def test_a_second_identity_ends_the_default_user(tmp_path: Path, header: str) -> None:
    named = users(tmp_path)
    first = named.user_of(KEY, {header: "u-alice"}, ASK)
    assert first == ("u-alice" if header == "x-openwebui-user-id" else "me")
    assert named.user_of(KEY, {}, ASK) == "me"
    second = named.user_of(KEY, {header: "u-bob"}, ASK)
    assert second == ("u-bob" if header == "x-openwebui-user-id" else None)
    assert named.user_of(KEY, {}, ASK) is None
    assert named.is_ambiguous(KEY)
    assert named.user_of(OTHER, {}, ASK) == "me"
    await named.stop()
    again = users(tmp_path)
    await again.load()
    assert again.user_of(KEY, {}, ASK) is None, "a restart does not bring it back"


async def test_users_in_the_body_count_and_the_gateways_own_header_does_not(tmp_path: Path) -> None:
    named = users(tmp_path)
    for name in ("a", "b"):
        assert named.user_of(OTHER, {"x-memory-user": name}, ASK) == name
        assert named.user_of(KEY, {}, ParsedRequest(model="m", stream=False, user_hint=name)) == name
    assert named.user_of(OTHER, {}, ASK) == "me"
    assert named.user_of(KEY, {}, ASK) is None
    await named.stop()


@pytest.mark.parametrize(
    "header", ["user-agent", "x-stainless-os", "x-request-id", "x-request-uid", "accept", "openai-organization"]
)
async def test_other_headers_name_nobody(tmp_path: Path, header: str) -> None:
    named = users(tmp_path)
    for value in ("a", "b", "c"):
        assert named.user_of(KEY, {header: value}, ASK) == "me"


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"a": 1}', b"\xff"])
async def test_with_a_damaged_file_nobody_is_the_default_user(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identities.json").write_bytes(content)
    named = users(tmp_path)
    await named.load()
    assert named.user_of(KEY, {}, ASK) is None
    assert named.is_ambiguous(KEY)
    assert named.user_of(KEY, {"x-memory-user": "ada"}, ASK) == "ada"
    await named.stop()
    assert (tmp_path / "identities.json").read_bytes() == content


async def test_without_a_default_user_nothing_is_kept(tmp_path: Path) -> None:
    named = users(tmp_path, None)
    await named.load()
    assert named.user_of(KEY, {"x-forwarded-user": "a"}, ASK) is None
    assert not named.is_ambiguous(KEY)
    await asyncio.sleep(0)
    assert not list(tmp_path.iterdir())
