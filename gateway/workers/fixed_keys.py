"""The keys of the configuration that workers cannot change while others run with the old values. Pure."""

from typing import Final

from gateway.config import Config

__all__ = ["keep_fixed"]

_FIXED: Final = {
    "server": ("host", "port", "workers"),
    "memory": ("enabled", "uri", "embedder"),
}


def keep_fixed(current: Config, new: Config) -> tuple[Config, list[str]]:
    """The new configuration with the current values of fixed keys, and the paths of those that differ."""
    changed: list[str] = []
    sections = {}
    for name, keys in _FIXED.items():
        old_section, section = getattr(current, name), getattr(new, name)
        differing = [key for key in keys if getattr(old_section, key) != getattr(section, key)]
        changed += [f"{name}.{key}" for key in differing]
        sections[name] = section.model_copy(update={key: getattr(old_section, key) for key in differing})
    return new.model_copy(update=sections), changed
