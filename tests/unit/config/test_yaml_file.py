"""A key that stands twice in a mapping is an error with both lines; everything else is YAML as usual."""

from pathlib import Path

import pytest
import yaml

from gateway.config import load
from gateway.config.yaml_file import read_yaml
from gateway.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\nb: 2\na: 3\n", "lines 1 and 3"),
        ("x:\n  - {b: 1,\n     b: 2}\n", "lines 2 and 3"),
        ("a:\n  'k': 1\n  k: 2\n", "lines 2 and 3"),
        ("a: {b: 1, b: 2}", "lines 1 and 1"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path: Path, text: str, lines: str) -> None:
    with pytest.raises(yaml.YAMLError, match=lines):
        read_yaml(text)


def test_a_configuration_with_a_key_twice_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("server: {port: 1}\nmemory:\n  default_user: me\nserver: {port: 2}\n")
    with pytest.raises(ConfigError, match=r"'server' stands twice.*lines 1 and 4"):
        load(path)


def test_equal_keys_of_other_mappings_and_merges_are_none() -> None:
    text = "base: &b {a: 1, c: 2}\nx: {<<: *b, a: 3}\ny: {a: 1}\n1: a\n'1': b\n"
    assert read_yaml(text) == {"base": {"a": 1, "c": 2}, "x": {"a": 3, "c": 2}, "y": {"a": 1}, 1: "a", "1": "b"}


@pytest.mark.parametrize("content", ["sérver: 1".encode("latin-1"), "server: {}".encode("utf-16"), b"\xff\xfe\x00"])
def test_a_configuration_that_is_no_utf_8_is_an_error_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "c.yaml")
