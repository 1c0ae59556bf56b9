"""Location of the data folder: the platform's default, checks of a configured one, and recovery of folders that
earlier versions created inside the installed package."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from gateway.errors import ConfigError

__all__ = ["DATA_VARIABLE", "check_location", "default_folder", "find_stranded", "move_stranded"]

DATA_VARIABLE = "GATEWAY_DATA"
"""Environment variable with the data folder; overrides the configuration, overridden by `--data`."""
_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGE_FOLDERS = frozenset(("site-packages", "dist-packages"))
_CACHE_VARIABLES = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "XDG_CACHE_HOME")
_CACHE_TAG = "CACHEDIR.TAG"  # marks a cache folder, also written by uv: https://bford.info/cachedir/
_TOOL = "memory-gateway"
_UV_KINDS = ("archive", "environments", "builds")


def default_folder() -> Path:
    """The data folder if none is configured or given, e.g. `~/.local/share/memory-gateway`."""
    return user_data_path("memory-gateway", appauthor=False)


def check_location(folder: Path) -> None:
    """Raise ConfigError if a data folder is where a package manager deletes files: an installed package, or a
    cache."""
    path = folder.resolve()
    reason = ""
    if not _PACKAGE_FOLDERS.isdisjoint(path.parts):
        reason = "inside the folder of installed Python packages, where an upgrade or uninstall deletes it"
    elif any(path.is_relative_to(cache) for cache in _caches()):
        reason = "inside a cache, which may be emptied at any time"
    elif any((parent / _CACHE_TAG).is_file() for parent in (path, *path.parents)):
        reason = f"inside a cache (a {_CACHE_TAG} file says so), which may be emptied at any time"
    if reason:
        raise ConfigError(
            f"memory.uri: the data folder {path} lies {reason}. "
            f"Set memory.uri, {DATA_VARIABLE} or --data to a folder that stays, e.g. {default_folder()}"
        )


def find_stranded() -> list[Path]:
    """Data folders that an earlier version created inside its own package, most recently used first."""
    folders = {path.parent.resolve() for path in _candidates() if path.is_file()}
    return sorted(folders, key=_last_used, reverse=True)


def move_stranded(source: Path, target: Path) -> None:
    """Move a data folder atomically: after a crash it is either unmoved or moved completely. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _clear(target)
        source.rename(target)
    except OSError:  # another file system, or Windows with a file open
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        _clear(target)
        partial.rename(target)
        shutil.rmtree(source, ignore_errors=True)


def _clear(target: Path) -> None:
    """Remove an empty folder, since Windows refuses a rename onto it."""
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()


def _caches() -> list[Path]:
    configured = [Path(value) for name in _CACHE_VARIABLES if (value := os.environ.get(name))]
    caches = [path.expanduser().resolve() for path in (*configured, user_cache_path("uv", appauthor=False).parent)]
    default = default_folder().resolve()  # a cache that contains the default folder is a misconfiguration
    return [path for path in caches if path != Path(path.anchor) and not default.is_relative_to(path)]


def _candidates() -> Iterator[Path]:
    """Possible paths of `meta.json` in such folders: this package, environments in uv's cache, tools of uv and pipx."""
    yield _PACKAGE / "data" / "meta.json"
    home = Path.home()  # uv and pipx use the same folders on Linux and macOS
    uv_caches = {Path(os.environ.get("UV_CACHE_DIR") or home / ".cache/uv"), user_cache_path("uv", appauthor=False)}
    environments = [path for cache in uv_caches for kind in _UV_KINDS for path in cache.glob(f"{kind}-v*/*")]
    tools = [Path(os.environ.get("UV_TOOL_DIR") or home / ".local/share/uv/tools")]
    tools += [user_data_path("uv", appauthor=False) / "tools", user_data_path("pipx", appauthor=False) / "venvs"]
    tools += [Path(os.environ.get("PIPX_HOME") or home / ".local/pipx") / "venvs", home / ".local/share/pipx/venvs"]
    environments += [folder / _TOOL for folder in tools]
    for environment in environments:
        for pattern in ("lib/python*/site-packages", "Lib/site-packages", ""):
            yield from environment.glob(f"{pattern}/gateway/data/meta.json".lstrip("/"))


def _last_used(folder: Path) -> float:
    times = [path.stat().st_mtime for path in (folder / "meta.json", folder / "journal.sqlite") if path.exists()]
    return max(times, default=0.0)
