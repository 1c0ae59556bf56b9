"""The files of the console: read once, with their type, digest and compressed form. Pure but for reading them."""

import base64
import gzip
import hashlib
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

__all__ = ["PAGE", "ConsoleFile", "content_security_policy", "is_file_name", "load_files", "needed_modules"]

PAGE: Final = "index.html"
"""The name of the page; all others are files that it loads."""

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_MODULES: Final = "<!-- modules -->"
_ENTRY: Final = "main.js"
_IMPORT: Final = re.compile(rb"(?:^|(?<=;))(?:import|export)\b[^;\"'`(=]*[\"']([^\"']+)[\"'];", re.MULTILINE)
_IMPORT_MAP_ENTRY: Final = re.compile(rb'"([^"]+)":"/ui/([^"]+)"')
_INLINE_SCRIPT: Final = re.compile(rb"<script type=\"importmap\">(.*?)</script>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleFile:
    """A file as it is served. `digest` is of its content; `compressed` is its gzip form."""

    content: bytes
    compressed: bytes
    content_type: str
    digest: str


@lru_cache(maxsize=1)
def load_files() -> dict[str, ConsoleFile]:
    """All files by their path below `/ui/`. The page names the modules that it always needs, so that a browser loads
    them at once."""
    root = resources.files("gateway.ui").joinpath("static")
    contents = {path: file.read_bytes() for path, file in _walk(root, "") if path.rpartition(".")[2] in _TYPES}
    links = "\n".join(f'<link rel="modulepreload" href="/ui/{path}">' for path in needed_modules(contents, _ENTRY))
    contents[PAGE] = contents[PAGE].replace(_MODULES.encode(), links.encode())
    return {path: _build_file(path, content) for path, content in contents.items()}


def needed_modules(contents: Mapping[str, bytes], entry: str) -> list[str]:
    """A module and all modules that it imports, directly or not, other than on demand."""
    names = {name.decode(): path.decode() for name, path in _IMPORT_MAP_ENTRY.findall(contents[PAGE])}
    needed, waiting = {entry}, [entry]
    while waiting:
        path = waiting.pop()
        for match in _IMPORT.finditer(contents[path]):
            target = match[1].decode()
            module = names.get(target) or posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if module not in needed:
                needed.add(module)
                waiting.append(module)
    return sorted(needed)


def is_file_name(path: str, files: dict[str, ConsoleFile]) -> bool:
    """True if a path has the form of a file's: it is in a folder of files, or in none, and has the ending of a type."""
    folder, _, _ = path.rpartition("/")
    return path.rpartition(".")[2] in _TYPES and (not folder or any(name.startswith(f"{folder}/") for name in files))


@lru_cache(maxsize=4)
def content_security_policy(page: bytes) -> str:
    """The policy of the page: nothing from elsewhere, and no inline code but its import map."""
    match = _INLINE_SCRIPT.search(page)
    digest = base64.b64encode(hashlib.sha256(match[1] if match else b"").digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    files: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            files += _walk(entry, f"{prefix}{entry.name}/")
        else:
            files.append((f"{prefix}{entry.name}", entry))
    return files


def _build_file(path: str, content: bytes) -> ConsoleFile:
    return ConsoleFile(
        content=content,
        compressed=gzip.compress(content, 9, mtime=0),
        content_type=_TYPES[path.rpartition(".")[2]],
        digest=hashlib.sha256(content).hexdigest()[:20],
    )
