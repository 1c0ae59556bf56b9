"""The playground: chats that stream, stop and fail, with the block of memories beside them."""

import json
import re
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.console.conftest import OpenConsole
from tests.console.console import Console
from tests.console.filling import HOSTILE, HOSTILE_USER
from tests.console.gateway import GatewayProcess

WORDS = "This answer comes word by word so that a page can show it while it grows"
"""The answer of the model slow-1, as `tests.console.serving` gives it."""


def say(console: Console, text: str) -> None:
    """Write a message and send it with Enter."""
    console.page.get_by_role("textbox", name="Write a message").fill(text)
    console.press("Enter")


def answers(page: Page) -> list[str]:
    return list(page.locator(".chat-answer .chat-text").all_inner_texts())


def test_a_chat_is_streamed_and_shows_the_injected_block(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground?user=anna&model=echo-1")
    say(console, "Which strength class did we choose for the timber bridge?")
    expect(console.page.locator(".chat-answer .chat-text")).to_contain_text("You said:")
    panel = console.page.get_by_role("complementary", name="Memories in the prompt")
    expect(panel).to_contain_text("GL28h")
    expect(panel).to_contain_text("tokens injected")
    panel.get_by_role("link", name="Why this answer").click()
    console.wait()
    assert "GL28h" in console.text()
    console.page.go_back()
    expect(console.page.locator(".chat-answer .chat-text")).to_contain_text("You said:")


def test_an_answer_grows_and_can_be_stopped(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground?user=carla&model=slow-1&mode=off")
    say(console, "Take your time.")
    expect(console.page.locator(".chat-answer .chat-text")).to_contain_text("This answer")
    console.page.get_by_role("button", name="Stop").click()
    expect(console.page.get_by_text("stopped", exact=True)).to_be_visible()
    assert answers(console.page)[0] in WORDS
    assert answers(console.page)[0] != WORDS
    console.page.get_by_role("button", name="Try again").click()
    expect(console.page.locator(".chat-answer .chat-text")).to_have_text(WORDS)
    expect(console.page.locator(".chat-user")).to_have_count(1)


def test_a_conversation_sends_its_history_until_a_new_one_begins(
    gateway: GatewayProcess, open_page: OpenConsole
) -> None:
    console = open_page(gateway, "/playground?user=carla&model=echo-1")
    with console.page.expect_request("**/v1/chat/completions"):
        say(console, "First question")
    expect(console.page.locator(".chat-answer .chat-text")).to_have_count(1)
    expect(console.page.get_by_role("button", name="Send")).to_be_visible()
    with console.page.expect_request("**/v1/chat/completions") as second:
        say(console, "Second question")
    roles = [message["role"] for message in json.loads(second.value.post_data or "")["messages"]]
    assert roles == ["user", "assistant", "user"]
    expect(console.page.locator(".chat-answer .chat-text")).to_have_count(2)
    console.page.get_by_role("button", name="New conversation").click()
    expect(console.page.get_by_text("Try the memory")).to_be_visible()
    with console.page.expect_request("**/v1/chat/completions") as third:
        say(console, "Third question")
    assert len(json.loads(third.value.post_data or "")["messages"]) == 1
    assert third.value.headers["x-memory-session"] != second.value.headers["x-memory-session"]
    expect(console.page.locator(".chat-answer .chat-text")).to_have_count(1)


def test_what_is_said_is_remembered_for_the_user_of_the_address(
    gateway: GatewayProcess, open_page: OpenConsole
) -> None:
    console = open_page(gateway, f"/playground?model=echo-1&user={quote('王芳')}")
    say(console, "我的狗叫豆豆，它今年三岁。")
    expect(console.page.get_by_role("button", name="Send")).to_be_visible()
    gateway.settle()
    texts = [record["text"] for record in gateway.get(f"/v1/memory/list?user={quote('王芳')}")["data"]]
    assert any("豆豆" in text for text in texts)


def test_settings_are_in_the_address_and_are_sent(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground")
    console.page.get_by_label("Model").select_option("echo-1")
    console.page.get_by_label("User").fill("carla")
    console.page.get_by_role("combobox", name="Memory").select_option("read")
    console.page.get_by_label("Token budget").fill("77")
    console.page.get_by_label("Selectivity").fill("0.25")
    expect(console.page).to_have_url(re.compile("selectivity=0.25"))
    console.page.reload()
    console.wait()
    with console.page.expect_request("**/v1/chat/completions") as request:
        say(console, "Hello")
    headers = request.value.headers
    assert {name: headers[name] for name in ("x-memory-user", "x-memory-mode")} == {
        "x-memory-user": "carla",
        "x-memory-mode": "read",
    }
    assert (headers["x-memory-budget"], headers["x-memory-selectivity"]) == ("77", "0.25")
    expect(console.page.locator(".chat-answer .chat-text")).to_contain_text("Hello")


def test_a_wrong_budget_is_said_and_not_sent(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground?user=carla&model=echo-1&budget=-5")
    expect(console.page.get_by_text("A whole number from 0 to")).to_be_visible()
    say(console, "Hello")
    expect(console.page.get_by_role("button", name="Send")).to_be_disabled()
    assert not any("/v1/chat/completions" in url for url in console.requests)


def test_a_failure_is_shown_as_text(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/playground?user=carla&model=broken-1")
    say(console, "Hello")
    expect(console.page.get_by_role("alert")).to_contain_text("<img src=x onerror=alert(1)>")
    assert console.axe() == []


def test_hostile_names_and_memories_are_text(hostile: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(hostile, f"/playground?model={quote('echo-' + HOSTILE[0])}&user={quote(HOSTILE_USER)}")
    say(console, "What is my favourite tag?")
    expect(console.page.locator(".chat-answer .chat-text")).to_contain_text("You said:")
    expect(console.page.locator(".chat-panel")).to_contain_text("favourite tag is")


def test_a_turn_is_taken_over(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    turn = gateway.get("/v1/turns?user=ben&memory=hit&q=staging")["data"][0]
    console = open_page(gateway, f"/turns/{turn['id']}")
    console.page.get_by_role("link", name="Open in the playground").click()
    expect(console.page.get_by_role("textbox", name="Write a message")).to_have_value(turn["query"])
    assert console.page.get_by_label("User").input_value() == "ben"
    assert console.page.get_by_role("combobox", name="Memory").input_value() == "read"


def test_the_playground_works_by_keyboard_alone(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/turns")
    console.press("3")
    console.wait()
    console.press("Escape", "/")
    console.page.keyboard.type("line one")
    console.press("Shift+Enter")
    console.page.keyboard.type("line two")
    expect(console.page.get_by_role("button", name="Send")).to_be_enabled()  # the models are loaded
    console.press("Enter")
    expect(console.page.locator(".chat-user .chat-text")).to_have_text("line one\nline two")
    expect(console.page.get_by_role("button", name="Send")).to_be_visible()
    console.press("Escape", "n")
    expect(console.page.get_by_text("Try the memory")).to_be_visible()
