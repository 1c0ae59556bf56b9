"""The APIs of a gateway: each is built from the services of the process, with its paths, right and error format."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.api.affinity import StateGuard
from gateway.api.anthropic import AnthropicFace
from gateway.api.console import CONSOLE_PATH, ConsoleFace
from gateway.api.gateway_state import GatewayFace, describe_gateway
from gateway.api.mcp.caller import McpServices
from gateway.api.mcp.endpoint import CHALLENGE, McpFace, describe_mcp
from gateway.api.mcp.endpoint import write_error as write_mcp_error
from gateway.api.memory.routes import MemoryApis
from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.envelope import MemosServices, operations_to_routes, write_error
from gateway.api.memos.routes import memos_operations
from gateway.api.models import ModelList
from gateway.api.openai import OpenAIFace
from gateway.api.openapi import OpenAPIFace, memos_paths, openai_paths, ops_paths
from gateway.api.ops import ANSWERERS, OPEN_PATHS, OpsFace
from gateway.api.turns import TurnsFace, describe_turns
from gateway.api.usage import UsageFace
from gateway.engine import MemoryEngine
from gateway.errors import GatewayError
from gateway.formats.errors import anthropic_error, anthropic_error_type, openai_error_body
from gateway.identity import Keyring
from gateway.pipeline.turn_log import TurnLog
from gateway.plugin_host import PluginHost
from gateway.prompt.shared_explanations import SharedExplanations
from gateway.server.apis import Answerer, Api
from gateway.server.sign_in import SignIns
from gateway.server.turns import Turns
from gateway.storage.protocols import Ledger
from gateway.turn import Right

__all__ = ["ApiContext", "BuildApi", "build_apis", "register", "unregister"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """The services that APIs are built from. `is_open`: there are no keys. `report` returns the health of the parts,
    `metrics` the page of metrics."""

    services: MemosServices
    memory: MemoryEngine
    chats: ChatHandlers
    explanations: SharedExplanations
    state: StateGuard
    turns: Turns
    ledger: Ledger | None
    metrics: Callable[[], Awaitable[bytes]]
    keyring: Keyring
    sign_ins: SignIns
    turn_log: TurnLog
    plugins: PluginHost
    is_open: bool
    report: Callable[[], Awaitable[dict[str, Any]]]


BuildApi = Callable[[ApiContext], Api]
"""Builds an API. It runs once, at the start of the gateway."""


def register(build: BuildApi) -> None:
    """Add an API, before the gateway starts."""
    _BUILDERS.append(build)


def unregister(build: BuildApi) -> None:
    """Remove an API that was added."""
    _BUILDERS.remove(build)


def build_apis(context: ApiContext) -> list[Api]:
    """Build all APIs. The one for operators serves the description of all of them."""
    apis: list[Api] = []
    operators = [
        *OpsFace(context.metrics, context.report, has_console=context.services.config.console.enabled).routes(),
        *OpenAPIFace(apis).routes(),
    ]
    apis += [
        Api(
            name="ops",
            routes=operators,
            paths=OPEN_PATHS,
            right=None,
            write_error=_write_openai,
            describe=ops_paths,
            answerers=ANSWERERS,
        ),
        *(build(context) for build in _BUILDERS),
    ]
    return apis


def _build_memos(context: ApiContext) -> Api:
    operations = memos_operations(context.chats)
    return Api(
        name="memos",
        routes=operations_to_routes(operations, context.services),
        prefixes=("/product", "/api/openmem"),
        right=Right.MEMORY,
        write_error=write_error,
        describe=lambda schemas: memos_paths(operations, schemas),
    )


def _build_anthropic(context: ApiContext) -> Api:
    services = context.services
    face = AnthropicFace(services.config, services.pipeline, context.state, context.turns)
    return Api(
        name="anthropic",
        routes=face.routes(),
        prefixes=("/v1/messages",),
        write_error=_write_anthropic,
        answerer=Answerer.WORKER,
    )


def _build_mcp(context: ApiContext) -> Api:
    services, memory = context.services, context.memory
    face = McpFace(
        McpServices(
            config=services.config,
            memory_service=memory.memory_service,
            recall=memory.recall,
            registry=memory.registry,
            remember=services.remember,
            users=context.turns.users,
            searchable=services.searchable,
        )
    )
    return Api(
        name="mcp",
        routes=face.routes(),
        prefixes=("/mcp",),
        right=Right.MEMORY,
        write_error=write_mcp_error,
        challenge=CHALLENGE,
        describe=describe_mcp,
    )


def _build_openai(context: ApiContext) -> Api:
    """The API of OpenAI, with the gateway's own route `/v1/usage`."""
    services = context.services
    config, pipeline = services.config, services.pipeline
    models = ModelList(pipeline.forwarder, config.models)
    routes = [
        *UsageFace(context.ledger, is_open=context.is_open).routes(),
        *OpenAIFace(config, pipeline, models, context.state, context.turns).routes(),
    ]
    return Api(
        name="openai",
        routes=routes,
        write_error=_write_openai,
        describe=openai_paths,
        answerer=Answerer.WORKER,
        answerers={"/v1/usage": Answerer.OWNER},
    )


def _build_console(context: ApiContext) -> Api:
    config = context.services.config
    face = ConsoleFace(context.keyring, context.sign_ins, config.limits, is_enabled=config.console.enabled)
    return Api(name="console", routes=face.routes(), prefixes=(CONSOLE_PATH,), right=None, write_error=_write_openai)


def _build_gateway(context: ApiContext) -> Api:
    services = context.services
    face = GatewayFace(services.config, context.keyring, context.plugins, services.forwarder)
    return Api(
        name="gateway",
        routes=face.routes(),
        prefixes=("/v1/gateway",),
        right=Right.ADMIN,
        write_error=_write_openai,
        describe=describe_gateway,
    )


def _build_turns(context: ApiContext) -> Api:
    subscribers = context.services.config.console.subscribers
    face = TurnsFace(context.turn_log, context.sign_ins, is_open=context.is_open, subscribers=subscribers)
    return Api(
        name="turns",
        routes=face.routes(),
        prefixes=("/v1/turns",),
        is_for_any_key=True,  # which turns it may see depends on two rights
        write_error=_write_openai,
        describe=describe_turns,
    )


def _build_memory(context: ApiContext) -> Api:
    return _memory_apis(context).build_memory()


def _build_me(context: ApiContext) -> Api:
    return _memory_apis(context).build_me()


def _memory_apis(context: ApiContext) -> MemoryApis:
    config = context.services.config
    return MemoryApis(config, context.memory, context.explanations, _write_openai, context.is_open)


def _write_openai(error: GatewayError) -> bytes:
    return openai_error_body(error.message, error.type, error.code, error.param)


def _write_anthropic(error: GatewayError) -> bytes:
    return orjson.dumps(anthropic_error(error.message, anthropic_error_type(error.status)))


_BUILDERS: Final[list[BuildApi]] = [
    _build_memos,
    _build_mcp,
    _build_anthropic,
    _build_memory,
    _build_me,
    _build_turns,
    _build_gateway,
    _build_console,
    _build_openai,
]
