import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.embedding.model_file import load_model
from gateway.embedding.tokenizer import NativeTokenizer, PackageTokenizer
from tests.fakes.native import PATHS

pytestmark = pytest.mark.skipif(not PATHS, reason="there is no compiled library")

_PACKAGE = PackageTokenizer()
_TEXTS = [
    "",
    " ",
    "\t\n  \u3000",
    "hello",
    "  two   spaces \t\n and more  ",
    "My sister moved to Graz in May and works in a bakery now.",
    "我婶婶的生日是在5月29号。",
    "嬸嬸 婶婶 𠮷野家",
    "😀 control \x00 and \u2028 breaks",
    "▁▁ a ▁ b ▁",
    "①②③ﬁ½ﾊﾟ ㍿ ﷺ e\u0301 \u0301",
    "ﷺ" * 200,
    "Привет, мир, שלום مرحبا สวัสดี 안녕하세요",
    "a b " * 400,
    "x" * 3000,
]


def native() -> NativeTokenizer:
    return NativeTokenizer(PATHS[0], load_model())


@pytest.mark.parametrize("text", _TEXTS, ids=lambda text: repr(text[:12]))
def test_ids_are_those_of_the_package(text: str) -> None:
    assert list(native().encode(text)) == list(_PACKAGE.encode(text))


@given(st.text(max_size=80) | st.text("ab ▁\u3000\u00a0ｱﾊﾟ婶\u0301\x00é", max_size=30))
@settings(max_examples=300, deadline=None)
def test_ids_of_any_text_are_those_of_the_package(text: str) -> None:
    assert list(native().encode(text)) == list(_PACKAGE.encode(text))


def test_half_a_character_is_an_error_as_in_the_package() -> None:
    for tokenizer in (native(), _PACKAGE):
        with pytest.raises(UnicodeEncodeError):
            tokenizer.encode("\ud800")
