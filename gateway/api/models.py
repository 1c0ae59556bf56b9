"""The list of models of all upstreams, plus the configured aliases; cached for a minute."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.concurrency.reading import TooLong, read_bounded
from gateway.config import ModelsConfig
from gateway.errors import GatewayError, NotFound, UpstreamFailed
from gateway.upstream.client import Upstream
from gateway.upstream.forward import Forwarder

__all__ = ["ModelList"]

_FRESH = 60.0
_TIMEOUT = 5.0
_MAX_LISTS = 1000  # lists: one for each upstream, and for each key of a client where an upstream has none
_MAX_LIST_BYTES = 16 * 2**20


class ModelList:
    def __init__(self, forwarder: Forwarder, config: ModelsConfig) -> None:
        self._forwarder = forwarder
        self._config = config
        self._lists: dict[tuple[str, str], tuple[float, list[dict[str, Any]]]] = {}

    async def cards(self, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return one card per model, in OpenAI's format."""
        lists = await asyncio.gather(*(self._load_cards(upstream, headers) for upstream in self._forwarder.upstreams))
        names = [{"id": alias, "owned_by": "memory-gateway"} for alias in ("default", *self._config.aliases)]
        cards = [card for cards in lists for card in cards] + names
        return list({card["id"]: {"object": "model", "created": 0, **card} for card in reversed(cards)}.values())[::-1]

    async def card(self, model: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the card of a model. Raises NotFound."""
        for card in await self.cards(headers):
            if card.get("id") == model:
                return card
        raise NotFound(f"no upstream lists the model {model[:100]!r}", code="model_not_found", param="model")

    async def _load_cards(self, upstream: Upstream, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return an upstream's models, from the cache while the upstream does not answer."""
        credentials = "" if upstream.config.api_key else headers.get("authorization", "") + headers.get("x-api-key", "")
        key = (upstream.name, hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).hexdigest())
        fetched_at, cards = self._lists.get(key, (0.0, _configured_cards(upstream)))
        if fetched_at and time.monotonic() - fetched_at < _FRESH:
            return cards
        try:
            async with asyncio.timeout(_TIMEOUT):
                cards = await self._fetch_cards(upstream, headers)
        except (GatewayError, TimeoutError, TooLong, ValueError, KeyError, TypeError):
            return cards
        if len(self._lists) > _MAX_LISTS:
            self._lists.clear()
        self._lists[key] = (time.monotonic(), cards)
        return cards

    async def _fetch_cards(self, upstream: Upstream, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        credential_headers = ("authorization", "x-gateway-key", "x-api-key")
        credentials = {name: value for name, value in headers.items() if name.lower() in credential_headers}
        incoming = await self._forwarder.pass_through(
            upstream, method="GET", path="/models", query_string="", client_headers=credentials, body=None
        )
        try:
            if incoming.status != 200:
                raise UpstreamFailed("no list of models")
            payload = orjson.loads(await read_bounded(incoming.chunks(), _MAX_LIST_BYTES))
            cards = payload if isinstance(payload, list) else payload["data"]  # some servers send the bare list
            return [card for card in cards if isinstance(card, dict) and isinstance(card["id"], str)]
        finally:
            incoming.close()


def _configured_cards(upstream: Upstream) -> list[dict[str, Any]]:
    names = [name for name in upstream.config.models if not set(name) & set("*?[")]
    return [{"id": name, "owned_by": upstream.name} for name in names]
