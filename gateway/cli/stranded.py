"""Moves a data folder that an earlier version created inside its own package to the platform's data folder."""

import sys

from gateway.config import Config, default_folder, find_stranded, move_stranded
from gateway.errors import ConfigError
from gateway.storage.folder import is_in_use

__all__ = ["recover_stranded"]


def recover_stranded(config: Config) -> None:
    """Move the most recently used one, if the platform's folder is configured and empty; else only report it. Raises
    ConfigError."""
    if config.memory.is_cluster:
        return
    target = config.data_folder
    if (target / "meta.json").exists():
        return
    folders = find_stranded()
    if not folders:
        return
    if target != default_folder().resolve():
        sys.stderr.write(f"gateway: an earlier memory lies at {folders[0]}; --data {folders[0]} uses it\n")
        return
    newest, *others = folders
    if is_in_use(newest):
        raise ConfigError(f"another process uses the data folder {newest}: stop it, then this moves it to {target}")
    try:
        move_stranded(newest, target)
    except OSError as error:
        raise ConfigError(f"cannot move the data folder {newest} to {target} ({error}): move it by hand") from error
    sys.stderr.write(f"gateway: moved the memory of an earlier version from {newest} to {target}\n")
    for folder in others:
        sys.stderr.write(f"gateway: an older memory stays at {folder}; --data {folder} uses it\n")
