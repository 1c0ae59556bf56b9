"""Installed packages under test: a module with its metadata, in a folder that goes on the module path."""

from pathlib import Path


def install_package(folder: Path, name: str, source: str, group: str, entry: str) -> Path:
    """Write a distribution `name` with a module of that name; `entry` is its entry point, `kind = module:value`."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{entry}\n", encoding="utf-8")
    return folder
