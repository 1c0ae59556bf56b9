"""Tests of the lines of several processes, with real pipes."""

import asyncio
import os
import threading
from collections import deque
from contextlib import closing

from gateway.workers.lines import LineOutput


class Pipe:
    def __init__(self) -> None:
        self.source, self.end = os.pipe()

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.end, data) :]


class Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.pipe = Pipe()
        self.data = bytearray()
        self.start()

    def run(self) -> None:
        while part := os.read(self.pipe.source, 65_536):
            self.data += part

    def close(self) -> None:
        os.close(self.pipe.end)
        self.join()
        os.close(self.pipe.source)


async def test_lines_of_processes_do_not_mix() -> None:
    with closing(Reader()) as reader:
        output = LineOutput(reader.pipe.end)
        pipes = [Pipe() for _ in range(3)]
        ends = [output.pass_on(pipe.source, deque(), is_quiet=False) for pipe in pipes]

        def write(pipe: Pipe, letter: bytes) -> None:
            for _ in range(50):
                pipe.write(letter * 3_000)  # a line in several writes, and longer than a pipe takes at once
                pipe.write(letter * 3_000 + b"\n")

        await asyncio.gather(
            *(asyncio.to_thread(write, pipe, letter) for pipe, letter in zip(pipes, (b"a", b"b", b"c"), strict=True))
        )
        await asyncio.to_thread(output.write, "own\n")
        for pipe in pipes:
            os.close(pipe.end)
        await asyncio.wait(ends, timeout=10)
    lines = bytes(reader.data).splitlines()
    assert sorted(lines) == sorted([letter * 6_000 for letter in (b"a", b"b", b"c") for _ in range(50)] + [b"own"])


async def test_the_last_lines_are_kept_and_those_of_a_quiet_process_go_nowhere_else() -> None:
    with closing(Reader()) as reader:
        output, pipe, lines = LineOutput(reader.pipe.end), Pipe(), deque[str](maxlen=2)
        end = output.pass_on(pipe.source, lines, is_quiet=True)
        pipe.write(b"one\ntwo\nthree\nfour without an end")
        os.close(pipe.end)
        await asyncio.wait([end], timeout=10)
        assert list(lines) == ["three", "four without an end"]
    assert reader.data == b""


async def test_a_line_without_an_end_is_passed_on_and_a_closed_output_stops_no_process() -> None:
    with closing(Reader()) as reader:
        output, pipe = LineOutput(reader.pipe.end), Pipe()
        end = output.pass_on(pipe.source, deque(), is_quiet=False)
        await asyncio.to_thread(pipe.write, b"x" * 3_000_000)
        os.close(pipe.end)
        await asyncio.wait([end], timeout=10)
    assert reader.data.count(b"x") == 3_000_000
    source, closed = os.pipe()
    os.close(source)
    output, pipe = LineOutput(closed), Pipe()
    end = output.pass_on(pipe.source, deque(), is_quiet=False)
    await asyncio.to_thread(pipe.write, b"line\n" * 100_000)
    os.close(pipe.end)
    assert await asyncio.wait([end], timeout=10) == ({end}, set())
    os.close(closed)
