"""The links between the pages lead somewhere, and every page can be reached."""

import re
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, ROOT, anchors, links, read


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_and_anchors_exist(page: Path) -> None:
    for target in links(page):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_no_page_names_an_address_that_nothing_serves() -> None:
    hosts = "127.0.0.1", "api.openai.com", "openrouter.ai", "generativelanguage.googleapis.com"
    shown = (*hosts, "example.openai.azure.com", "gateways;")  # the last one: in a configuration of nginx
    for page in PAGES:
        for address in re.findall(r"https?://[^\s)`\"']+", read(page)):
            assert address.split("/")[2].split(":")[0] in shown or "host:port" in address, (name_of(page), address)


@pytest.mark.parametrize("start", ["docs/index.md", "llms.txt"])
def test_every_page_can_be_reached(start: str) -> None:
    index = ROOT / start
    reached = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    if start.endswith(".md"):  # the table of contents
        reached |= {(index.parent / f"{line}.md").resolve() for line in re.findall(r"^[\w/-]+$", read(index), re.M)}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page != ROOT / "docs" / "index.md"}
    others = {page for page in pages if page.parent.name in ("develop", "zh") or page.name == "changelog.md"}
    recall_options = (
        pages - others if start == "llms.txt" else {page for page in pages if page.parent.name != "develop"}
    )
    assert {name_of(page) for page in recall_options - reached} == set()


def test_the_readme_is_short_and_names_the_commands() -> None:
    readme = read(ROOT / "README.md")
    assert len(readme.splitlines()) <= 160
    for command in ("make run", "make test", "make test-clients", "make docs"):
        assert command in readme
    assert "(README.zh.md)" in "".join(readme.splitlines()[:5])
    for title in ("MemOS", "Front ends with several users"):  # where messages of the gateway send their readers
        assert f"[{title}](" in readme
