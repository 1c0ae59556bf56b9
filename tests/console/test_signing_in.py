"""Signing in with a key of the gateway: who gets in, what they see, and where the key never is."""

import json
import re

from playwright.sync_api import Browser, expect

from tests.console.conftest import OpenConsole
from tests.console.console import Console, open_console
from tests.console.gateway import GatewayProcess

KEY_OF_ADA = "key-of-ada-lovelace"
KEY_OF_THE_OPERATOR = "key-of-the-operator"
COOKIE = "gateway_session"
OWN = {"x-gateway-console": "1", "sec-fetch-site": "same-origin"}


def sign_in(console: Console, key: str) -> None:
    console.page.get_by_label("Key").fill(key)
    console.press("Enter")


def everything_of(console: Console) -> str:
    """All that scripts and other pages could read: the address, the page, storage, cookies, history."""
    return str(
        console.page.evaluate(
            """() => JSON.stringify([location.href, document.documentElement.outerHTML, document.cookie,
            {...localStorage}, {...sessionStorage}, history.state, document.referrer,
            [...document.querySelectorAll("input")].map((input) => input.value),
            performance.getEntries().map((entry) => entry.name)])"""
        )
    )


def test_a_key_gets_in_and_is_nowhere_afterwards(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    sign_in(console, KEY_OF_THE_OPERATOR)
    expect(console.page.get_by_role("navigation")).to_be_visible()
    expect(console.page.locator("tbody tr.row")).not_to_have_count(0)
    assert KEY_OF_THE_OPERATOR not in everything_of(console)
    assert not any(KEY_OF_THE_OPERATOR in url for url in console.requests)
    cookies = {cookie["name"]: cookie for cookie in console.page.context.cookies()}
    assert (cookies[COOKIE]["httpOnly"], cookies[COOKIE]["sameSite"]) == (True, "Strict")
    assert KEY_OF_THE_OPERATOR not in json.dumps(cookies)
    assert KEY_OF_THE_OPERATOR not in keyed.log()
    assert cookies[COOKIE]["value"] not in keyed.log()
    assert cookies[COOKIE]["value"] not in everything_of(console)


def test_a_session_lasts_over_a_reload_and_ends_with_signing_out(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    sign_in(console, KEY_OF_THE_OPERATOR)
    expect(console.page.get_by_role("navigation")).to_be_visible()
    console.page.reload()
    expect(console.page.get_by_role("navigation")).to_be_visible()
    value = next(cookie["value"] for cookie in console.page.context.cookies() if cookie["name"] == COOKIE)
    console.page.get_by_role("button", name="Sign out").click()
    expect(console.page.get_by_label("Key")).to_be_visible()
    assert [cookie for cookie in console.page.context.cookies() if cookie["name"] == COOKIE] == []
    reply = keyed.request("GET", "/v1/turns", headers={**OWN, "x-gateway-key": "", "cookie": f"{COOKIE}={value}"})
    assert reply.status == 401


def test_a_session_that_ended_asks_for_the_key_again(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    sign_in(console, KEY_OF_THE_OPERATOR)
    expect(console.page.get_by_role("navigation")).to_be_visible()
    value = next(cookie["value"] for cookie in console.page.context.cookies() if cookie["name"] == COOKIE)
    headers = {**OWN, "x-gateway-key": "", "cookie": f"{COOKIE}={value}"}
    assert keyed.request("DELETE", "/ui/session", headers=headers).status == 200
    console.open("/users")
    expect(console.page.get_by_label("Key")).to_be_visible()
    sign_in(console, KEY_OF_THE_OPERATOR)
    expect(console.page.get_by_role("navigation")).to_be_visible()
    assert console.page.url.endswith("/ui/users")


def test_pages_of_other_origins_can_use_no_session(keyed: GatewayProcess, browser: Browser) -> None:
    with open_console(browser, keyed.url) as console:
        console.open("/turns")
        sign_in(console, KEY_OF_THE_OPERATOR)
        expect(console.page.get_by_role("navigation")).to_be_visible()
        other = console.page.context.new_page()
        other.goto(keyed.url.replace("127.0.0.1", "localhost") + "/health")
        outcome = other.evaluate(
            """async (url) => {
              const attempts = [{}, {mode: "no-cors"}, {headers: {"x-gateway-console": "1"}}];
              const statuses = [];
              for (const options of attempts) {
                try { statuses.push((await fetch(url, {credentials: "include", ...options})).status); }
                catch { statuses.push("refused"); }
              }
              return statuses;
            }""",
            f"{keyed.url}/v1/memory/list?user=bob",
        )
        assert set(outcome) <= {0, "refused"}, outcome


def test_a_wrong_key_and_a_key_for_chat_are_refused_in_words(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    sign_in(console, "wrong")
    expect(console.page.get_by_role("alert")).to_contain_text("does not know this key")
    expect(console.page.get_by_label("Key")).to_be_focused()
    sign_in(console, "key-for-chat-alone")
    expect(console.page.get_by_role("alert")).to_contain_text("may only chat")
    assert console.page.get_by_role("navigation").count() == 0
    assert console.page.context.cookies() == []


def test_a_key_of_a_user_sees_this_user_only(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    sign_in(console, KEY_OF_ADA)
    expect(console.page.get_by_role("navigation")).to_be_visible()
    expect(console.page.locator("tbody tr.row")).not_to_have_count(0)
    assert console.page.get_by_role("link", name="Configuration").count() == 0
    texts = [console.text()]
    identifier = keyed.get("/v1/memory/list?user=bob")["data"][0]["id"]
    turn = next(turn for turn in keyed.get("/v1/turns?user=bob")["data"])
    for path in (
        *("/memories", "/memories?user=bob", f"/memories/{identifier}", f"/turns/{turn['id']}", "/turns?user=bob"),
        *("/health", "/users", "/settings", "/settings/maintenance", "/playground"),
    ):
        console.open(path)
        texts.append(console.text())
    assert not re.search("marzipan|Bob's", "\n".join(texts))
    console.open("/memories")
    expect(console.page.get_by_text("Ada's engine is called Difference.").first).to_be_visible()


def test_a_key_that_may_not_read_turns_begins_with_memories(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed, "/")
    sign_in(console, "key-of-an-app-with-memory")
    expect(console.page.get_by_role("heading", name="Memories", exact=True)).to_be_visible()
    assert console.page.get_by_role("link", name="Turns").count() == 0
    console.page.get_by_role("combobox", name="User").fill("bob")
    console.press("Enter")
    expect(console.page.get_by_text("Bob's secret is marzipan.").first).to_be_visible()


def test_the_sign_in_page_is_accessible(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    for options in ({"color_scheme": "light"}, {"color_scheme": "dark", "locale": "zh-CN"}):
        console = open_page(keyed, **options)
        assert console.axe() == []
        console.page.set_viewport_size({"width": 320, "height": 640})
        assert console.overflow() <= 0


def test_without_keys_the_console_is_open(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway)
    expect(console.page.get_by_role("navigation")).to_be_visible()
    assert console.page.get_by_role("button", name="Sign out").count() == 0
    assert console.page.context.cookies() == []
