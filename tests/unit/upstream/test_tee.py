import gzip
import zlib

import orjson
import pytest

from gateway.formats.chat import ChatDialect
from gateway.upstream.tee import Tee, decoder_of, wrap_error
from tests.fakes.upstream import DONE, chunk

STREAM = chunk({"content": "Hel"}) + chunk({"content": "lo"}) + chunk({}, "stop") + DONE


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", STREAM),
        ("gzip", gzip.compress(STREAM)),
        ("gzip", gzip.compress(STREAM[:40]) + gzip.compress(STREAM[40:90]) + gzip.compress(STREAM[90:])),
        ("gzip", gzip.compress(STREAM[:40]) + bytes(7) + gzip.compress(STREAM[40:]) + bytes(9)),
        ("deflate", zlib.compress(STREAM)),
        ("deflate", zlib.compress(STREAM)[2:-4]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5, 10_000])
def test_it_reads_along_whatever_the_encoding_and_the_cuts(encoding: str, body: bytes, size: int) -> None:
    tee = Tee(ChatDialect().reader(), decoder_of({"content-encoding": encoding}))
    for i in range(0, len(body), size):
        tee.feed(body[i : i + size])
    tee.end()
    assert tee.is_complete
    assert tee.answer().text == "Hello"


def test_an_encoding_that_cannot_be_read_is_taken_for_whole_at_its_end() -> None:
    tee = Tee(ChatDialect().reader(), decoder_of({"content-encoding": "br"}))
    tee.feed(b"\x01\x02")
    before = tee.is_complete
    tee.end()
    assert (before, tee.is_complete) == (False, True)
    assert tee.answer().text is None


def test_a_damaged_encoding_is_an_error() -> None:
    tee = Tee(ChatDialect().reader(), decoder_of({"content-encoding": "gzip"}))
    with pytest.raises(ValueError, match="damaged"):
        tee.feed(b"no gzip at all")
    assert decoder_of({"content-encoding": "gzip"}).whole(b"nonsense") is None
    assert decoder_of({"content-encoding": "br"}).whole(b"x") is None


def test_errors_that_are_json_stay_and_others_are_wrapped() -> None:
    assert wrap_error(400, b'{"error": 1}', "up") is None
    for body in (b"<html>busy</html>", b"", b"[1]", b"\xff"):
        wrapped = wrap_error(502, body, "up")
        assert wrapped is not None
        assert orjson.loads(wrapped)["error"]["type"] == "upstream_error"


def test_a_damaged_raw_stream_is_an_error() -> None:
    for body in (b"no deflate at all", zlib.compress(STREAM)[:20] + b"xxxxxxxxxxxxxxxxxxxxxxxxx"):
        decoder = decoder_of({"content-encoding": "deflate"})
        decoder.feed(body[:1])
        with pytest.raises(ValueError, match="damaged"):
            decoder.feed(body[1:])


def test_several_members_together_are_bounded() -> None:
    bomb = gzip.compress(bytes(40 * 2**20))
    with pytest.raises(ValueError, match="too large"):
        decoder_of({"content-encoding": "gzip"}).feed(bomb + bomb)
