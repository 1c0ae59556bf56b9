import pytest

from gateway.config import PriceConfig, UpstreamConfig
from gateway.usage.prices import Prices

UPSTREAMS = [
    UpstreamConfig(name="openai", base_url="https://api.openai.com/v1"),
    UpstreamConfig(name="anthropic", kind="anthropic", base_url="https://api.anthropic.com"),
    UpstreamConfig(name="own", base_url="http://127.0.0.1:8000/v1"),
]


def cost(prices: Prices, upstream: str, model: str) -> float | None:
    return prices.cost(upstream, model, prompt=1_000_000, cached=400_000, completion=100_000)


def test_what_is_configured_comes_first() -> None:
    prices = Prices(
        {"gpt-*": PriceConfig(prompt=1, cached=0.1, completion=2), "*": PriceConfig(prompt=3, completion=0)}, []
    )
    prices.load()
    assert cost(prices, "x", "gpt-5") == pytest.approx(0.6 + 0.04 + 0.2)
    assert cost(prices, "x", "else") == pytest.approx(3.0)


def test_the_price_list_knows_the_providers() -> None:
    prices = Prices({}, UPSTREAMS)
    assert cost(prices, "openai", "gpt-4o") is None, "not loaded yet"
    prices.load()
    assert cost(prices, "openai", "gpt-4o") == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10)
    assert cost(prices, "anthropic", "claude-sonnet-4-5") == pytest.approx(0.6 * 3 + 0.4 * 0.3 + 0.1 * 15, rel=1.1)


def test_a_model_of_a_server_of_ones_own_has_no_price() -> None:
    prices = Prices({}, UPSTREAMS)
    prices.load()
    for upstream, model in (("own", "gpt-4o"), ("openai", "no-such-model"), ("nobody", "gpt-4o")):
        for _ in range(2):
            assert cost(prices, upstream, model) is None
