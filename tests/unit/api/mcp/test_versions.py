from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.api.mcp.messages import RpcError, RpcMessage
from gateway.api.mcp.versions import check_version, is_stateless, negotiated_version, status_of, version_of

LATEST = "2026-07-28"
VERSION, CAPABILITIES = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"


def message(method: str = "tools/call", version: Any = LATEST, **params: Any) -> RpcMessage:
    return RpcMessage(method, {**params, "_meta": {VERSION: version, CAPABILITIES: {}}}, 1)


def headers(**values: str) -> dict[str, str]:
    named = {"mcp_protocol_version": LATEST, "mcp_method": "tools/call", "mcp_name": "add", **values}
    return {name.replace("_", "-"): value for name, value in named.items() if value}


def code_of(sent: dict[str, str] | CIMultiDict[str], received: RpcMessage) -> int:
    with pytest.raises(RpcError) as caught:
        version_of(sent, received)
    return caught.value.code


def test_without_header_and_envelope_it_is_the_version_before_headers() -> None:
    assert version_of({}, RpcMessage("ping", None, 1)) == "2025-03-26"
    assert version_of({"mcp-protocol-version": "2025-06-18"}, RpcMessage("ping", {}, 1)) == "2025-06-18"


@pytest.mark.parametrize("name", ["add", "=?base64?YWRk?="])
def test_the_latest_version_repeats_the_body_in_headers(name: str) -> None:
    assert version_of(headers(mcp_name=name), message(name="add")) == LATEST
    assert version_of(headers(mcp_method="tools/list", mcp_name=""), message("tools/list")) == LATEST


@pytest.mark.parametrize(
    "changed",
    [
        {"mcp_protocol_version": ""},
        {"mcp_method": ""},
        {"mcp_method": "tools/list"},
        {"mcp_name": ""},
        {"mcp_name": "ADD"},
        {"mcp_name": "=?base64?YWR?="},
        {"mcp_name": "=?base64?/w==?="},
    ],
)
def test_headers_that_differ_from_the_body_are_refused(changed: dict[str, str]) -> None:
    assert code_of(headers(**changed), message(name="add")) == -32020


def test_a_header_that_is_repeated_is_refused() -> None:
    doubled = CIMultiDict(headers())
    doubled.add("Mcp-Method", "tools/call")
    assert code_of(doubled, message(name="add")) == -32020


def test_an_envelope_needs_the_version_and_the_capabilities() -> None:
    assert code_of(headers(), RpcMessage("tools/call", {"_meta": {CAPABILITIES: {}}}, 1)) == -32602
    assert code_of(headers(), RpcMessage("tools/call", {"_meta": {VERSION: LATEST}}, 1)) == -32602
    assert code_of(headers(), RpcMessage("tools/call", {"_meta": 7}, 1)) == -32602


@pytest.mark.parametrize("received", [message(name="add", version="2030-01-01"), RpcMessage("ping", {}, 1)])
def test_an_unknown_version_is_answered_with_the_known_ones(received: RpcMessage) -> None:
    with pytest.raises(RpcError) as caught:
        version_of(headers(mcp_protocol_version="2030-01-01"), received)
    assert caught.value.code == -32022
    assert caught.value.data["requested"] == "2030-01-01"
    assert caught.value.data["supported"][-2:] == ["2025-11-25", LATEST]


def test_a_long_version_is_not_sent_back_whole() -> None:
    with pytest.raises(RpcError) as caught:
        check_version("9" * 5_000)
    assert len(caught.value.data["requested"]) == 100


def test_the_handshake_is_negotiated() -> None:
    assert negotiated_version("2024-11-05") == "2024-11-05"
    assert negotiated_version(LATEST) == negotiated_version("") == "2025-11-25"
    assert is_stateless(LATEST)
    assert not is_stateless("2025-11-25")


@pytest.mark.parametrize(
    ("code", "version", "status"),
    [
        (-32700, None, 400),
        (-32600, "2025-06-18", 400),
        (-32601, "2025-06-18", 200),
        (-32601, LATEST, 404),
        (-32602, "2025-11-25", 200),
        (-32602, LATEST, 400),
        (-32603, LATEST, 200),
    ],
)
def test_an_error_has_the_status_that_its_version_asks_for(code: int, version: str | None, status: int) -> None:
    assert status_of(code, version) == status
