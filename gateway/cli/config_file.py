"""The options `--config` and `--data` of the commands, and the configuration that they name."""

import argparse
import os
from pathlib import Path

from gateway.config import DATA_VARIABLE, Config, default_folder, load
from gateway.errors import ConfigError

__all__ = ["add_config", "config_path", "load_config", "load_target"]

_SHIPPED = Path(__file__).parents[1] / "config.yaml"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    parser.add_argument(
        "--config",
        type=Path,
        default=None,
        metavar="FILE",
        help="configuration file; default: ./config.yaml, else the shipped one",
    )
    parser.add_argument(
        "--data",
        type=_folder,
        default=None,
        metavar="DIR",
        help=f"data folder; else {DATA_VARIABLE}, else memory.uri of the configuration, else {default_folder()}",
    )


def _folder(text: str) -> Path:
    if not text.strip():  # an empty variable, which would mean the current folder
        raise argparse.ArgumentTypeError("name a folder")
    return Path(text)


def config_path(path: Path | None) -> Path:
    """The configuration file: the named one, else the one in the current folder, else the shipped one."""
    if path is not None:
        return path
    here = Path("config.yaml")
    return here if here.exists() else _SHIPPED


def _data_path(path: Path | None, config: Path) -> Path | None:
    """The data folder that overrides `memory.uri`; with the shipped configuration, the default folder."""
    folder = os.environ.get(DATA_VARIABLE) or None if path is None else path
    return Path(folder) if folder is not None else default_folder() if config == _SHIPPED else None


def load_config(arguments: argparse.Namespace) -> Config:
    """Load the configuration of a command. Raises ConfigError."""
    path = config_path(arguments.config)
    data = _data_path(arguments.data, path)
    overrides = {name: getattr(arguments, name, None) for name in ("host", "port", "workers")}
    return load(path, **overrides, data=data)


def load_target(arguments: argparse.Namespace) -> Config:
    """Load the configuration that `--to` names; the data folder of the command is also its own. Raises ConfigError."""
    try:
        return load(arguments.to, data=_data_path(arguments.data, arguments.to))
    except ConfigError as error:
        raise ConfigError(f"{arguments.to}:\n{error}") from error
