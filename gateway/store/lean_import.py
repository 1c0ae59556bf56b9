"""Imports LanceDB without the HTTP clients of its catalogue service.

LanceDB imports a generated client package whose API classes alone take a second to define, and are used only against a
REST catalogue, which this gateway never talks to. While LanceDB is imported, those modules are answered with empty
ones. Measured: 2.2 s become 1.2 s. Should a later LanceDB need them, importing this module's way fails in
`test_the_lean_import_is_whole`, and `import lancedb` is what to go back to.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["connecting", "import_lancedb"]

_INDEX_CACHE_BYTES = 64 * 2**20
_METADATA_CACHE_BYTES = 32 * 2**20

_SKIPPED = "lance_namespace_urllib3_client.api."


class _EmptyModules(MetaPathFinder, Loader):
    """Answers imports of the API classes with modules that have any name in them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith(_SKIPPED) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def stand_in(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = stand_in  # type: ignore[method-assign]  # PEP 562: what a module has not


def import_lancedb() -> Any:
    """The `lancedb` module."""
    finder = _EmptyModules()
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module("lancedb")
    finally:
        sys.meta_path.remove(finder)


def connecting(path: Path) -> Any:
    """What connects to the database in a folder, when called in the loop; loading takes a second and more."""
    lancedb = import_lancedb()
    path.mkdir(parents=True, exist_ok=True)
    session = lancedb.Session(
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )
    return lambda: lancedb.connect_async(str(path), session=session)
