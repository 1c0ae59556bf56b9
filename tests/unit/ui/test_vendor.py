"""The libraries of the console: the published files, unchanged, each with its licence."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

UI = Path(__file__).parents[3] / "gateway" / "ui"
FILES: list[dict[str, str]] = tomllib.loads((UI / "vendor.toml").read_text(encoding="utf-8"))["file"]
MARKS = {"MIT": "Permission is hereby granted, free of charge", "Apache-2.0": "Apache License"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["name"])
def test_a_library_is_the_published_file(file: dict[str, Any]) -> None:
    content = (UI / "static" / "vendor" / file["name"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", file["version"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["name"])
def test_a_library_comes_with_its_licence(file: dict[str, Any]) -> None:
    text = (UI / "licenses" / file["license_file"]).read_text(encoding="utf-8")
    assert MARKS[file["license"]] in text
    assert re.search(r"copyright", text, re.IGNORECASE)


def test_every_library_is_listed() -> None:
    assert {path.name for path in (UI / "static" / "vendor").iterdir()} == {file["name"] for file in FILES}
    assert {path.name for path in (UI / "licenses").iterdir()} == {file["license_file"] for file in FILES}


def test_the_files_of_a_package_have_its_version() -> None:
    versions: dict[str, set[str]] = {}
    for file in FILES:
        versions.setdefault(file["package"], set()).add(file["version"])
    assert [package for package, several in versions.items() if len(several) > 1] == []
