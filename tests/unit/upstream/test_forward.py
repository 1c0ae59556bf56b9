from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.config import ModelsConfig, UpstreamConfig
from gateway.errors import NotFound, UpstreamFailed
from gateway.telemetry import Telemetry
from gateway.upstream.client import Incoming, Outgoing
from gateway.upstream.forward import Forwarder


class Up:
    def __init__(self, name: str, status: int = 200, **config: Any) -> None:
        self.name = name
        self.config = UpstreamConfig(name=name, base_url="http://x", **config)
        self.status = status
        self.sent: list[Outgoing] = []

    async def send(self, request: Outgoing) -> Incoming:
        self.sent.append(request)
        up = self

        class Answer:
            status = up.status
            headers: Mapping[str, str] = {}

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
    answer = await made.send_chat(made.route("m"), path="/p", query_string="", client_headers={}, raw=b"{}")
    assert answer.status == 401
