"""Homes of a memory: a data folder, or object storage with a catalog elsewhere."""

from gateway.storage.folder import DataFolder
from gateway.storage.lance.catalog import Catalog
from gateway.storage.lance.file_catalog import FileCatalog
from gateway.storage.lance.folder_place import FolderPlace
from gateway.storage.lance.object_place import ObjectPlace, ObjectStorage
from gateway.storage.lance.place import Home, MemoryMeta
from gateway.storage.lance.reading_place import ReadingPlace

__all__ = ["CATALOG_FILE", "FOLDER_FRAGMENTS", "OBJECT_FRAGMENTS", "folder_home", "object_home", "reading_home"]

CATALOG_FILE = "tables.json"
"""The catalog in a data folder."""
FOLDER_FRAGMENTS, OBJECT_FRAGMENTS = 64, 16
"""Fragments of a growing table before it is compacted: on object storage each one costs a reader two requests."""


def folder_home(folder: DataFolder, compact_fragments: int = FOLDER_FRAGMENTS) -> Home:
    """The home in an open data folder."""
    catalog = FileCatalog(folder.path / CATALOG_FILE)
    place = FolderPlace(folder.path, catalog)
    return Home(meta=folder, place=place, catalog=catalog, compact_fragments=compact_fragments)


def reading_home(folder: DataFolder) -> Home:
    """The home in a data folder that another process of this machine has opened, and writes."""
    catalog = FileCatalog(folder.path / CATALOG_FILE, is_owner=False)
    place = ReadingPlace(folder.path, catalog)
    return Home(meta=folder, place=place, catalog=catalog, compact_fragments=FOLDER_FRAGMENTS)


def object_home(
    storage: ObjectStorage, catalog: Catalog, meta: MemoryMeta, compact_fragments: int = OBJECT_FRAGMENTS
) -> Home:
    """The home on object storage, of whose tables a catalog knows."""
    return Home(meta=meta, place=ObjectPlace(storage, catalog), catalog=catalog, compact_fragments=compact_fragments)
