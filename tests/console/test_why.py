"""The page that explains a turn: what it shows where something is missing or changes, and the ways from it and back."""

from playwright.sync_api import expect

from tests.console.conftest import OpenConsole
from tests.console.gateway import GatewayProcess


def explained_turn(gateway: GatewayProcess, user: str, *texts: str) -> str:
    """The id of a turn that got these memories of a user."""
    for text in texts:
        gateway.post("/v1/memory", {"user": user, "text": text})
    gateway.settle()
    return gateway.chat("What do you know of my garden?", user, session="garden").headers["x-gateway-request-id"]


def test_several_candidates_are_changed_one_after_another(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    turn = explained_turn(gateway, "karla", "My garden has a plum tree.", "My garden has a pond with two frogs.")
    console = open_page(gateway, f"/turns/{turn}?tab=candidates")
    candidate = console.page.locator(".candidate")
    expect(candidate).to_have_count(2)
    candidate.filter(has_text="frogs").get_by_role("button", name="Forget").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Forget 1").click()
    expect(candidate.filter(has_text="frogs")).to_contain_text("forgotten")
    assert candidate.filter(has_text="frogs").get_by_role("button").count() == 0
    candidate.filter(has_text="plum").get_by_role("button", name="Edit").click()
    console.page.get_by_role("dialog").get_by_role("textbox").fill("My garden has a pear tree.")
    console.page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(candidate.filter(has_text="plum")).to_contain_text("edited")
    texts = [record["text"] for record in gateway.get("/v1/memory/list?user=karla")["data"]]
    assert sorted(text for text in texts if "garden has" in text) == ["My garden has a pear tree."]


def test_the_way_back_leads_to_the_list_as_it_was(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/turns?user=ben&q=outage")
    console.page.locator("tbody tr.row a").first.click()
    expect(console.page.get_by_role("heading", name="Why this answer")).to_be_visible()
    console.page.get_by_role("link", name="← Turns").click()
    expect(console.page.get_by_role("searchbox")).to_have_value("outage")
    expect(console.page.get_by_role("button", name="ben", pressed=True)).to_be_visible()


def test_an_error_of_the_upstream_is_named(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    turn = gateway.get("/v1/turns?model=broken-1")["data"][0]["id"]
    console = open_page(gateway, f"/turns/{turn}")
    expect(console.page.locator("main")).to_contain_text("The upstream answered with an error of its own, status 400.")


def test_the_columns_of_the_turns_are_whole_on_a_large_screen(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, viewport={"width": 2560, "height": 1400})
    cut = "cells => cells.filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent)"
    assert console.page.locator("tbody td.number").evaluate_all(cut) == []
