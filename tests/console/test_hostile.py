"""Texts that would do harm as markup are shown as text, wherever they come from."""

from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.console.conftest import OpenConsole
from tests.console.filling import HOSTILE, HOSTILE_USER
from tests.console.gateway import GatewayProcess

USER = quote(HOSTILE_USER)


@pytest.mark.parametrize(
    "path",
    [
        *("/turns", f"/turns?user={USER}", f"/turns?model={quote('broken-' + HOSTILE[0])}&q={USER}"),
        *(
            f"/memories?user={USER}",
            f"/memories?user={USER}&q={quote(HOSTILE[0])}",
            f"/memories?user={USER}&view=timeline",
        ),
        *("/users", f"/users?q={USER}", f"/playground?user={USER}&model={quote(HOSTILE[1])}", "/health"),
        *(f"/settings?q={USER}", f"/{USER}", f"/turns/{USER}", f"/memories/{USER}", f"/turns?tab={USER}&turn={USER}"),
    ],
)
def test_hostile_texts_are_texts(hostile: GatewayProcess, open_page: OpenConsole, path: str) -> None:
    console = open_page(hostile, path)
    assert console.page.locator("#app img:not([src='/ui/icon.svg'])").count() == 0
    assert console.page.locator("#app script, #app iframe, #app svg[onload], #app a[href^='javascript']").count() == 0
    console.check()


def test_hostile_memories_users_and_models_are_readable(hostile: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(hostile, f"/turns?user={USER}")
    text = console.text()
    assert HOSTILE_USER in text
    assert f"broken-{HOSTILE[0]}" in text
    console.open(f"/memories?user={USER}")
    for words in HOSTILE:
        expect(console.page.get_by_text(f"My favourite tag is {words}").first).to_be_attached()
    console.open("/users")
    expect(console.page.get_by_role("link", name=HOSTILE_USER).first).to_be_visible()


def test_all_pages_of_a_hostile_turn_and_memory_are_texts(hostile: GatewayProcess, open_page: OpenConsole) -> None:
    turns = hostile.get(f"/v1/turns?user={USER}&limit=1000")["data"]
    recalled = next(turn for turn in turns if turn["memory"] == "hit")
    failed = next(turn for turn in turns if turn["status"] == 400)
    console = open_page(hostile, f"/turns/{recalled['id']}")
    assert "My favourite tag is" in console.text()
    for tab in ("candidates", "again", "json"):
        console.open(f"/turns/{recalled['id']}?tab={tab}")
    console.open(f"/turns/{failed['id']}")
    record = hostile.get(f"/v1/memory/list?user={USER}")["data"][0]
    console.open(f"/memories/{record['id']}")
    assert record["text"] in console.text()


def test_a_hostile_error_is_shown_as_text(hostile: GatewayProcess, open_page: OpenConsole) -> None:
    question = next(turn for turn in hostile.get("/v1/turns?limit=1000")["data"] if turn["status"] == 400)
    console = open_page(hostile, f"/turns/{question['id']}?tab=again")
    console.page.get_by_role("button", name="Ask both").click()
    expect(console.page.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
