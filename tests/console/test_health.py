"""The page on health: charts and tables from real numbers, zoomed by mouse and keyboard."""

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.console.conftest import OpenConsole
from tests.console.console import Console
from tests.console.gateway import GatewayProcess, running_gateway

CHARTS = 4


def wait_for_plots(console: Console, count: int = 1) -> None:
    expect(console.page.locator(".plot canvas")).not_to_have_count(0)
    assert console.page.locator(".plot canvas").count() >= count


def test_health_draws_what_happened(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health")
    wait_for_plots(console, 3)
    expect(console.page.locator("figure")).to_have_count(CHARTS)
    count = len(gateway.get("/v1/turns?limit=1000")["data"])
    assert re.search(rf"In this range: {count} turns", console.text())
    assert console.page.get_by_role("row", name=re.compile("^Recall ")).is_visible()
    assert console.page.get_by_role("row", name=re.compile("^scripted ")).get_by_text("closed").is_visible()


def test_every_chart_has_its_values_as_a_table(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health")
    wait_for_plots(console)
    console.press("p")
    chart = console.page.locator("figure", has_text="Status of memory")
    chart.get_by_text("Values as a table").click()
    assert "%" in chart.get_by_role("table").inner_text()
    assert console.axe() == []


def test_a_new_turn_is_counted_without_a_reload(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health")
    count = len(gateway.get("/v1/turns?limit=1000")["data"])
    expect(console.page.get_by_text(f"In this range: {count} turns")).to_be_visible()
    gateway.chat("One more for the charts.", "dora", session="health")
    expect(console.page.get_by_text(f"In this range: {count + 1} turns")).to_be_visible()
    console.press("p")
    expect(console.page.get_by_text("paused at")).to_be_visible()


def test_a_brush_zooms_and_the_address_keeps_it(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health")
    wait_for_plots(console)
    box = console.page.locator(".plot .u-over").first.bounding_box()
    assert box is not None
    height = box["y"] + box["height"] / 2
    console.page.mouse.move(box["x"] + box["width"] * 0.5, height)
    console.page.mouse.down()
    console.page.mouse.move(box["x"] + box["width"] * 0.99, height, steps=5)
    console.page.mouse.up()
    expect(console.page).to_have_url(re.compile(r"from=\d+&to=\d+"))
    zoomed = console.page.url
    console.page.reload()
    expect(console.page.get_by_role("button", name="Reset zoom")).to_be_visible()
    assert console.page.url == zoomed
    console.page.get_by_role("button", name="Reset zoom").click()
    expect(console.page).not_to_have_url(re.compile("from="))


def test_keys_zoom_and_move(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health?range=24h")

    def span(key: str) -> tuple[int, int]:
        before = console.page.url
        console.press(key)
        expect(console.page).not_to_have_url(before)
        match = re.search(r"from=(\d+)&to=(\d+)", console.page.url)
        assert match
        return int(match[1]), int(match[2])

    start, end = span("+")
    assert abs(end - start - 43_200) <= 2
    earlier = span("h")
    assert abs(start - earlier[0] - 21_600) <= 2
    assert span("l") == (start, end)
    wide = span("-")
    assert wide[0] < start
    console.press("r")
    expect(console.page).not_to_have_url(re.compile("from="))


def test_a_range_without_turns_is_said_in_words(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health?from=1000000&to=1003600")
    expect(console.page.get_by_text("Nothing in this range.").first).to_be_visible()
    nonsense = open_page(gateway, "/health?from=x&to=<b>&range=9y")
    expect(nonsense.page.get_by_role("button", name="1 hour")).to_have_attribute("aria-pressed", "true")


def test_charts_follow_the_theme(gateway: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(gateway, "/health", color_scheme="light")
    wait_for_plots(console)
    console.press("p")
    script = "[...document.querySelectorAll('.plot canvas')].map((canvas) => canvas.toDataURL()).join()"
    light = console.page.evaluate(script)
    console.page.get_by_label("Colours").select_option("dark")
    console.page.wait_for_function(f"(light) => {script} !== light", arg=light)


def test_a_key_of_one_user_sees_its_own_turns(keyed: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(keyed)
    console.page.get_by_label("Key").fill("key-of-ada-lovelace")
    console.press("Enter")
    console.page.get_by_role("link", name="Health", exact=True).click()
    console.wait()
    count = len(keyed.get("/v1/turns?user=ada&limit=1000")["data"])
    expect(console.page.get_by_text(f"In this range: {count} turns")).to_be_visible()
    assert "marzipan" not in console.text()


def test_a_new_gateway_teaches_how_to_fill_the_charts(folder: Path, upstream_url: str, open_page: OpenConsole) -> None:
    with running_gateway(folder, upstream_url) as empty:
        console = open_page(empty, "/health")
        expect(console.page.get_by_text("No turns yet")).to_be_visible()
        assert f"curl {empty.url}/v1/chat/completions" in console.text()
        assert console.axe() == []
        console.check()
        console.page.goto("about:blank")
        console.page.evaluate("window.violations = []; window.ranScripts = 0")
