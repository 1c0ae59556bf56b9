"""The list of turns: live, filtered, and with its state in the address."""

import re

from playwright.sync_api import Page, expect

from tests.console.conftest import OpenConsole
from tests.console.gateway import GatewayProcess


def rows(page: Page) -> list[str]:
    return list(page.locator("tbody tr.row").all_inner_texts())


def test_a_new_turn_appears_without_a_reload(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    expect(console.page.get_by_text("live", exact=True)).to_be_visible()
    gateway.chat("Is this shown at once?", "dora", session="live")
    expect(console.page.locator("tbody tr.row").first).to_contain_text("Is this shown at once?")
    expect(console.page.locator("tbody tr.row").first).to_contain_text("dora")
    assert sum(url.endswith("/ui/main.js") for url in console.requests) == 1


def test_the_list_can_be_paused_and_resumed(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    expect(console.page.get_by_text("live", exact=True)).to_be_visible()
    console.press("p")
    expect(console.page.get_by_text("paused", exact=True)).to_be_visible()
    before = rows(console.page)
    gateway.chat("First while paused.", "dora", session="paused")
    gateway.chat("Second while paused.", "dora", session="paused")
    expect(console.page.get_by_role("button", name="Show 2 new")).to_be_visible()
    assert rows(console.page) == before
    console.press("p")
    expect(console.page.locator("tbody tr.row").first).to_contain_text("Second while paused.")
    expect(console.page.locator("tbody tr.row").nth(1)).to_contain_text("First while paused.")
    gateway.chat("Third, live again.", "dora", session="paused")
    expect(console.page.locator("tbody tr.row").first).to_contain_text("Third, live again.")


def test_a_stream_that_breaks_is_taken_up_without_loss(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    expect(console.page.get_by_text("live", exact=True)).to_be_visible()
    console.page.context.set_offline(True)
    gateway.chat("Said while offline.", "dora", session="offline")
    console.page.context.set_offline(False)
    gateway.chat("Said after it.", "dora", session="offline")
    expect(console.page.locator("tbody tr.row").first).to_contain_text("Said after it.")
    expect(console.page.locator("tbody tr.row").nth(1)).to_contain_text("Said while offline.")
    assert len([row for row in rows(console.page) if "Said while offline." in row]) == 1
    console.problems.clear()  # the browser reports the broken connection


def test_filters_have_counts_and_are_in_the_address(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    of_ben = len(gateway.get("/v1/turns?user=ben&limit=1000")["data"])
    chip = console.page.get_by_role("button", name=re.compile(r"^ben\b"))
    assert re.search(rf"\b{of_ben}\b", chip.inner_text())
    chip.click()
    expect(console.page.locator("tbody tr.row")).to_have_count(of_ben)
    expect(console.page).to_have_url(re.compile("user=ben"))
    console.page.reload()
    console.wait()
    expect(console.page.locator("tbody tr.row")).to_have_count(of_ben)
    expect(console.page.get_by_role("button", name=re.compile(r"^ben\b"))).to_have_attribute("aria-pressed", "true")
    console.page.go_back()
    console.wait()
    expect(console.page).not_to_have_url(re.compile("user=ben"))
    assert len(rows(console.page)) > of_ben
    console.page.go_forward()
    expect(console.page.locator("tbody tr.row")).to_have_count(of_ben)


def test_a_filtered_list_shows_only_new_turns_that_match(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/turns?user=emil")
    expect(console.page.get_by_text("No turn matches")).to_be_visible()
    gateway.chat("Not for this list.", "dora", session="filtered")
    gateway.chat("For this list.", "emil", session="filtered")
    expect(console.page.locator("tbody tr.row")).to_have_count(1)
    expect(console.page.locator("tbody tr.row")).to_contain_text("For this list.")


def test_a_search_is_in_the_address(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    console.press("/")
    console.page.keyboard.type("staging database")
    expect(console.page.locator("tbody tr.row")).to_have_count(1)
    expect(console.page).to_have_url(re.compile(r"q=staging\+database"))
    console.page.reload()
    console.wait()
    expect(console.page.get_by_role("searchbox")).to_have_value("staging database")
    console.page.get_by_role("button", name="Clear filters").click()
    expect(console.page).not_to_have_url(re.compile("q="))


def test_a_turn_that_failed_says_why(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/turns?model=broken-1")
    console.page.locator("tbody tr.row a").first.click()
    console.wait()
    assert "400" in console.text()
    console.page.go_back()
    console.wait()
    expect(console.page).to_have_url(re.compile("model=broken-1"))
