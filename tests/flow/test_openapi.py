"""The OpenAPI document says what is true: every route is in it, and the page works offline."""

import re
from typing import Any

import pytest

from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.routes import memos_operations
from tests.fakes.running import Running


async def test_every_route_is_described_from_the_model_that_checks_it(gateway: Running) -> None:
    document = (await gateway.get("/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    for operation in memos_operations(ChatHandlers(1)):
        for path in operation.paths:
            described = document["paths"][path][operation.method.lower()]
            if operation.model is not None:
                reference = described["requestBody"]["content"]["application/json"]["schema"]["$ref"]
                schema = document["components"]["schemas"][reference.rpartition("/")[2]]
                assert set(schema["properties"]) == set(operation.model.model_fields), path
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/health", "/metrics"):
        assert path in document["paths"]
    references = set(re.findall(r"#/components/schemas/(\w+)", (await gateway.get("/openapi.json")).body.decode()))
    assert references <= set(document["components"]["schemas"])


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_the_description_needs_no_key(gateway: Running, path: str) -> None:
    assert (await gateway.get(path)).status == 200


async def test_the_page_names_no_other_host(gateway: Running) -> None:
    page = await gateway.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(rb"(?:src|href)=|https?://", page.body)


async def test_what_lacks_a_required_field_is_refused_with_its_name(gateway: Running) -> None:
    document = (await gateway.get("/openapi.json")).json
    schemas: dict[str, Any] = document["components"]["schemas"]
    for operation in memos_operations(ChatHandlers(1)):
        if operation.model is None or operation.method != "POST":
            continue
        needed = schemas[operation.model.__name__].get("required", [])
        if needed:
            reply = await gateway.post(operation.paths[0], {})
            assert (reply.status, reply.json["code"]) == (400, 400), operation.path
            assert any(name in reply.json["message"] for name in [*needed, "needed"]), reply.json


async def test_a_chat_that_may_stream_is_described_with_both_forms(gateway: Running) -> None:
    paths = (await gateway.get("/openapi.json")).json["paths"]
    forms = {path: set(paths[path]["post"]["responses"]["200"]["content"]) for path in paths if "/chat" in path}
    assert forms["/api/openmem/v1/chat"] == {"application/json", "text/event-stream"}
    assert forms["/product/chat/complete"] == {"application/json"}
