import gzip
import zlib

import pytest

from gateway.upstream.decoder import decoder_of
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
    decoder = decoder_of({"content-encoding": encoding})
    assert b"".join(decoder.feed(body[i : i + size]) for i in range(0, len(body), size)) == STREAM


def test_an_encoding_that_is_not_supported_gives_no_bytes() -> None:
    decoder = decoder_of({"content-encoding": "br"})
    assert (decoder.can_decode, decoder.feed(b"\x01\x02")) == (False, b"")


def test_a_damaged_encoding_is_an_error() -> None:
    with pytest.raises(ValueError, match="damaged"):
        decoder_of({"content-encoding": "gzip"}).feed(b"no gzip at all")
    assert decoder_of({"content-encoding": "gzip"}).whole(b"nonsense") is None
    assert decoder_of({"content-encoding": "br"}).whole(b"x") is None


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
