"""A safe YAML loader that rejects duplicate keys in a mapping. Pure."""

from typing import Any

import yaml

__all__ = ["read_yaml"]


def read_yaml(text: str) -> Any:
    """Parse a document. Raises yaml.YAMLError, and ValueError or TypeError for invalid dates and numbers; the message
    for a duplicate key names both lines."""
    return yaml.load(text, _Loader)  # noqa: S506 — a safe loader


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            first = lines.get((key.tag, key.value))
            lines[key.tag, key.value] = line
            if first is not None:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice in one mapping: in lines {first} and {line}")
        return super().construct_mapping(node, deep)
