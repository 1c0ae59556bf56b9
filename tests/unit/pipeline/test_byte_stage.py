import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.chat import ChatFormat
from gateway.pipeline.byte_stage import ByteStage, DecodedObserver, IdObserver, SentBytes
from gateway.upstream.decoder import decoder_of
from gateway.upstream.scrub import Scrubber
from tests.fakes.upstream import DONE, chunk

STREAM = chunk({"content": "Hel"}) + chunk({"content": "lo"}) + chunk({}, "stop") + DONE


class Upper:
    """A filter that withholds the last byte."""

    def __init__(self) -> None:
        self._last = b""

    def feed(self, chunk: bytes) -> bytes:
        text = self._last + chunk.upper()
        self._last = text[-1:]
        return text[:-1]

    def end(self) -> bytes:
        return self._last


@given(st.lists(st.binary(max_size=4).map(lambda piece: piece.replace(b"\xff", b"k-1")), max_size=8))
def test_filters_run_in_order_and_observers_see_what_leaves_the_last(pieces: list[bytes]) -> None:
    sent = SentBytes(10_000)
    stage = ByteStage([Scrubber([b"k-1"]), Upper()], [sent])
    passed = b"".join(map(stage.feed, pieces)) + stage.end()
    assert passed == b"".join(pieces).replace(b"k-1", b"[key]").upper()
    assert (sent.body or b"") == passed


def test_an_empty_stage_changes_nothing() -> None:
    assert (ByteStage().feed(b"x"), ByteStage().end()) == (b"x", b"")


def test_bytes_over_the_limit_are_not_kept() -> None:
    sent, bodies = SentBytes(3), []
    for piece in (b"", b"abc", b"d", b"e"):
        sent.feed(piece)
        bodies.append(sent.body)
    assert bodies == [None, b"abc", None, None]


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_compressed_stream_is_read_decoded(size: int) -> None:
    reader, body = ChatFormat().reader(), gzip.compress(STREAM)
    stage = ByteStage(observers=[DecodedObserver(reader, decoder_of({"content-encoding": "gzip"}))])
    for begin in range(0, len(body), size):
        assert stage.feed(body[begin : begin + size]) == body[begin : begin + size]
    stage.end()
    assert (reader.is_complete, reader.answer().text) == (True, "Hello")


def test_an_encoding_that_is_not_supported_is_not_read() -> None:
    reader = ChatFormat().reader()
    observer = DecodedObserver(reader, decoder_of({"content-encoding": "br"}))
    observer.feed(STREAM)
    observer.end()
    assert (reader.has_events, reader.is_complete) == (False, False)


def test_the_id_is_reported_once() -> None:
    reader, ids = ChatFormat().reader(), list[str]()
    stage = ByteStage(observers=[reader, IdObserver(reader, ids.append)])
    for begin in range(0, len(STREAM), 7):
        stage.feed(STREAM[begin : begin + 7])
    stage.end()
    assert len(ids) == 1
