"""What is no language is replaced by a label, in time proportional to the text; everything else stays."""

import base64
import random
import time

import pytest

from gateway.text.media import without_media

_BYTES = random.Random(1).randbytes(6000)
_BASE64 = base64.b64encode(_BYTES).decode()
_LINES = "\n".join(_BASE64[i : i + 76] for i in range(0, len(_BASE64), 76))
_HEX = _BYTES[:320].hex()
_XXD = "\n".join(
    f"{i:08x}: " + " ".join(_HEX[2 * i : 2 * i + 32][j : j + 4] for j in range(0, 32, 4)) + "  ..a.B.."
    for i in range(0, 320, 16)
)
_SCRIPT = (
    '!function(e,t){"use strict";"object"==typeof module?module.exports=e.document?t(e,!0):t(e):t(e)}(this,function(a){'
    * 5
)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Look: ![i](data:image/png;base64,{_BASE64}) nice", "Look: ![i]([image]) nice"),
        (f"<img src='data:image/svg+xml;charset=utf-8;base64,{_BASE64}'>", "<img src='[image]'>"),
        (f'<audio src="data:audio/mpeg;base64,{_BASE64}">', '<audio src="[audio]">'),
        (f"data:application/pdf;base64,{_BASE64}", "[file]"),
        ("see data:text/html,%3Ch1%3EHi%3C%2Fh1%3E there", "see [file] there"),
        (f"DATA:IMAGE/PNG;BASE64,{_BASE64}", "[image]"),
        (f"before\n{_LINES}\nafter, my cat is Miso", "before\n[data]\nafter, my cat is Miso"),
        (f"key {_HEX} end", "key [data] end"),
        ("bytes " + " ".join(_HEX[i : i + 2] for i in range(0, 200, 2)) + "\nend", "bytes [data]\nend"),
        (f"dump:\n{_XXD}\nend", "dump:\n[data]\nend"),
        (f"What does this do?\n{_SCRIPT}\nThanks", "What does this do?\n[data]\nThanks"),
        ("x" * 300, "[data]"),
    ],
)
def test_encoded_bytes_and_generated_code_are_replaced(text: str, left: str) -> None:
    assert without_media(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "My cat is Miso.",
        "my data: foo, bar; and the data:set",
        "我喜欢猫" * 200,
        "ฉันชอบแมว" * 100,
        "東京に住んでいます" * 60,
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " * 3,
        "numbers " + " ".join(str(37 * i) for i in range(200)),
        "def f(x):\n    return x + 1\n" * 40,
        "see https://example.org/a/long/path?with=a&query=string&and=more for it " * 4,
        "the commit is 3f2a9c1d7b6e5f4a3c2b1a0f9e8d7c6b5a4f3e2d, I think",
    ],
)
def test_languages_code_and_numbers_stay(text: str) -> None:
    assert without_media(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        ("A" * 39 + "\n") * 30_000,
        ("A" * 60 + " ") * 20_000,
        "00 " * 400_000,
        "data:" * 200_000,
        "data:image/png;" * 80_000,
        "data:a/b;c=" * 90_000,
        "data:a/b;" + "c=d;" * 250_000,
        "00000000: 00 00 00 00 \n" * 50_000,
        "0a:" * 300_000,
        " " * 1_000_000,
    ],
)
def test_the_time_is_proportional_to_the_text(text: str) -> None:
    began = time.process_time()
    without_media(text)
    assert time.process_time() - began < 2
