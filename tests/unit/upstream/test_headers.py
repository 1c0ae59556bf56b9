from multidict import CIMultiDict

from gateway.upstream.headers import down, up


def test_only_what_is_allowed_goes_up() -> None:
    sent = CIMultiDict(
        {"Content-Type": "a/b", "X-Stainless-OS": "x", "Cookie": "c", "Authorization": "b", "x-mine": "1", "Host": "h"}
    )
    passed = up(sent, ["X-Mine"], {"authorization": "ours"})
    assert passed == {
        "content-type": "a/b",
        "x-stainless-os": "x",
        "x-mine": "1",
        "authorization": "ours",
        "user-agent": "memory-gateway/0.1.0",
    }


def test_only_what_is_allowed_comes_down() -> None:
    came = {
        "X-RateLimit-Remaining": "1",
        "Retry-After": "2",
        "Set-Cookie": "s",
        "OpenAI-Organization": "o",
        "Server": "x",
    }
    assert down(came) == {"x-ratelimit-remaining": "1", "retry-after": "2"}
