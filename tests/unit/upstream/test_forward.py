import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config import ModelsConfig, UpstreamConfig
from gateway.errors import NotFound, Overloaded, UpstreamFailed, UpstreamUnreachable
from gateway.telemetry import Telemetry
from gateway.upstream.client import Incoming, Outgoing
from gateway.upstream.forward import Forwarder, UpstreamAnswer


class Up:
    def __init__(self, name: str, status: int = 200, headers: Mapping[str, str] | None = None, **config: Any) -> None:
        self.name = name
        self.config = UpstreamConfig(name=name, base_url="http://x", **config)
        self.status = status
        self.headers = headers or {}
        self.is_dead = False
        self.sent: list[Outgoing] = []

    async def send(self, request: Outgoing) -> Incoming:
        self.sent.append(request)
        up = self
        if up.is_dead:
            raise UpstreamUnreachable("nobody there")

        class Answer:
            status = up.status
            headers = up.headers

            async def chunks(self) -> AsyncGenerator[bytes]:
                yield b"{}"

            def close(self) -> None: ...

        return Answer()


def forwarder(*upstreams: Up, **models: Any) -> Forwarder:
    return Forwarder(upstreams, ModelsConfig(**models), Telemetry(), lambda value: value == "Bearer ours")


def test_a_model_goes_to_the_first_upstream_that_has_it() -> None:
    made = forwarder(
        Up("a", models=("gpt-*", "o?")), Up("b", models=("llama*",)), default="gpt-9", aliases={"me": "llama3"}
    )
    assert made.route("gpt-5").upstream.name == "a"
    assert made.route("o3").upstream.name == "a"
    assert made.route("llama3:8b").upstream.name == "b"
    assert (made.route("me").upstream.name, made.route("me").model) == ("b", "llama3")
    assert made.route("default").model == "gpt-9"
    with pytest.raises(NotFound):
        made.route("claude")


async def send(up: Up, headers: dict[str, str], raw: bytes = b'{"model":"m"}', **models: Any) -> Outgoing:
    made = forwarder(up, **models)
    asked = next(iter(models.get("aliases", {"m": 0})))
    await made.send_chat(made.route(asked), path="/p", query_string="", client_headers=headers, raw=raw)
    return up.sent[-1]


async def test_whose_key_goes_up() -> None:
    own = await send(Up("a", api_key=SecretStr("sk-up")), {"authorization": "Bearer client"})
    assert own.headers["authorization"] == "Bearer sk-up"
    assert (await send(Up("a"), {"authorization": "Bearer client"})).headers["authorization"] == "Bearer client"
    assert "authorization" not in (await send(Up("a"), {"authorization": "Bearer ours"})).headers


async def test_only_the_name_of_the_model_changes_in_the_bytes() -> None:
    sent = await send(Up("a"), {}, b'{ "model" : "me", "n":1.0}', aliases={"me": "m-2"})
    assert sent.body == b'{ "model" : "m-2", "n":1.0}'


@pytest.mark.parametrize(
    ("status", "code"), [(302, "upstream_error"), (401, "upstream_auth_error"), (403, "upstream_auth_error")]
)
async def test_redirects_and_a_refusal_of_our_key_are_bad_gateways(status: int, code: str) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        await send(Up("a", status, api_key=SecretStr("sk-up")), {})
    assert caught.value.code == code
    assert "sk-up" not in caught.value.message


async def test_a_refusal_of_the_clients_key_is_the_clients() -> None:
    made = forwarder(Up("a", 401))
    assert (await served(made)).incoming.status == 401


async def served(made: Forwarder) -> UpstreamAnswer:
    return await made.send_chat(made.route("m"), path="/p", query_string="", client_headers={}, raw=b"{}")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_the_next_upstream_is_asked_where_one_does_not_serve_now(status: int) -> None:
    answer = await served(forwarder(Up("a", status), Up("b")))
    assert (answer.upstream.name, answer.incoming.status, answer.attempts) == ("b", 200, 2)


@pytest.mark.parametrize("status", [200, 400, 404, 422, 500])
async def test_any_other_answer_is_the_answer(status: int) -> None:
    second = Up("b")
    answer = await served(forwarder(Up("a", status), second))
    assert (answer.incoming.status, answer.attempts, second.sent) == (status, 1, [])


async def test_a_dead_upstream_is_passed_over_after_five_failures_and_gets_its_traffic_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.upstream.forward.time.monotonic", lambda: now)
    first, second = Up("a"), Up("b")
    first.is_dead = True
    made = forwarder(first, second)
    assert [(await served(made)).attempts for _ in range(20)] == [2] * 5 + [1] * 15
    assert len(first.sent) == 5
    now += 11
    assert (await served(made)).upstream.name == "b", "the probe failed"
    assert len(first.sent) == 6
    first.is_dead = False
    now += 11
    assert (await served(made)).upstream.name == "a"
    assert (await served(made)).attempts == 1


async def test_one_that_has_rested_is_asked_when_the_others_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.upstream.forward.time.monotonic", lambda: now)
    first, second = Up("a"), Up("b")
    made = forwarder(first, second)
    for _ in range(5):
        made._breakers["b"].failed(now)
    now += 11
    assert (await served(made)).upstream.name == "a"
    first.is_dead = True
    assert (await served(made)).upstream.name == "b"


async def test_if_all_fail_all_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Up("a"), Up("b", 503)
    first.is_dead = True
    made = forwarder(first, second)
    for _ in range(8):
        answer = await served(made)
        assert (answer.upstream.name, answer.incoming.status) == ("b", 503)


async def test_one_upstream_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream.forward._LONGEST_JITTER", 0.0)
    up = Up("a", 503)
    assert ((await served(forwarder(up))).attempts, len(up.sent)) == (2, 2)
    up.is_dead = True
    with pytest.raises(UpstreamUnreachable):
        await served(forwarder(up))
    assert len(up.sent) == 4


@pytest.mark.parametrize(("expected", "tries"), [("0", 2), ("0.01", 2), ("3", 1), ("-1", 1), ("Fri, 31 Dec 2027", 1)])
async def test_what_the_upstream_asks_for_is_obeyed(expected: str, tries: int) -> None:
    up = Up("a", 429, headers={"retry-after": expected})
    answer = await served(forwarder(up))
    assert (answer.incoming.status, answer.attempts, len(up.sent)) == (429, tries, tries)


async def test_second_tries_have_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream.forward._LONGEST_JITTER", 0.0)
    up = Up("a", 503)
    made = forwarder(up)
    answers = await asyncio.gather(*(served(made) for _ in range(60)))
    again = sum(answer.attempts == 2 for answer in answers)
    assert 3 <= again <= 9, "a tenth of what is in flight, or three"


def test_a_model_can_be_asked_of_a_certain_upstream() -> None:
    made = forwarder(Up("a"), Up("b"), Up("router", models=("openai/gpt-9",)), aliases={"mine": "b/llama"})
    assert [(one.upstream.name, one.model) for one in made.route("b/gpt-5").targets] == [("b", "gpt-5")]
    assert [(one.upstream.name, one.model) for one in made.route("mine").targets] == [("b", "llama")]
    assert {one.model for one in made.route("openai/gpt-9").targets} == {"openai/gpt-9"}, "a name as it is listed"
    assert {one.model for one in made.route("nobody/gpt").targets} == {"nobody/gpt"}


async def test_fallbacks_are_other_models_asked_by_their_names() -> None:
    first, second = Up("a", 503, models=("big",)), Up("b", models=("small",))
    made = forwarder(first, second, fallbacks={"big": ("small",)})
    served = await made.send_chat(
        made.route("big"), path="/p", query_string="", client_headers={}, raw=b'{"model":"big","n":1}'
    )
    assert (served.upstream.name, served.attempts) == ("b", 2)
    assert second.sent[0].body == b'{"model":"small","n":1}'
    assert first.sent[0].body == b'{"model":"big","n":1}'


def test_a_prompt_that_is_too_long_goes_where_there_is_room() -> None:
    ups = [
        Up("a", models=("m",), context_window=100),
        Up("b", models=("s",), context_window=50),
        Up("c", models=("l",)),
    ]
    made = forwarder(*ups, fallbacks={"m": ("s", "l")})
    route = made.route("m")
    roomier = route.roomier(route.targets[0])
    assert roomier is not None
    assert [one.model for one in roomier.targets] == ["l"]
    assert roomier.roomier(roomier.targets[0]) is None
    assert route.only("c").model == "l"


async def test_neighbours_with_weights_share_requests() -> None:
    ups = [Up("a", weight=3), Up("b", weight=1), Up("c", weight=0), Up("last")]
    made = forwarder(*ups)
    for _ in range(400):
        await made.send_chat(made.route("m"), path="/p", query_string="", client_headers={}, raw=b'{"model":"m"}')
    counts = [len(up.sent) for up in ups]
    assert counts[2:] == [0, 0], "weight 0 and what comes after are for when others fail"
    assert 230 < counts[0] < 370
    assert sum(counts) == 400


async def test_a_full_upstream_is_passed_over_and_then_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Up("a", max_in_flight=1), Up("b", max_in_flight=1)
    made = forwarder(first, second)

    async def ask() -> UpstreamAnswer:
        return await made.send_chat(
            made.route("m"), path="/p", query_string="", client_headers={}, raw=b'{"model":"m"}'
        )

    one, two = await ask(), await ask()
    assert (one.upstream.name, two.upstream.name) == ("a", "b")
    waiting = asyncio.create_task(ask())
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    one.incoming.close()
    one.incoming.close()
    assert (await asyncio.wait_for(waiting, 5)).upstream.name == "a"
    only = forwarder(Up("x", max_in_flight=1, timeouts={"connect": 0.05}))
    await only.send_chat(only.route("m"), path="/p", query_string="", client_headers={}, raw=b"{}")
    with pytest.raises(Overloaded):
        await only.send_chat(only.route("m"), path="/p", query_string="", client_headers={}, raw=b"{}")


@pytest.mark.parametrize(
    ("config", "headers", "sent"),
    [
        ({"api_key": "sk-up"}, {"authorization": "Bearer client"}, {"authorization": "Bearer sk-up"}),
        ({"api_key": "sk-up", "key_header": "api-key"}, {}, {"api-key": "sk-up"}),
        ({"api_key": "sk-up", "kind": "anthropic"}, {"x-api-key": "client"}, {"x-api-key": "sk-up"}),
        ({}, {"x-api-key": "client"}, {"authorization": "Bearer client"}),
        ({"kind": "anthropic"}, {"authorization": "Bearer client"}, {"x-api-key": "client"}),
        ({"kind": "anthropic"}, {"authorization": "Bearer sk-ant-oat1"}, {"authorization": "Bearer sk-ant-oat1"}),
        ({"key_header": "api-key"}, {"authorization": "Bearer client"}, {"api-key": "client"}),
        ({}, {"authorization": "Basic dTpw"}, {"authorization": "Basic dTpw"}),
        ({}, {"authorization": "Bearer ours"}, {}),
        ({}, {"authorization": "Bearer ours", "x-api-key": "client"}, {"authorization": "Bearer client"}),
    ],
)
async def test_a_key_goes_up_in_the_header_that_the_upstream_knows(
    config: dict[str, Any], headers: dict[str, str], sent: dict[str, str]
) -> None:
    request = await send(Up("a", **config), headers)
    carried = {
        name: value for name, value in request.headers.items() if name in ("authorization", "x-api-key", "api-key")
    }
    assert carried == sent
