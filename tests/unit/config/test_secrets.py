"""Keys as people paste them, and what no header can carry."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.config import UpstreamConfig, load
from gateway.config.secrets import clean_key
from gateway.errors import ConfigError
from gateway.upstream.detect import detect

UPSTREAM = "upstreams: [{name: a, base_url: 'http://x', api_key: '${KEY}'}]"


@pytest.mark.parametrize(
    "value", ["sk-1", "sk-1\n", "  sk-1\r\n", "Bearer sk-1", "bearer  sk-1\n", "\u00a0sk-1\u3000", "\ufeffsk-1\u200b"]
)
def test_what_was_copied_along_is_no_part_of_a_key(value: str) -> None:
    assert clean_key(value) == "sk-1"


@pytest.mark.parametrize("value", ["sk\n1", "sk-é", "sk-\u200b1", "sk-\x001", "密钥"])
def test_a_key_that_no_header_can_carry_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"U\+"):
        clean_key(value)


def test_a_key_of_the_environment_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text(UPSTREAM + "\nauth: {keys: [{key: '${OWN}'}]}")
    monkeypatch.setenv("KEY", "Bearer sk-up-stream\n")
    monkeypatch.setenv("OWN", "a-long-key-1\n")
    config = load(tmp_path / "c.yaml")
    upstream = config.upstreams[0]
    assert isinstance(upstream, UpstreamConfig)
    assert upstream.api_key == SecretStr("sk-up-stream")
    assert config.auth.keys[0].key == SecretStr("a-long-key-1")


@pytest.mark.parametrize(
    "text",
    [
        UPSTREAM,
        "upstreams: [{name: a, base_url: 'http://x', headers: {x-a: '${KEY}'}}]",
        "auth: {keys: [{key: '${KEY}'}]}",
    ],
)
def test_what_no_header_can_carry_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    monkeypatch.setenv("KEY", "sk-one\nsk-two-secret")
    with pytest.raises(ConfigError, match=r"U\+000A") as caught:
        load(tmp_path / "c.yaml")
    assert "secret" not in str(caught.value)


async def test_a_bad_key_of_the_environment_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-é-secret")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        await detect(None, 0)  # type: ignore[arg-type]  # nothing is asked
    assert "secret" not in str(caught.value)
