import io
import json
import zipfile

import pytest
from docx import Document
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from gateway.remember.documents import SUFFIXES, UnreadableFile, read_pieces, suffix_of


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page."""
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = content
    packed = io.BytesIO()
    writer.write(packed)
    return packed.getvalue()


def docx() -> bytes:
    document = Document()
    document.add_heading("旅行", 1)
    document.add_paragraph("七月去格拉茨。")
    packed = io.BytesIO()
    document.save(packed)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"One.\r\n\r\nTwo.", [("One.\nTwo.", "", 0)]),
        ("a.txt", "你好，世界".encode("gb18030"), [("你好，世界", "", 0)]),
        ("a.txt", "中文".encode("utf-16"), [("中文", "", 0)]),
        (
            "a.md",
            b"# A\n\nx\n\n## B\n\ny\n\n```\n# no heading\n```\n",
            [("A\nx", "A", 0), ("A > B\ny\n```\n# no heading\n```", "A > B", 0)],
        ),
        (
            "a.html",
            b"<title>T</title><script>bad()</script><h1>H</h1><p>One <b>two</b></p><ul><li>three</li></ul>",
            [("T", "", 0), ("H\nOne two\nthree", "H", 0)],
        ),
        ("a.json", json.dumps({"a": {"b": [1, "x"]}, "c": None}).encode(), [("a.b\n1: 1\n2: x", "a.b", 0)]),
        ("a.xml", b'<r><i n="1">text</i>tail</r>', [("r\nn: 1, i: text\ntail", "r", 0)]),
        ("a.pdf", pdf("First page", "Second page"), [("First page", "", 1), ("Second page", "", 2)]),
        ("a.docx", docx(), [("旅行\n七月去格拉茨。", "旅行", 0)]),
    ],
)
def test_a_file_is_read_with_its_places(name: str, content: bytes, expected: list[tuple[str, str, int]]) -> None:
    assert [(one.text, one.heading, one.page) for one in read_pieces(name, content)] == expected


def test_entities_of_a_file_lead_nowhere() -> None:
    bomb = b'<!DOCTYPE r [<!ENTITY a "xxxxxxxxxx"><!ENTITY f SYSTEM "file:///etc/passwd">]><r>text &a; &f;</r>'
    texts = " ".join(one.text for one in read_pieces("a.xml", bomb))
    assert "root:" not in texts
    assert "xxxxxxxxxx" not in texts


def test_a_packed_bomb_is_refused() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(210 * 2**20))
    with pytest.raises(UnreadableFile, match="too large"):
        read_pieces("a.docx", packed.getvalue())


def test_a_deep_json_is_refused() -> None:
    with pytest.raises(UnreadableFile):
        read_pieces("a.json", b"[" * 200 + b"]" * 200)


def test_long_paragraphs_become_pieces_of_a_bounded_size() -> None:
    text = "This is a sentence of a long chapter. " * 200
    found = read_pieces("a.md", f"# Chapter\n\n{text}".encode())
    assert len(found) > 5
    assert all(len(one.text) <= 740 and one.heading == "Chapter" for one in found)


@given(st.sampled_from(sorted(SUFFIXES)), st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(suffix: str, content: bytes) -> None:
    try:
        found = read_pieces(f"a.{suffix}", content)
    except UnreadableFile:
        return
    assert all(one.text.strip() for one in found)


def test_a_suffix_is_what_follows_the_last_dot() -> None:
    assert (suffix_of("a.b.PDF"), suffix_of("none")) == ("pdf", "")
