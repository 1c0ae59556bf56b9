"""The model of a form is read without holding more of it than stands before."""

import time
from collections.abc import AsyncIterator

import pytest

from gateway.server.forms import read_form

TYPE = "multipart/form-data; boundary=xYz"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--xYz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--xYz--\r\n"


async def pieces(raw: bytes, size: int) -> AsyncIterator[bytes]:
    for begin in range(0, len(raw), size):
        yield raw[begin : begin + size]


AUDIO = part("file", b"\x00--xYz\x01" * 50 + b'name="model"', '; filename="a.wav"\r\nContent-Type: audio/wav')


@pytest.mark.parametrize("size", [1, 3, 7, 64, 100_000])
@pytest.mark.parametrize("parts", [[AUDIO, part("model", b"whisper-1")], [part("model", b"whisper-1"), AUDIO]])
async def test_the_model_is_read_and_may_be_renamed(size: int, parts: list[bytes]) -> None:
    raw = body(*parts, part("language", b"en"))
    counted: list[int] = []
    form = await read_form(TYPE, pieces(raw, size), counted.append)
    assert form.model == "whisper-1"
    renamed = b"".join([piece async for piece in form.pieces("longer-name")])
    assert renamed == raw.replace(b"whisper-1", b"longer-name")
    assert len(renamed) == len(raw) + form.growth("longer-name")


@pytest.mark.parametrize("size", [5, 100_000])
async def test_a_form_without_a_model_passes_whole(size: int) -> None:
    raw = body(AUDIO)
    form = await read_form(TYPE, pieces(raw, size), lambda _: None)
    assert form.model is None
    assert b"".join([piece async for piece in form.pieces()]) == raw


async def test_a_form_without_a_boundary_passes() -> None:
    form = await read_form("multipart/form-data", pieces(b"abc", 1), lambda _: None)
    assert form.model is None
    assert b"".join([piece async for piece in form.pieces()]) == b"abc"


async def test_a_long_form_takes_time_in_proportion() -> None:
    raw = body(part("file", b"\x00" * 20_000_000), part("model", b"m"))
    began = time.process_time()
    form = await read_form(TYPE, pieces(raw, 16_384), lambda _: None)
    assert form.model == "m"
    assert time.process_time() - began < 2
