"""Connections to the LanceDB database in a folder, with small caches.

LanceDB imports a package with the client of a REST catalog, of which it uses the models only. Its other modules build
hundreds of pydantic validators: without them, importing LanceDB takes 0.4 instead of 1.0 s of CPU, and 14 MiB less. So
the package is imported when LanceDB, or another program in this process, first needs one of its names.
"""

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["connecting"]

_INDEX_CACHE_BYTES = 64 * 2**20
_METADATA_CACHE_BYTES = 32 * 2**20
_CATALOG_CLIENT = "lance_namespace_urllib3_client"


def connecting(path: Path, *, is_reader: bool = False) -> Any:
    """Build a function that connects to the database in a folder; call that function in the event loop. Importing
    LanceDB takes half a second: call this one in a thread. `is_reader`: another process writes, and each read looks for
    what it has written."""
    _defer_package(_CATALOG_CLIENT)
    import lancedb  # noqa: PLC0415 — loaded behind the open port

    path.mkdir(parents=True, exist_ok=True)
    session = lancedb.Session(
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )
    interval = timedelta(0) if is_reader else None
    return lambda: lancedb.connect_async(str(path), session=session, read_consistency_interval=interval)


def _defer_package(name: str) -> None:
    """Let a package be imported at the first access to one of its names; its submodules can be imported before."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None and spec.loader is not None and spec.submodule_search_locations is not None:
        module = _DeferredPackage(name)
        module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
        module.__path__ = spec.submodule_search_locations
        sys.modules[name] = module


class _DeferredPackage(ModuleType):
    """A package whose `__init__` has not run yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__class__ is not _DeferredPackage:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on an ordinary package
        assert self.__spec__ is not None  # noqa: S101 — set when the module was made
        assert self.__spec__.loader is not None  # noqa: S101 — as above
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)
