from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.mcp.messages import RpcError, RpcMessage, error_of, id_of, read_message
from gateway.errors import Forbidden, MemoryUnavailable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["id", "method", "params"]), inner),
)


def test_a_request_and_a_notification_are_told_apart_by_the_id() -> None:
    body = {"jsonrpc": "2.0", "method": "ping"}
    assert read_message(body) == RpcMessage("ping", None)
    assert read_message({**body, "id": "7", "params": {"a": 1}}) == RpcMessage("ping", {"a": 1}, "7")
    assert read_message({**body, "id": 0}) == RpcMessage("ping", None, 0)


def test_a_response_is_nothing_to_answer() -> None:
    assert read_message({"jsonrpc": "2.0", "id": 1, "result": {}}) is None
    assert read_message({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "x"}}) is None


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"method": "ping", "id": 1}, "jsonrpc"),
        ({"jsonrpc": "1.0", "method": "ping", "id": 1}, "jsonrpc"),
        ({"jsonrpc": "2.0", "method": 1, "id": 1}, "method"),
        ({"jsonrpc": "2.0", "method": "ping", "id": None}, "id"),
        ({"jsonrpc": "2.0", "method": "ping", "id": True}, "id"),
        ({"jsonrpc": "2.0", "method": "ping", "id": 1.5}, "id"),
        ({"jsonrpc": "2.0", "method": "ping", "id": {}}, "id"),
        ({"jsonrpc": "2.0", "method": "ping", "id": 1, "params": [1]}, "params"),
        ({}, "jsonrpc"),
    ],
)
def test_a_malformed_request_is_refused_with_its_place(data: dict[str, Any], place: str) -> None:
    with pytest.raises(RpcError) as caught:
        read_message(data)
    assert caught.value.code == -32600
    assert f": {place}" in caught.value.message


@given(JSON)
def test_any_json_is_a_message_or_an_invalid_request(data: Any) -> None:
    refused: RpcError | None = None
    message = None
    try:
        message = read_message(data)
    except RpcError as error:
        refused = error
    assert message is None or isinstance(message.meta, dict)
    assert refused is None or (refused.code == -32600 and len(refused.message) < 600)
    assert isinstance(id_of(data), int | str | None)


@pytest.mark.parametrize(("id_", "expected"), [(1, 1), ("a", "a"), (True, None), ([], None), (1.5, None)])
def test_the_id_of_a_malformed_request_is_kept_if_it_is_valid(id_: Any, expected: Any) -> None:
    assert id_of({"id": id_}) == expected
    assert id_of([id_]) is None


def test_an_error_of_the_gateway_keeps_its_type_and_code() -> None:
    error = error_of(Forbidden("no"))
    assert (error.code, error.message) == (-32602, "no")
    assert error.data == {"type": "permission_error", "code": "forbidden"}
    assert error_of(MemoryUnavailable("later")).code == -32603
