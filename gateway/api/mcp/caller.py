"""The caller of an MCP request, and the services that its tools use."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from gateway.config import Config
from gateway.recall.recall import Recall
from gateway.remember.remember import Remember
from gateway.server.users import Users
from gateway.service.memories import MemoryService
from gateway.storage.protocols import Registry
from gateway.turn import Principal

__all__ = ["Caller", "McpServices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a message: its principal, and the HTTP headers, which are case-insensitive."""

    principal: Principal
    headers: Mapping[str, str]
    request_id: str
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServices:
    """The services of the gateway that MCP uses. `searchable` waits until all earlier writes can be found (False after
    its timeout in seconds)."""

    config: Config
    memory_service: MemoryService
    recall: Recall
    registry: Registry
    remember: Remember
    users: Users
    searchable: Callable[[float], Awaitable[bool]]
