"""The console is used by keyboard alone: turns, memories, dialogs, the playground, signing in and out."""

import re

import pytest
from playwright.sync_api import expect

from tests.console.conftest import OpenConsole
from tests.console.console import Console
from tests.console.gateway import GatewayProcess, eventually


def texts_of(gateway: GatewayProcess, user: str) -> list[str]:
    gateway.settle()
    return [record["text"] for record in gateway.get(f"/v1/memory/list?user={user}&limit=100")["data"]]


def selected(console: Console) -> str:
    return str(console.page.locator("tr[aria-selected=true]").inner_text())


def test_turns_are_walked_and_opened(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/turns?user=anna")
    rows = console.page.locator("tbody tr.row")
    console.press("j")
    assert selected(console) == rows.nth(0).inner_text()
    console.press("j", "j", "k")
    assert selected(console) == rows.nth(1).inner_text()
    console.press("k", "k", "k")
    assert selected(console) == rows.nth(0).inner_text()
    console.press("j", "Enter")
    expect(console.page.get_by_role("heading", name="Why this answer")).to_be_visible()
    console.page.go_back()
    expect(console.page.locator("tr[aria-selected=true]")).to_have_count(1)


def test_the_tabs_of_an_answer_are_walked_with_arrows(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    turn = gateway.chat("What is my cat called?", "anna", session="tabs").headers["x-gateway-request-id"]
    console = open_page(gateway, f"/turns/{turn}")
    console.focus_by_tab("Prompt")
    for name in ("candidates", "again", "json", "prompt"):
        console.press("ArrowRight")
        expect(console.page.locator("[role=tab][aria-selected=true]")).to_be_focused()
        expect(console.page).to_have_url(re.compile(f"tab={name}"))
    expect(console.page.get_by_role("tabpanel")).to_be_visible()


def test_keys_are_explained_and_do_nothing_in_fields(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    console.press("?")
    dialog = console.page.get_by_role("dialog")
    expect(dialog).to_contain_text("next row")
    console.press("j")  # a dialog is open
    assert console.page.locator("tr[aria-selected=true]").count() == 0
    console.press("Escape")
    expect(dialog).to_have_count(0)
    console.press("/")
    console.page.keyboard.type("jk?p")
    expect(console.page.get_by_role("searchbox")).to_have_value("jk?p")
    expect(dialog).to_have_count(0)
    console.press("Escape")
    expect(console.page.get_by_role("searchbox")).not_to_be_focused()


def test_a_memory_is_edited_and_the_change_undone(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    gateway.post("/v1/memory", {"user": "gina", "text": "My bicycle is red."})
    gateway.settle()
    console = open_page(gateway, "/memories?user=gina")
    console.press("j", "e")
    field = console.page.get_by_role("dialog").get_by_role("textbox")
    expect(field).to_be_focused()
    console.press("ControlOrMeta+a")
    console.page.keyboard.type("My bicycle is green.")
    console.focus_by_tab("Save")
    console.press("Enter")
    expect(console.page.locator("tbody tr.row")).to_contain_text("My bicycle is green.")
    assert "My bicycle is green." in texts_of(gateway, "gina")
    console.focus_by_tab("Undo")
    console.press("Enter")
    eventually(lambda: "My bicycle is red." in texts_of(gateway, "gina"))
    expect(console.page.locator("tbody tr.row")).to_contain_text("My bicycle is red.")


def test_a_memory_is_forgotten_after_a_question(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    for text in ("I water the plants on Mondays.", "My bank is around the corner."):
        gateway.post("/v1/memory", {"user": "hugo", "text": text})
    gateway.settle()
    console = open_page(gateway, "/memories?user=hugo&q=bank around the corner")
    console.press("j")
    assert "My bank" in selected(console)
    console.press("#")
    dialog = console.page.get_by_role("dialog")
    expect(dialog).to_contain_text("My bank is around the corner.")
    expect(console.page.get_by_role("button", name="Cancel")).to_be_focused()
    console.press("Escape")
    expect(dialog).to_have_count(0)
    assert len(texts_of(gateway, "hugo")) == 2
    console.press("#")
    expect(dialog).to_be_visible()
    console.focus_by_tab("Forget 1")
    console.press("Enter")
    expect(dialog).to_have_count(0)
    eventually(lambda: texts_of(gateway, "hugo") == ["I water the plants on Mondays."])
    expect(console.page.locator("tbody tr.row").filter(has_text="My bank")).to_have_count(0)


def test_several_memories_are_selected_and_forgotten(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    for number in range(5):
        gateway.post("/v1/memory", {"user": "ines", "text": f"I own the stamp number {number} of Malta."})
    gateway.settle()
    console = open_page(gateway, "/memories?user=ines")
    console.press("j", "x", "j", "j", "x", "#")
    dialog = console.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Chosen (2)")
    console.focus_by_tab("Forget 2")
    console.press("Enter")
    expect(dialog).to_have_count(0)
    eventually(lambda: len(texts_of(gateway, "ines")) == 3)
    expect(console.page.locator("tbody tr.row")).to_have_count(3)


def test_a_chat_is_held_in_the_playground(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground?model=slow-1&user=anna&mode=read")
    console.press("/")
    console.page.keyboard.type("What is my cat called?")
    console.press("Enter")
    log = console.page.get_by_role("log")
    expect(log).to_contain_text("What is my cat called?")
    expect(log).to_contain_text("This answer comes")
    expect(log).to_contain_text("word by word so that a page can show it while it grows")
    expect(console.page.locator("main")).to_contain_text("Miso")  # in the block of memories


def test_an_answer_is_stopped_while_it_comes(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground?model=slow-1&mode=off")
    console.press("/")
    console.page.keyboard.type("Tell me a long story.")
    console.press("Enter")
    log = console.page.get_by_role("log")
    expect(log).to_contain_text("This answer")
    console.press("Escape")
    expect(console.page.get_by_role("button", name="Stop")).to_have_count(0)
    assert "while it grows" not in log.inner_text()


def test_signing_in_and_out_needs_no_mouse(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    expect(console.page.get_by_label("Key")).to_be_focused()
    console.page.keyboard.type("key-of-the-operator")
    console.press("Enter")
    expect(console.page.get_by_role("navigation")).to_be_visible()
    console.focus_by_tab("Sign out")
    console.press("Enter")
    expect(console.page.get_by_label("Key")).to_be_focused()


@pytest.mark.parametrize("path", ["/turns", "/memories?user=anna", "/health", "/settings", "/playground", "/users"])
def test_the_first_control_leads_to_the_content(gateway: GatewayProcess, open_page: OpenConsole, path: str) -> None:
    console = open_page(gateway, path)
    first = console.page.locator("a, button, input, select, textarea, summary, [tabindex]").first
    first.focus()
    expect(console.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    console.press("Enter")
    expect(console.page.locator("main")).to_be_focused()


def test_the_sections_have_numbers(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health")
    for number, name in (("1", "Turns"), ("2", "Memories"), ("4", "Health"), ("6", "Configuration")):
        console.press(number)
        expect(console.page.locator("main h1")).to_have_text(name)
