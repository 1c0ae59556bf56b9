import hashlib
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.prompt.tokens import DEFAULT_ENCODING, Tokenizer, encoding_of, load_encoding, segments


def test_loading_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the tokenizer asked the network")

    import tiktoken.registry

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    load_encoding.cache_clear()
    tokenizer = Tokenizer(tmp_path)
    tokenizer.load()
    assert tokenizer.count("hello world") == 2
    assert tokenizer.count("hello world", "cl100k_base") == 2
    names = {path.name for path in tmp_path.iterdir()}
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    assert hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest() in names


def test_the_vocabulary_is_in_ram_once_and_others_get_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiktoken.registry

    built: list[tiktoken.Encoding] = []
    get_encoding = tiktoken.get_encoding

    def note(name: str) -> tiktoken.Encoding:
        built.append(get_encoding(name))
        return built[-1]

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr(tiktoken, "get_encoding", note)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    load_encoding.cache_clear()
    tokenizer, later = Tokenizer(tmp_path), Tokenizer(tmp_path)
    tokenizer.load()
    later.load()
    assert [vars(encoding)["_mergeable_ranks"] for encoding in built] == [{}]
    others = get_encoding(DEFAULT_ENCODING)
    load_encoding.cache_clear()
    later = Tokenizer(tmp_path)
    later.load()
    assert built[1] is others
    assert vars(others)["_mergeable_ranks"][b"hello"] == others.encode_ordinary("hello")[0], "it is in use elsewhere"
    for text in ("hello world", "我的生日是五月八日。", "zażółć gęślą jaźń", " \n\t  x", "<|endoftext|>", "\U0001f600"):
        assert tokenizer.count(text) == later.count(text) == len(others.encode_ordinary(text))


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
    load_encoding.cache_clear()
    tokenizer = Tokenizer(tmp_path)
    tokenizer.load()
    assert tokenizer.count("<|endoftext|>") > 1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = Tokenizer(tmp_path_factory.mktemp("tokenizers"))
    made.load()
    return made


@pytest.mark.parametrize("piece", [" ", "\n", "a", "A", "猫", "1", " \n", "\u200d", "e\u0301", "'s", "\u3000", "\x00"])
@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
def test_no_text_makes_counting_fail(tokenizer: Tokenizer, piece: str, encoding: str) -> None:
    text = "q" + piece * (1_000_000 // len(piece)) + "?"
    assert 0 < tokenizer.count(text, encoding) <= len(text.encode())


def test_a_text_that_the_engine_cannot_count_has_an_upper_bound(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        pass

    class Engine:
        def encode_ordinary(self, text: str) -> list[int]:
            raise PanicException

    monkeypatch.setattr(tokenizer, "_encoding", lambda name: Engine())
    assert tokenizer.count("猫 was never counted") == len("猫 was never counted".encode())


@given(
    st.lists(st.sampled_from(["word", " ", "  ", "\n", "猫", "\u3000", "x" * 500, "1."]), max_size=400).map(" ".join)
)
def test_segments_are_the_text_and_count_as_it_does(text: str) -> None:
    long = text * 20
    assert "".join(segments(long)) == long
    assert all(len(segment) <= 16_384 for segment in segments(long))


def test_prose_in_segments_has_the_tokens_of_the_whole(tokenizer: Tokenizer) -> None:
    import tiktoken

    prose = "My cat is called Miso, and she was born in May 2019; we live near the harbour.\n" * 1500
    whole = len(tiktoken.get_encoding(DEFAULT_ENCODING).encode_ordinary(prose))
    assert abs(tokenizer.count(prose) - whole) <= 10
