"""Every page in a browser: in both colours and languages, narrow and wide; measured, and checked by axe-core."""

import re

import pytest

from tests.console.conftest import OpenConsole
from tests.console.console import MOST_MILLISECONDS_TO_CONTENT, Console
from tests.console.gateway import GatewayProcess

PAGES = (
    *("/turns", "/turns/TURN", "/turns/TURN?tab=candidates", "/turns/TURN?tab=again", "/turns/TURN?tab=json"),
    *("/memories?user=anna", "/memories?user=anna&view=timeline", "/memories/MEMORY", "/memories"),
    *("/playground", "/health", "/users"),
    *("/settings", "/settings/plugins", "/settings/upstreams", "/settings/maintenance"),
    *("/nothing", "/turns/unknown", "/memories/unknown"),
)


def address_of(gateway: GatewayProcess, path: str) -> str:
    """A path with the ids of a turn that recalled something, and of a memory."""
    if "TURN" in path:
        path = path.replace("TURN", gateway.get("/v1/turns?memory=hit")["data"][0]["id"])
    if "MEMORY" in path:
        path = path.replace("MEMORY", gateway.get("/v1/memory/list?user=anna")["data"][0]["id"])
    return path


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_quick_accessible_and_fits(gateway: GatewayProcess, open_page: OpenConsole, path: str) -> None:
    console = open_page(gateway, address_of(gateway, path), color_scheme="light", reduced_motion="reduce")
    page = console.page
    assert page.title().endswith("Memory Gateway")
    assert console.first_content() < MOST_MILLISECONDS_TO_CONTENT
    assert page.locator("main h1").count() == 1
    assert page.evaluate("document.getAnimations().filter((item) => item.playState === 'running').length") == 0
    assert console.axe() == []
    page.set_viewport_size({"width": 3840, "height": 2160})
    assert console.overflow() <= 0, "it is too wide for a large screen"

    page.set_viewport_size({"width": 320, "height": 640})
    assert console.overflow() <= 0, "it is too wide for a phone"
    page.get_by_label("Language").select_option("zh")
    page.emulate_media(color_scheme="dark")
    assert page.get_attribute("html", "lang") == "zh"
    assert re.search(r"[\u4e00-\u9fff]", page.locator("main h1").inner_text())
    assert console.overflow() <= 0, "it is too wide for a phone in Chinese"
    page.set_viewport_size({"width": 1360, "height": 860})
    assert console.axe() == []


def is_dark(console: Console) -> bool:
    """True if text is lighter than a middle grey."""
    colour = console.page.evaluate("getComputedStyle(document.querySelector('h1')).color")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) > 3 * 128


def test_colours_and_language_can_be_chosen_and_stay(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, color_scheme="light")
    assert not is_dark(console)
    console.page.get_by_label("Colours").select_option("dark")
    console.page.get_by_label("Language").select_option("zh")
    for _ in range(2):
        assert is_dark(console)
        assert console.page.locator("h1").inner_text() == "对话记录"
        console.page.reload()
        console.wait()


def test_a_page_asks_nothing_of_other_places(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    assert len(console.requests) > 20
    assert [url for url in console.requests if not url.startswith(f"{gateway.url}/")] == []


def test_the_frame_leads_to_all_pages(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    for name in ("Memories", "Playground", "Health", "Users and keys", "Configuration", "Turns"):
        console.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        console.wait()
        assert console.page.get_by_role("navigation").locator("[aria-current=page]").inner_text() == name
        assert console.page.title().startswith(name)


def test_an_address_without_the_console_leads_to_it(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    console.page.goto(f"{gateway.url}/")
    console.wait()
    assert console.page.url == f"{gateway.url}/ui/"
    assert console.page.locator("h1").inner_text() == "Turns"


def test_a_gateway_that_is_gone_is_said_in_words(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    console.page.route("**/v1/memory/users*", lambda route: route.abort())
    console.page.get_by_role("navigation").get_by_role("link", name="Users and keys").click()
    assert "cannot be reached" in console.page.get_by_role("alert").first.inner_text()
    console.page.unroute("**/v1/memory/users*")
    console.page.get_by_role("button", name="Try again").first.click()
    console.page.get_by_role("link", name="anna").wait_for()
    console.problems.clear()  # the browser reports the broken connection
