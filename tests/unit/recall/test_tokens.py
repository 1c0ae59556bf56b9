import hashlib
import socket
from pathlib import Path

import pytest

from gateway.recall.tokens import DEFAULT_ENCODING, Tokenizer, encoding_of


def test_loading_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the tokenizer asked the network")

    import tiktoken.registry

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    tokenizer = Tokenizer(tmp_path)
    tokenizer.load()
    assert tokenizer.count("hello world") == 2
    assert tokenizer.count("hello world", "cl100k_base") == 2
    names = {path.name for path in tmp_path.iterdir()}
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    assert hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest() in names


def test_before_loading_a_count_is_an_upper_bound(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tmp_path)
    assert not tokenizer.is_loaded
    assert tokenizer.count("猫 cat") == len("猫 cat".encode())


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("llama3:8b", DEFAULT_ENCODING),
        ("davinci", DEFAULT_ENCODING),
    ],
)
def test_models_have_an_encoding_that_is_here(model: str, encoding: str) -> None:
    assert encoding_of(model) == encoding


def test_special_tokens_in_a_text_are_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    tokenizer = Tokenizer(tmp_path)
    tokenizer.load()
    assert tokenizer.count("<|endoftext|>") > 1
