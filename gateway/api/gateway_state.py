"""`/v1/gateway`: the configuration, keys, plugins and upstreams of this gateway, without secrets."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel

from gateway.api.describing import describe_operation
from gateway.config import Config, PluginConfig
from gateway.config.shown import shown_settings, shown_values
from gateway.identity import Keyring
from gateway.plugin_host import LoadedPlugin, PluginHost
from gateway.server.guard import principal_of
from gateway.upstream.forward import Forwarder

__all__ = ["GatewayFace", "describe_gateway"]


class GatewayFace:
    """HTTP handlers that show what the gateway consists of. A caller sees the keys of its own tenant only."""

    def __init__(self, config: Config, keyring: Keyring, plugins: PluginHost, forwarder: Forwarder) -> None:
        self._config = config
        self._keyring = keyring
        self._plugins = plugins
        self._forwarder = forwarder

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/gateway/config", self.config, allow_head=False),
            web.get("/v1/gateway/keys", self.keys, allow_head=False),
            web.get("/v1/gateway/plugins", self.plugins, allow_head=False),
            web.get("/v1/gateway/upstreams", self.upstreams, allow_head=False),
        ]

    async def config(self, request: web.Request) -> web.Response:
        """All keys of the configuration with their values and defaults."""
        tenant = principal_of(request).tenant
        return _list(map(asdict, shown_settings(self._config, tenant)))

    async def keys(self, request: web.Request) -> web.Response:
        """The keys of the caller's tenant, by name."""
        tenant = principal_of(request).tenant
        return _list(
            {"name": key.name, "tenant": key.tenant, "user": key.user, "rights": sorted(key.rights)}
            for key in self._keyring.principals
            if key.tenant == tenant
        )

    async def plugins(self, request: web.Request) -> web.Response:
        """The loaded plugins in their order, with their settings and the number of failures since the start."""
        enabled = [entry for entry in self._config.plugins if entry.enabled]
        return _list(map(_serialize_plugin, self._plugins.loaded, enabled))

    async def upstreams(self, request: web.Request) -> web.Response:
        """The upstreams, with the state of their circuit breakers and the number of failures since the start."""
        return _list(
            {
                "name": upstream.name,
                "kind": upstream.config.kind,
                "models": list(upstream.config.models),
                "is_open": self._forwarder.is_open(upstream),
                "failures": self._forwarder.failures(upstream),
            }
            for upstream in self._forwarder.upstreams
        )


def describe_gateway(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths for the OpenAPI document."""
    texts = {
        "config": "Show the configuration, without secrets",
        "keys": "List the keys of the tenant, without their values",
        "plugins": "List the plugins with their settings and failures",
        "upstreams": "List the upstreams with their circuit breakers and failures",
    }
    return {f"/v1/gateway/{name}": {"get": describe_operation("Gateway", text)} for name, text in texts.items()}


def _serialize_plugin(entry: LoadedPlugin, config: PluginConfig) -> dict[str, Any]:
    settings = getattr(entry.plugin, "config", None)  # a plugin may not keep it
    shown = shown_values(settings, config.config) if isinstance(settings, BaseModel) else {}
    return {"name": entry.name, "hooks": sorted(entry.hooks), "settings": shown, "failures": entry.failed_calls}


def _list(items: Iterable[dict[str, Any]]) -> web.Response:
    return web.Response(body=orjson.dumps({"object": "list", "data": list(items)}), content_type="application/json")
