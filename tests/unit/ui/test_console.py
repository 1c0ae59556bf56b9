"""The files of the console: which there are, their size, and the policy of the page."""

import base64
import gzip
import hashlib
import re
from pathlib import Path

import pytest

from gateway.ui.console import PAGE, content_security_policy, is_file_name, load_files, needed_modules

STATIC = Path(__file__).parents[3] / "gateway" / "ui" / "static"
MOST_COMPRESSED_BYTES = 80_000


def test_all_files_are_served() -> None:
    assert set(load_files()) == {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}


@pytest.mark.parametrize("page", [path for path in sorted(load_files()) if path.startswith("pages/")])
def test_opening_any_page_loads_little(page: str) -> None:
    """With everything that it needs: the modules, all styles, and the charts of the page on health."""
    files = load_files()
    contents = {path: file.content for path, file in files.items()}
    needed = {*needed_modules(contents, "main.js"), *needed_modules(contents, page), PAGE, "icon.svg"}
    needed |= {path for path in files if path.startswith("style/")}
    if "parts/chart.js" in needed:
        needed |= {"vendor/uplot.js", "vendor/uplot.css"}
    sizes = {path: len(files[path].compressed) for path in needed}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:10]
    assert sum(sizes.values()) < MOST_COMPRESSED_BYTES, f"{sum(sizes.values())} bytes; the largest: {largest}"


def test_the_libraries_and_texts_of_a_page_are_among_its_modules() -> None:
    contents = {path: file.content for path, file in load_files().items()}
    needed = needed_modules(contents, "pages/health.js")
    assert {"vendor/preact.mjs", "vendor/signals-core.mjs", "lang/health.js", "parts/chart.js"} <= set(needed)
    assert "pages/turns.js" not in needed_modules(contents, "main.js")


@pytest.mark.parametrize("path", sorted(load_files()))
def test_a_file_has_a_type_a_digest_and_a_compressed_form(path: str) -> None:
    file = load_files()[path]
    assert gzip.decompress(file.compressed) == file.content
    assert path == PAGE or file.content == (STATIC / path).read_bytes()
    assert re.fullmatch(r"[0-9a-f]{20}", file.digest)
    assert file.content_type.startswith(("text/html", "text/javascript", "text/css", "image/svg"))


def test_the_page_loads_its_modules_at_once() -> None:
    page = load_files()[PAGE].content.decode()
    preloaded = set(re.findall(r'<link rel="modulepreload" href="/ui/([^"]+)">', page))
    assert "main.js" in preloaded
    assert preloaded <= set(load_files())
    assert not any(path.startswith("vendor/uplot") for path in preloaded)


def test_the_policy_allows_the_import_map_and_no_other_inline_code() -> None:
    page = load_files()[PAGE].content
    policy = dict(part.strip().split(" ", 1) for part in content_security_policy(page).split(";"))
    scripts = re.findall(rb"<script(?![^>]* src=)[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    assert policy["script-src"] == f"'self' 'sha256-{digests[0]}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["style-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
    assert "unsafe" not in str(policy)


@pytest.mark.parametrize(
    "path", ["missing.js", "lib/missing.js", "missing.css", "vendor/preact.mjs.svg", "style/x.html"]
)
def test_the_name_of_a_missing_file_is_recognised(path: str) -> None:
    assert is_file_name(path, load_files())


@pytest.mark.parametrize("path", ["", "turns", "turns/a.js", "memories/x.css/y.js", "lib", "users/a.b@c.de", "1.2"])
def test_paths_of_the_page_are_no_names_of_files(path: str) -> None:
    assert not is_file_name(path, load_files())
