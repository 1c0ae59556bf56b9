from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.config import UpstreamConfig
from gateway.config.upstream_kinds import UPSTREAM_KINDS, UpstreamRules
from gateway.errors import ConfigError
from gateway.upstream.kinds import UpstreamParts, build_upstream, register
from tests.fakes.mirror import MIRROR


@pytest.fixture
async def parts() -> UpstreamParts:
    async with aiohttp.ClientSession() as session:
        return UpstreamParts(session=session, folder=Path(), count=len, on_stop=lambda _: None)


@pytest.fixture
def mirror() -> Iterator[None]:
    register(MIRROR)
    yield
    UPSTREAM_KINDS.unregister("mirror")


@pytest.mark.usefixtures("mirror")
async def test_a_registered_kind_is_configured_by_its_rules_and_built(parts: UpstreamParts) -> None:
    config = UpstreamConfig(name="mine", kind="mirror")
    assert (config.rules.key_header, config.rules.is_language_model) == ("api-key", True)
    assert build_upstream(config, parts).name == "mine"
    with pytest.raises(ValueError, match="no other kind has one"):
        UpstreamConfig(name="mine", kind="mirror", provider="x")


async def test_every_built_in_kind_but_one_that_needs_an_extra_is_built(parts: UpstreamParts) -> None:
    for kind in ("openai", "anthropic", "offline"):
        config = UpstreamConfig(name=kind, kind=kind, base_url="http://127.0.0.1:1")
        assert build_upstream(config, parts).config is config


async def test_a_kind_without_a_builder_cannot_be_built(parts: UpstreamParts) -> None:
    UPSTREAM_KINDS.register(UpstreamRules(name="half", url="unused"))
    try:
        with pytest.raises(ConfigError, match="mine: the kind 'half' is no UpstreamKind"):
            build_upstream(UpstreamConfig(name="mine", kind="half"), parts)
    finally:
        UPSTREAM_KINDS.unregister("half")
