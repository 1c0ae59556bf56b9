"""The default user ends for a key at the second identity that comes with it, for good."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.identity import FrontEndHeaders
from gateway.server.users import Users
from gateway.storage.local_file import LocalFile
from gateway.turn import ParsedRequest, Principal, Right
from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers
from tests.fakes.running import eventually

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


@asynccontextmanager
async def users_of_workers(folder: Path, count: int = 3) -> AsyncIterator[list[Users]]:
    """Users of connected workers, the owner's first."""
    with tempfile.TemporaryDirectory(prefix="gw") as sockets:
        path = str(Path(sockets) / "bus")
        owner = OwnerPeers(count, path, serving=lambda: range(1, count), end=lambda _: None)
        peers: list[Peers] = [owner, *(FollowerPeers(number, count, path) for number in range(1, count))]
        members = [Users("me", KNOWN, LocalFile(folder / "identities.json"), entry) for entry in peers]
        for users_, entry in zip(members, peers, strict=True):
            await entry.start()
            await users_.load()
        await eventually(lambda: len(owner.others) == count - 1)
        try:
            yield members
        finally:
            for users_, entry in zip(members, peers, strict=True):
                await users_.stop()
                await entry.stop()


async def test_identities_that_different_workers_see_end_the_default_user_in_all(tmp_path: Path) -> None:
    async with users_of_workers(tmp_path) as members:
        members[1].user_of(KEY, {"remote-user": "alice"}, ASK)
        assert [member.user_of(KEY, {}, ASK) for member in members] == ["me"] * 3
        members[2].user_of(KEY, {"remote-user": "bob"}, ASK)
        await eventually(lambda: all(member.is_ambiguous(KEY) for member in members))
        assert not any(member.is_ambiguous(OTHER) for member in members)
    again = users(tmp_path)
    await again.load()
    assert again.is_ambiguous(KEY), "the owner wrote the file"


async def test_only_the_owner_writes_identities(tmp_path: Path) -> None:
    peers = FollowerPeers(1, 2, str(tmp_path / "none"))
    file = LocalFile(tmp_path / "identities.json")
    member = Users("me", KNOWN, file, peers)
    member.user_of(KEY, {"remote-user": "alice"}, ASK)
    await member.stop()
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(file.read)


async def test_identities_that_a_worker_saw_without_an_owner_are_told_to_the_next_one(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gw") as sockets:
        path = str(Path(sockets) / "bus")
        follower = FollowerPeers(1, 2, path)
        member = Users("me", KNOWN, LocalFile(tmp_path / "unused.json"), follower)
        member.user_of(KEY, {"remote-user": "alice"}, ASK)
        owner_peers = OwnerPeers(2, path, serving=lambda: (), end=lambda _: None)
        owner = Users("me", KNOWN, LocalFile(tmp_path / "identities.json"), owner_peers)
        owner.user_of(KEY, {"remote-user": "bob"}, ASK)
        await owner_peers.start()
        await follower.start()
        try:
            await eventually(lambda: owner.is_ambiguous(KEY) and member.is_ambiguous(KEY))
        finally:
            await follower.stop()
            await owner.stop()
            await owner_peers.stop()
