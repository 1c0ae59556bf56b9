import aiohttp
import pytest

from gateway.upstream import fetch as module
from gateway.upstream.fetch import FetchRefused, fetch
from tests.fakes.upstream import FakeUpstream, says

PRIVATE = [
    "http://127.0.0.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://127.1/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]/",
    "http://[fe80::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://localhost/",
    "http:///x",
    "http://[",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_a_private_address_is_refused_however_it_is_written(url: str) -> None:
    with pytest.raises(FetchRefused):
        await fetch(url, 1000)


async def test_what_a_public_server_gives_is_bounded_and_redirects_are_not_followed(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PublicResolver", aiohttp.ThreadedResolver)  # there is no public server here
    url = upstream.url.replace("127.0.0.1", "localhost") + "/file"
    upstream.script = says(200, b"content", "text/plain")
    assert await fetch(url, 1000) == b"content"
    upstream.script = says(200, b"x" * 2000, "text/plain")
    with pytest.raises(FetchRefused, match="more than"):
        await fetch(url, 1000)
    upstream.script = says(302, b"", "text/plain", location="http://127.0.0.1:1/")
    with pytest.raises(FetchRefused, match="302"):
        await fetch(url, 1000)


@pytest.mark.parametrize(
    "host",
    [
        "①②⑦.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "127．0．0．1",
        "127｡0｡0｡1",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "bücher.example",
    ],
)
async def test_an_address_in_disguise_is_refused(host: str) -> None:
    with pytest.raises(FetchRefused, match=r"not a public web address|no web address"):
        await fetch(f"http://{host}:1/", 1000)
