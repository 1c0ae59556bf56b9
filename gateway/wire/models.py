"""The list of models: what all upstreams have, with our own names for some, a minute old at most."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.config import ModelsConfig
from gateway.errors import GatewayError, NotFound, UpstreamFailed
from gateway.upstream.client import Upstream
from gateway.upstream.forward import Forwarder

__all__ = ["ModelList"]

_FRESH = 60.0
_TIMEOUT = 5.0
_KEPT = 1000  # lists: one for each upstream, and for each key of a client where an upstream has none


class ModelList:
    def __init__(self, forwarder: Forwarder, config: ModelsConfig) -> None:
        self._forwarder = forwarder
        self._config = config
        self._lists: dict[tuple[str, str], tuple[float, list[dict[str, Any]]]] = {}

    async def cards(self, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """One card a model, as OpenAI writes them."""
        lists = await asyncio.gather(*(self._list(upstream, headers) for upstream in self._forwarder.upstreams))
        names = [{"id": alias, "owned_by": "memory-gateway"} for alias in ("default", *self._config.aliases)]
        cards = [card for cards in lists for card in cards] + names
        return list({card["id"]: {"object": "model", "created": 0, **card} for card in reversed(cards)}.values())[::-1]

    async def card(self, model: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """Raises NotFound."""
        for card in await self.cards(headers):
            if card.get("id") == model:
                return card
        raise NotFound(f"no upstream lists the model {model[:100]!r}", code="model_not_found", param="model")

    async def _list(self, upstream: Upstream, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """An upstream's models, the last ones known while it does not answer."""
        whose = "" if upstream.config.api_key else headers.get("authorization", "") + headers.get("x-api-key", "")
        key = (upstream.name, hashlib.sha256(whose.encode("utf-8", "surrogateescape")).hexdigest())
        fetched, cards = self._lists.get(key, (0.0, _configured(upstream)))
        if fetched and time.monotonic() - fetched < _FRESH:
            return cards
        try:
            async with asyncio.timeout(_TIMEOUT):
                cards = await self._fetched(upstream, headers)
        except (GatewayError, TimeoutError, ValueError, KeyError, TypeError):
            return cards
        if len(self._lists) > _KEPT:
            self._lists.clear()
        self._lists[key] = (time.monotonic(), cards)
        return cards

    async def _fetched(self, upstream: Upstream, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = ("authorization", "x-gateway-key", "x-api-key")
        plain = {name: value for name, value in headers.items() if name.lower() in wanted}
        incoming = await self._forwarder.pass_through(
            upstream, method="GET", path="/models", query_string="", client_headers=plain, body=None
        )
        try:
            if incoming.status != 200:
                raise UpstreamFailed("no list of models")
            listed = orjson.loads(b"".join([chunk async for chunk in incoming.chunks()]))
            cards = listed if isinstance(listed, list) else listed["data"]  # some servers send the bare list
            return [card for card in cards if isinstance(card, dict) and isinstance(card["id"], str)]
        finally:
            incoming.close()


def _configured(upstream: Upstream) -> list[dict[str, Any]]:
    names = [name for name in upstream.config.models if not set(name) & set("*?[")]
    return [{"id": name, "owned_by": upstream.name} for name in names]
