from collections.abc import AsyncIterator

import pytest

from gateway.concurrency.reading import TooLong, read_bounded


async def test_a_stream_is_read_up_to_its_limit_and_no_further() -> None:
    sent: list[int] = []

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            sent.append(number)
            yield b"four"

    assert await read_bounded(chunks(3), 12) == b"four" * 3
    sent.clear()
    with pytest.raises(TooLong):
        await read_bounded(chunks(9), 11)
    assert sent == [0, 1, 2]
