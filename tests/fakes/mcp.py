"""A bare client of MCP for tests: it sends the bytes that a test wants, in the form of 2026-07-28 or an earlier one."""

from collections.abc import Mapping
from typing import Any

from tests.fakes.running import Reply, Running

__all__ = ["LATEST", "McpClient"]

LATEST = "2026-07-28"
_META = "io.modelcontextprotocol/"


class McpClient:
    """Sends requests of one version to a gateway, with these headers."""

    def __init__(
        self, gateway: Running, headers: Mapping[str, str] | None = None, version: str | None = "2025-11-25"
    ) -> None:
        self._gateway = gateway
        self._headers = dict(headers or {})
        self._version = version

    async def send(self, message: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """Send any JSON."""
        version = {} if self._version is None else {"mcp-protocol-version": self._version}
        return await self._gateway.post("/mcp", message, {**version, **self._headers, **(headers or {})})

    async def request(
        self, method: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request with the headers and the `_meta` of the version; `headers` override the headers."""
        sent: dict[str, Any] = dict(params or {})
        own: dict[str, str] = {}
        if self._version == LATEST:
            sent["_meta"] = {f"{_META}protocolVersion": LATEST, f"{_META}clientCapabilities": {}}
            name = sent.get("name", sent.get("uri"))
            own = {"mcp-method": method, **({} if name is None else {"mcp-name": name})}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": sent}
        return await self.send(message, {**own, **(headers or {})})

    async def result(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        reply = await self.request(method, params)
        assert reply.status == 200, reply.body
        return reply.json["result"]

    async def call(self, tool: str, **arguments: Any) -> Any:
        """The structured result of a tool, which must not fail."""
        result = await self.result("tools/call", {"name": tool, "arguments": arguments})
        assert not result.get("isError"), result
        return result["structuredContent"]

    async def text(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's result."""
        result = await self.result("tools/call", {"name": tool, "arguments": arguments})
        return str(result["content"][0]["text"])

    async def failure(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's result, which must be an error."""
        result = await self.result("tools/call", {"name": tool, "arguments": arguments})
        assert result["isError"], result
        assert "structuredContent" not in result
        return str(result["content"][0]["text"])
