"""Prices of tokens in US dollars: from the configuration, else from `genai-prices` (the extra `prices`).

A model of an upstream that is in no price list (such as a local server) has an unknown price, which differs from zero.
"""

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from gateway.config import PriceConfig, UpstreamConfig

__all__ = ["Prices"]

_log = logging.getLogger("gateway.usage")
_MILLION: Final = 1_000_000
_MAX_UNKNOWN = 10_000  # maximum of cached pairs of upstream and model without a price


class Prices:
    """Price lookup. `configured`: prices by pattern of model name; the first match counts."""

    def __init__(self, configured: Mapping[str, PriceConfig], upstreams: Sequence[UpstreamConfig]) -> None:
        self._configured = configured
        self._providers = {upstream.name: _provider(upstream) for upstream in upstreams}
        self._unknown: set[tuple[str, str]] = set()
        self._list: Any = None

    def load(self) -> None:
        """Load the price list, if installed. Takes a third of a second: call it in a thread."""
        try:
            import genai_prices  # noqa: PLC0415 — an extra
        except ImportError:
            return
        self._list = genai_prices

    def cost(
        self, upstream: str, model: str, *, prompt: int, cached: int, completion: int, written: int = 0
    ) -> float | None:
        """The cost of an answer in US dollars; None if no price is known. `cached` (read from a cache) and `written`
        (into one) are parts of `prompt`."""
        for pattern, price in self._configured.items():
            if fnmatchcase(model, pattern):
                from_cache = price.prompt if price.cached is None else price.cached
                into_cache = price.prompt if price.written is None else price.written
                plain = (prompt - cached - written) * price.prompt + completion * price.completion
                return (plain + cached * from_cache + written * into_cache) / _MILLION
        provider = self._providers.get(upstream)
        if self._list is None or not provider or (upstream, model) in self._unknown:
            return None
        usage = self._list.Usage(
            input_tokens=prompt, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=completion
        )
        try:
            return float(self._list.calc_price(usage, model, **provider).total_price)
        except (LookupError, ValueError) as error:
            _log.info("no_price", extra={"upstream": upstream, "model": model[:100], "cause": str(error)[:200]})
            if len(self._unknown) < _MAX_UNKNOWN:
                self._unknown.add((upstream, model))
            return None


def _provider(upstream: UpstreamConfig) -> dict[str, str]:
    """The provider arguments of the price list for an upstream: its name, or its address."""
    if upstream.provider is not None:
        return {"provider_id": upstream.provider}
    return {"provider_api_url": upstream.base_url} if upstream.base_url else {}
