"""Splits files into chunks of text with their page or heading. Pure: bytes in, chunks out.

Files are parsed by pypdf, python-docx and lxml, without network access and protected from entity expansion and
decompression bombs. A file that cannot be read raises `UnreadableFile` with a sentence for its owner.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.remember.chunks import PASSAGE, pieces, weight

__all__ = ["SUFFIXES", "Piece", "UnreadableFile", "read_pieces", "suffix_of"]

_MAX_PAGES = 500
_MAX_TEXT = 20_000_000  # characters per file
_MAX_UNPACKED = 200 * 2**20
_HEADING_CHARACTERS = 200  # of the heading path that precedes each chunk
_FENCE = re.compile(r"^\s*(```|~~~)")
_PATH_DEPTH = 32
_BLOCKS = "p,li,pre,blockquote,td,th,dt,dd,h1,h2,h3,h4,h5,h6,caption,figcaption,title"


class UnreadableFile(Exception):
    """A file cannot be read; the message says why, without the file's content."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a file. `text` begins with its heading, if there is one, so that a search for the heading finds it."""

    text: str
    heading: str = ""
    page: int = 0


@dataclass(frozen=True, slots=True)
class _Block:
    text: str
    heading: str = ""
    page: int = 0


def suffix_of(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def read_pieces(name: str, content: bytes) -> list[Piece]:
    """The chunks of a file, in order. Raises Unreadable."""
    reader = _READERS.get(suffix_of(name))
    if reader is None:
        raise UnreadableFile(f"files of this kind cannot be read; can be: {', '.join(sorted(SUFFIXES))}")
    try:
        blocks = list(_limit_size(reader(content)))
    except UnreadableFile:
        raise
    except ImportError as error:
        raise UnreadableFile(
            "the gateway was installed without its `documents` extra, which reads such files"
        ) from error
    except Exception as error:
        raise UnreadableFile(f"the file is broken, or not what its name says ({type(error).__name__})") from error
    chunks = list(_merge_blocks(blocks))
    if not chunks:
        raise UnreadableFile("there is no text in this file")
    return chunks


def _limit_size(blocks: Iterable[_Block]) -> Iterator[_Block]:
    size = 0
    for block in blocks:
        text = _clean(block.text).strip()
        if not text:
            continue
        heading = _clean(block.heading)[-_HEADING_CHARACTERS:]
        size += len(text) + len(heading)
        if size > _MAX_TEXT:
            raise UnreadableFile(f"the file has more than {_MAX_TEXT} characters of text")
        yield _Block(text, heading, block.page)


def _clean(text: str) -> str:
    """Remove NUL characters and lone surrogates, which no table can store."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _merge_blocks(blocks: Iterable[_Block]) -> Iterator[Piece]:
    """Merge short neighbouring blocks of one heading and page, and split long ones into chunks."""
    current: list[str] = []
    place = ("", 0)

    def flush() -> Iterator[Piece]:
        if current:
            text = "\n".join(current)
            current.clear()
            heading, page = place
            for part in pieces(text):
                if part.strip():
                    yield Piece(f"{heading}\n{part.strip()}" if heading else part.strip(), heading, page)

    for block in blocks:
        if (block.heading, block.page) != place or weight("\n".join([*current, block.text])) > PASSAGE:
            yield from flush()
            place = (block.heading, block.page)
        current.append(block.text)
    yield from flush()


def _text(content: bytes) -> str:
    for encoding in ("utf-8-sig", "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _read_plain(content: bytes) -> Iterator[_Block]:
    for paragraph in re.split(r"\n\s*\n", _text(content).replace("\r\n", "\n")):
        yield _Block(paragraph)


def _read_markdown(content: bytes) -> Iterator[_Block]:
    """Paragraphs under their path of headings; a line in a code fence is no heading."""
    path: list[str] = []
    lines: list[str] = []
    is_code = False
    for line in [*_text(content).replace("\r\n", "\n").split("\n"), "# "]:
        if _FENCE.match(line):
            is_code = not is_code
        heading = None if is_code else _heading(line)
        if heading or (not line.strip() and not is_code) or line == "# ":
            yield _Block("\n".join(lines), " > ".join(path))
            lines = []
            if heading:
                path[heading[0] - 1 :] = [heading[1]]
        else:
            lines.append(line)


def _heading(line: str) -> tuple[int, str] | None:
    """Level and text of a heading in Markdown."""
    text = line.lstrip("#")
    level = len(line) - len(text)
    if not 1 <= level <= 6 or not text[:1].isspace():
        return None
    return level, text.strip().rstrip("#").strip()[:_HEADING_CHARACTERS]


def _read_html(content: bytes) -> Iterator[_Block]:
    from lxml import html  # noqa: PLC0415 — a parser that most processes never need

    tree = html.document_fromstring(content, parser=html.HTMLParser(no_network=True, remove_comments=True))
    for junk in tree.xpath("//script | //style | //noscript | //template"):
        junk.drop_tree()
    path: list[str] = []
    query = " | ".join(f"//{name}" for name in _BLOCKS.split(","))
    blocks = tree.xpath(query)
    if not blocks:
        yield _Block(tree.text_content())
    inner = {id(block) for block in blocks}
    for block in blocks:
        if any(id(parent) in inner for parent in block.iterancestors()):
            continue
        text = re.sub(r"\s+", " ", block.text_content()).strip()
        level = re.fullmatch(r"h([1-6])", block.tag)
        if level:
            path[int(level.group(1)) - 1 :] = [text]
        else:
            yield _Block(text, " > ".join(path))


def _read_json(content: bytes) -> Iterator[_Block]:
    """Each leaf with its path, so that a value is found by its name."""
    for path, value in _leaves(json.loads(_text(content)), ()):
        heading = ".".join(path[:-1])
        yield _Block(f"{path[-1]}: {value}" if path else str(value), heading)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(path) > _PATH_DEPTH:
        raise UnreadableFile(f"nested deeper than {_PATH_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index + 1)))
    elif value is not None and value != "":
        yield path, value


def _read_xml(content: bytes) -> Iterator[_Block]:
    from lxml import etree  # noqa: PLC0415

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    tree = etree.fromstring(content, parser=parser)
    for node in tree.iter():
        if not isinstance(node.tag, str):
            continue
        path = [etree.QName(parent).localname for parent in reversed(list(node.iterancestors()))]
        name = etree.QName(node).localname
        attributes = [f"{etree.QName(key).localname}: {value}" for key, value in node.attrib.items()]
        text = (node.text or "").strip()
        tail = (node.tail or "").strip()
        if text or attributes:
            yield _Block(", ".join([*attributes, f"{name}: {text}"] if text else attributes), " > ".join(path))
        if tail:
            yield _Block(tail, " > ".join(path))


def _read_pdf(content: bytes) -> Iterator[_Block]:
    from pypdf import PdfReader  # noqa: PLC0415

    document = PdfReader(io.BytesIO(content))
    if document.is_encrypted and not document.decrypt(""):
        raise UnreadableFile("the file is protected by a password")
    if len(document.pages) > _MAX_PAGES:
        raise UnreadableFile(f"the file has more than {_MAX_PAGES} pages")
    for number, page in enumerate(document.pages, start=1):
        for paragraph in re.split(r"\n\s*\n", page.extract_text() or ""):
            yield _Block(paragraph, page=number)


def _read_docx(content: bytes) -> Iterator[_Block]:
    from docx import Document  # noqa: PLC0415
    from docx.table import Table  # noqa: PLC0415

    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        if sum(member.file_size for member in packed.infolist()) > _MAX_UNPACKED:
            raise UnreadableFile("the file is too large when it is unpacked")
    path: list[str] = []
    for part in Document(io.BytesIO(content)).iter_inner_content():
        if isinstance(part, Table):
            for row in part.rows:
                yield _Block(" | ".join(dict.fromkeys(cell.text.strip() for cell in row.cells)), " > ".join(path))
            continue
        style = (part.style.name if part.style is not None else None) or ""
        level = re.fullmatch(r"(?:Heading|标题) (\d)", style)
        if level or style == "Title":
            path[(int(level.group(1)) - 1 if level else 0) :] = [part.text.strip()]
        else:
            yield _Block(part.text, " > ".join(path))


_READERS: Final[dict[str, Callable[[bytes], Iterator[_Block]]]] = {
    "txt": _read_plain,
    "md": _read_markdown,
    "markdown": _read_markdown,
    "html": _read_html,
    "htm": _read_html,
    "json": _read_json,
    "xml": _read_xml,
    "pdf": _read_pdf,
    "docx": _read_docx,
}
SUFFIXES: Final = frozenset(_READERS)
