import asyncio

import pytest

from gateway.workers.frames import LENGTH_BYTES, decode_frame, encode_frame, read_frame

MESSAGES = [("rows", [1, 2]), ("stop", None), ("text", "ü" * 70_000)]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_messages_arrive_whole_however_their_bytes_are_divided(size: int) -> None:
    stream = b"".join(map(encode_frame, MESSAGES))
    reader = asyncio.StreamReader()
    for start in range(0, len(stream), size):
        reader.feed_data(stream[start : start + size])
    assert [await read_frame(reader) for _ in MESSAGES] == MESSAGES


@pytest.mark.parametrize("length", [0, 2, LENGTH_BYTES, 9])
async def test_the_end_of_a_connection_within_a_frame_is_an_end(length: int) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(encode_frame("message")[:length])
    reader.feed_eof()
    with pytest.raises(EOFError):
        await read_frame(reader)


async def test_a_length_that_no_message_has_ends_the_connection() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"\xff" * LENGTH_BYTES)
    with pytest.raises(EOFError, match="too long"):
        await read_frame(reader)


def test_a_frame_is_its_length_and_the_message() -> None:
    frame = encode_frame(("kind", 1))
    assert int.from_bytes(frame[:LENGTH_BYTES]) == len(frame) - LENGTH_BYTES
    assert decode_frame(frame[LENGTH_BYTES:]) == ("kind", 1)
