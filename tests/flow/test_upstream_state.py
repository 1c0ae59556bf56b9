"""What an upstream keeps belongs to whoever made it: responses, conversations, files and the like of one account."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.formats import speaks_responses
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-acme", "tenant": "acme"},
    {"key": "key-of-umbra", "tenant": "umbra"},
    {"key": "key-of-ops", "tenant": "acme", "rights": ["chat", "memory", "admin", "upstream_state"]},
    {"key": "key-of-ada", "tenant": "acme", "user": "ada"},
]
ACME, UMBRA, OPS, ADA = ({"authorization": f"Bearer {key['key']}"} for key in KEYS)
SHARED = {"upstreams__0__api_key": "sk-of-the-account"}
BODY = {"model": "m", "input": "hi"}
STATEFUL = (
    "/v1/files", "/v1/files/file-1/content", "/v1/batches", "/v1/vector_stores", "/v1/vector_stores/vs_1/search",
    "/v1/assistants", "/v1/threads", "/v1/threads/t/messages", "/v1/fine_tuning/jobs", "/v1/uploads", "/v1/evals",
    "/v1/containers", "/v1/videos", "/v1/realtime/sessions", "/v1/responses", "/v1/conversations",
    "/v1/chat/completions", "/v1/chat/completions/chatcmpl-1", "/v1/messages/batches", "/v1/skills",
    "/v1/%66iles", "/v1//files", "/v1/v1/files", "/v1/FILES", "/v1/something/new", "/v1/files%2Ffile-1",
)  # fmt: skip
INFERENCE = (
    "/v1/embeddings", "/embeddings", "/v1/moderations", "/v1/rerank", "/v1/audio/speech", "/v1/audio/transcriptions",
    "/v1/images/generations", "/v1/images/edits", "/v1//embeddings", "/v1/tokenize",
)  # fmt: skip


def spellings(id_: str) -> list[str]:
    encoded = f"%{ord(id_[0]):02x}{id_[1:]}"
    paths = (f"responses/{id_}", f"responses/{encoded}", f"RESPONSES/{id_}", f"responses//{id_}", f"responses%2F{id_}")
    return [f"/v1/{path}" for path in paths] + [f"/v1/v1/responses/{id_}", f"/v1/responses/{id_}/input_items"]


async def test_responses_have_an_owner_after_a_restart(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, auth={"keys": KEYS}, **SHARED)
    upstream.script = speaks_responses("Noted.", "resp_5")
    async with running_gateway(config) as gateway:
        assert (await gateway.post("/v1/responses", BODY, ACME)).status == 200
    async with running_gateway(config) as gateway:
        before = len(upstream.received)
        for path in spellings("resp_5"):
            assert (await gateway.get(path, UMBRA)).status == 404, path
        for name in ("previous_response_id", "conversation"):
            assert (await gateway.post("/v1/responses", {**BODY, name: "resp_5"}, UMBRA)).status == 404
        assert len(upstream.received) == before, "nothing of it went up"
        assert (await gateway.get("/v1/responses/resp_5", ACME)).status == 200
        assert (await gateway.post("/v1/responses", {**BODY, "previous_response_id": "resp_5"}, ACME)).status == 200


async def test_ids_that_are_not_known_are_refused_where_an_account_is_shared(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.script = speaks_responses("Noted.", "resp_6")
    async with running_gateway(configuration(tmp_path, upstream.url, auth={"keys": KEYS}, **SHARED)) as gateway:
        for key in (UMBRA, ADA):
            for path in spellings("resp_unknown"):
                assert (await gateway.get(path, key)).status == 404, path
            asked = await gateway.post("/v1/responses", {**BODY, "previous_response_id": "resp_unknown"}, key)
            assert asked.status == 404
            for path in ("/v1/responses/compact", "/v1/responses/input_tokens"):
                asked = await gateway.post(path, {**BODY, "previous_response_id": "resp_unknown"}, key)
                assert asked.status == 404, path
        assert not upstream.received
        assert (await gateway.get("/v1/responses/resp_unknown", OPS)).status == 200


async def test_whoever_makes_a_conversation_can_use_it(tmp_path: Path, upstream: FakeUpstream) -> None:
    talk = speaks_responses("Noted.", "resp_7")

    async def script(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/conversations":
            return web.json_response({"id": "conv_1", "object": "conversation"})
        return await talk(request)

    upstream.script = script
    async with running_gateway(configuration(tmp_path, upstream.url, auth={"keys": KEYS}, **SHARED)) as gateway:
        made = await gateway.post("/v1/conversations", {}, ACME)
        assert (made.status, made.json["id"]) == (200, "conv_1")
        body = {**BODY, "conversation": "conv_1"}
        assert (await gateway.post("/v1/responses", body, UMBRA)).status == 404
        assert (await gateway.get("/v1/conversations/conv_1/items", UMBRA)).status == 404
        assert (await gateway.post("/v1/responses", body, ACME)).status == 200
        assert (await gateway.get("/v1/conversations/conv_1/items", ACME)).status == 200


@pytest.mark.parametrize("changes", [{"auth": {"keys": KEYS}, **SHARED}])
async def test_what_an_account_keeps_needs_a_right_where_it_is_shared(gateway: Running, upstream: FakeUpstream) -> None:
    for key in (ACME, UMBRA, ADA):
        for path in STATEFUL:
            refused = await gateway.get(path, key)
            assert (refused.status, b"upstream_state" in refused.body) == (403, True), path
        for path in STATEFUL[:8]:
            assert (await gateway.post(path, {"model": "m"}, key)).status == 403, path
    assert not upstream.received
    for path in INFERENCE:
        assert (await gateway.post(path, {"model": "m", "input": "x"}, UMBRA)).status == 200, path
    for path in STATEFUL[:8]:
        assert (await gateway.get(path, OPS)).status == 200, path


OWN = {"authorization": "Bearer sk-of-the-client", "x-gateway-key": "key-of-acme"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [(SHARED, {}), ({"auth": {"keys": KEYS[:1]}, **SHARED}, ACME), ({"auth": {"keys": KEYS}}, OWN)],
    ids=["open", "one", "own"],
)
async def test_where_there_is_nobody_to_keep_apart_all_is_passed_through(gateway: Running, key: dict[str, str]) -> None:
    for path in STATEFUL[:8]:
        assert (await gateway.get(path, key)).status == 200, path
    assert (await gateway.get("/v1/responses/resp_unknown", key)).status == 200
    talk = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "conversation": 7}
    assert (await gateway.post("/v1/chat/completions", talk, key)).status == 200, "a field of the client's own"


@pytest.mark.parametrize(
    "changes",
    [
        {"auth": {"keys": KEYS}},
        {"auth": {"keys": KEYS}, "upstreams__0__api_key": "sk-1234"},
        {"auth": {"keys": KEYS}, "upstreams__0__headers": {"x-team": "ours"}},
    ],
    ids=["nobody's credentials", "a short key", "a header"],
)
async def test_an_account_is_a_clients_own_only_with_its_credentials_alone(gateway: Running) -> None:
    for path in STATEFUL[:8]:
        assert (await gateway.get(path, UMBRA)).status == 403, path
    assert (await gateway.get("/v1/responses/resp_unknown", UMBRA)).status == 404


@pytest.mark.parametrize("spread", [{"models__fallbacks": {"llama": ["gpt-5"]}}, {}])
async def test_every_upstream_that_may_be_asked_counts(
    tmp_path: Path, upstream: FakeUpstream, spread: dict[str, Any]
) -> None:
    upstreams = [
        {"name": "local", "base_url": upstream.url, "models": ["llama*"]},
        {"name": "shared", "base_url": upstream.url, "models": ["gpt*"], "api_key": "sk-of-the-account"},
    ]
    key = {**OWN, "x-gateway-key": "key-of-umbra"}
    config = configuration(tmp_path, upstream.url, auth={"keys": KEYS}, upstreams=upstreams, **spread)
    async with running_gateway(config) as gateway:
        for path in ("batches", "fine_tuning/jobs", "assistants", "threads/runs", "videos"):
            assert (await gateway.post(f"/v1/{path}", {"model": "gpt-5"}, key)).status == 403, path
        assert (await gateway.post("/v1/responses/resp_foreign/cancel", {"model": "gpt-5"}, key)).status == 404
        if spread:
            body = {"model": "llama", "input": "hi", "previous_response_id": "resp_foreign"}
            for path in ("/v1/responses", "/v1/responses/compact"):
                assert (await gateway.post(path, body, key)).status == 404, path
        assert not upstream.received


async def test_an_owner_counts_only_for_the_upstream_that_keeps_it(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstreams = [
        {"name": "local", "base_url": upstream.url, "models": ["llama*"]},
        {"name": "shared", "base_url": upstream.url, "models": ["gpt*"], "api_key": "sk-of-the-account"},
    ]
    upstream.script = speaks_responses("Noted.", "resp_mine")
    key = {**OWN, "x-gateway-key": "key-of-umbra"}
    config = configuration(tmp_path, upstream.url, auth={"keys": KEYS}, upstreams=upstreams)
    async with running_gateway(config) as gateway:
        assert (await gateway.post("/v1/responses", {"model": "gpt-5", "input": "hi"}, key)).status == 200
        upstream.script = speaks_responses("Noted.", "resp_local")
        claimed = {"model": "llama", "input": "hi", "conversation": "conv_foreign"}
        assert (await gateway.post("/v1/responses", claimed, key)).status == 200, "of the client's own account"
        upstream.received.clear()
        assert (await gateway.post("/v1/responses", {**claimed, "model": "gpt-5"}, key)).status == 404
        lever = {"previous_response_id": "resp_mine"}
        for path in ("/v1/files/file-x", "/v1/vector_stores/vs_x/search", "/v1/responses/resp_foreign/cancel"):
            await gateway.post(path, lever, key)
        assert not [asked for asked in upstream.received if "sk-of-the-account" in str(asked.headers)]
        assert (await gateway.get("/v1/responses/resp_mine", key)).status == 200
        assert "sk-of-the-account" in str(upstream.last.headers)


@pytest.mark.parametrize("changes", [{"auth": {"keys": KEYS}, **SHARED}])
async def test_references_in_bodies_are_found_in_every_shape(gateway: Running, upstream: FakeUpstream) -> None:
    said = [{"role": "user", "content": "hi"}]
    file = {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
    refused: list[tuple[str, dict[str, Any], int]] = [
        ("/v1/responses", {**BODY, "previous_response_id": ["resp_x"]}, 400),
        ("/v1/responses", {**BODY, "previous_response_id": {"id": "resp_x"}}, 400),
        ("/v1/responses", {**BODY, "conversation": ["conv_x"]}, 400),
        ("/v1/responses", {**BODY, "conversation": {"id": "conv_x"}}, 404),
        ("/v1/responses/compact", {"previous_response_id": "resp_x"}, 404),
        ("/responses/compact", {"previous_response_id": "resp_x"}, 404),
        ("/v1/chat/completions", {"model": "m", "messages": said, "previous_response_id": "resp_x"}, 404),
        ("/v1/completions", {"model": "m", "prompt": "x", "previous_response_id": "resp_x"}, 404),
        ("/v1/chat/completions", {"model": "m", "messages": [file]}, 403),
        ("/v1/responses", {**BODY, "input": [{"type": "item_reference", "id": "msg_x"}]}, 403),
        ("/v1/responses", {**BODY, "tools": [{"type": "file_search", "vector_store_ids": ["vs_x"]}]}, 403),
        ("/v1/responses", {**BODY, "tools": [{"type": "code_interpreter", "container": "cntr_x"}]}, 403),
        ("/v1/responses", {**BODY, "prompt": {"id": "pmpt_x"}}, 403),
        ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": said, "container": "cntr_x"}, 403),
    ]
    tools: list[dict[str, Any]] = [
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}},
        {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_x"}},
    ]
    skill = {"type": "skill_reference", "skill_id": "skill_x"}
    tools.append({"type": "shell", "environment": {"type": "container_auto", "skills": [skill]}})
    refused += [("/v1/responses", {**BODY, "tools": [tool]}, 403) for tool in tools]
    file_input = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]
    for items in (
        [{"id": "msg_x"}],
        [{"type": None, "id": "msg_x"}],
        [{"type": "image_generation_call", "id": "ig_x"}],
    ):
        refused.append(("/v1/responses", {**BODY, "input": items}, 403))
    for path in ("/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"):
        refused.append((path, {"model": "m", "type": "tool_use", "input": file_input}, 403))
    refused.append(("/v1/images/edits", {"model": "m", "prompt": "x", "images": [{"file_id": "file-1"}]}, 403))
    source = {"type": "document", "source": {"type": "file", "file_id": "file-1"}}
    counted = {"model": "m", "messages": [{"role": "user", "content": [source]}]}
    refused += [(f"/v1/messages{path}", {**counted, "max_tokens": 9}, 403) for path in ("", "/count_tokens")]
    for container in ({"id": "cntr_x"}, {"skills": [{"type": "custom", "skill_id": "skill_x"}]}):
        body = {"model": "m", "max_tokens": 9, "messages": said, "container": container}
        refused.append(("/v1/messages", body, 403))
    google = {"google": {"cached_content": "cachedContents/x"}}
    refused.append(("/v1/chat/completions", {"model": "m", "messages": said, "extra_body": google}, 403))
    for path, body, status in refused:
        reply = await gateway.post(path, body, UMBRA)
        assert reply.status == status, (path, body, reply.body)
    for kind in ("text/plain", "application/vnd.api+json", "application/octet-stream"):
        headers = {**UMBRA, "content-type": kind}
        asked = await gateway.post("/v1/responses/compact", {"previous_response_id": "resp_x"}, headers)
        assert asked.status == 404, kind
    for kind in ("text/plain", "application/vnd.api+json"):
        edit = {"model": "m", "prompt": "x", "images": [{"file_id": "file-1"}]}
        asked = await gateway.post("/v1/images/edits", edit, {**UMBRA, "content-type": kind})
        assert asked.status == 403, kind
    assert not upstream.received
    disguised = [
        rb'{"model": "m", "input": [{"role": "user", "content": [{"type": "input_file", "\u0066ile_id": "file-1"}]}]}',
        rb'{"model": "m", "input": "hi", "conversation": "conv_x", "conversation": null}',
        rb'{"model": "m", "input": "hi", "\u0070revious_response_id": "resp_x", "previous_response_id": null}',
        rb'{"model": "m", "input": [{"type": "input_file", "file_id": "file-1", "file_id": null}]}',
    ]
    for raw, status in zip(disguised, (403, 400, 400, 400), strict=True):
        assert (await gateway.post("/v1/responses", None, UMBRA, raw=raw)).status == status, raw
    assert not upstream.received
    schema = {"type": "object", "properties": {"file_id": {"type": "string"}, "container": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {**schema, "default": {"file_id": "x"}}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"file_id": "x"}'}}
    talk = [*said, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "ok"}]
    skills = {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}
    hosted: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": said, "container": skills}
    assert (await gateway.post("/v1/messages", hosted, UMBRA)).status == 200, "not of the account"
    call_block = {"type": "mcp_tool_use", "id": "t", "name": "docker", "input": {"container": "web"}}
    result = {"type": "code_execution_output", "file_id": "file_own"}
    for block in (call_block, {"type": "code_execution_tool_result", "tool_use_id": "t", "content": [result]}):
        turns = [*said, {"role": "assistant", "content": [block]}, *said]
        reply = await gateway.post("/v1/messages", {"model": "m", "max_tokens": 9, "messages": turns}, UMBRA)
        assert reply.status == 200, (block, reply.body)
    cited = {"type": "output_text", "text": "x", "annotations": [{"type": "container_file_citation", "file_id": "f"}]}
    for item in (
        {"type": "code_interpreter_call", "id": "ci", "container_id": "c"},
        {"role": "assistant", "content": [cited]},
    ):
        reply = await gateway.post("/v1/responses", {**BODY, "input": [item, *said]}, UMBRA)
        assert reply.status == 200, (item, reply.body)
    for empty in ({"previous_response_id": ""}, {"conversation": None}, {"chat_template_kwargs": {"container": "x"}}):
        assert (await gateway.post("/v1/responses", {**BODY, **empty}, UMBRA)).status == 200, empty
    large = b'{"model": "m", "prompt": "x", "seed": ' + b"9" * 5000 + b"}"
    assert (await gateway.post("/v1/completions", None, UMBRA, raw=large)).status in (200, 400)
    plain = {"model": "m", "messages": talk, "tools": [tool], "metadata": {"file_id": "mine"}}
    assert (await gateway.post("/v1/chat/completions", plain, UMBRA)).status == 200, "the client's own words"


@pytest.mark.parametrize("changes", [{"auth": {"keys": KEYS}, "memory__default_user": "me", **SHARED}])
async def test_an_owner_stays_the_owner(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = speaks_responses("Noted.", "resp_8")
    own = {**BODY, "conversation": "conv_8"}
    ops = {**OPS, "x-memory-user": "ada"}
    assert (await gateway.post("/v1/responses", own, ops)).status == 200
    assert (await gateway.post("/v1/responses", own, ADA)).status == 200
    assert (await gateway.get("/v1/responses/resp_8", ACME)).status == 200, "a key that names nobody"
    assert (await gateway.get("/v1/responses/resp_8", {**ACME, "x-memory-user": "bob"})).status == 404


@pytest.mark.parametrize("changes", [SHARED, {"auth": {"keys": KEYS}, **SHARED}])
async def test_the_administration_of_an_account_is_never_reachable(gateway: Running, upstream: FakeUpstream) -> None:
    for path in (
        "/v1/organization/users",
        "/v1/organization/admin_api_keys",
        "/v1/%6Frganization/costs",
        "/v1/organizations/x",
    ):
        for method in (gateway.get(path, OPS), gateway.post(path, {}, OPS)):
            assert (await method).status == 404, path
    assert not upstream.received
