"""Ten thousand memories and ten thousand turns: pages open at once and scroll without jank."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.console.conftest import OpenConsole
from tests.console.console import MOST_MILLISECONDS_TO_CONTENT, Console
from tests.console.filling import many_memories
from tests.console.gateway import GatewayProcess, run_helper, running_gateway

COUNT = 10_000
LONG_FRAME = 34.0  # milliseconds: two frames at 60 Hz
MOST_LONG_FRAMES = 0.1  # share, more than while nothing is scrolled: a machine that does other work drops some anyway
ATTEMPTS = 3
MOST_ROWS = 200  # in the page at once


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, upstream_url: str) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("large"), upstream_url) as gateway:
        gateway.import_lines(many_memories("walker", COUNT))
        run_helper("chats", gateway.url, str(COUNT))
        gateway.settle()
        yield gateway


def share_of_long_frames(durations: list[float]) -> float:
    return sum(duration > LONG_FRAME for duration in durations) / len(durations)


def share_of_lost_frames(console: Console) -> float:
    """The share of frames that are long because of scrolling; the best of some attempts."""
    shares = []
    for _ in range(ATTEMPTS):
        idle, _ = console.scroll_frames(".row-table", distance=0, frames=60)
        durations, top = console.scroll_frames(".row-table")
        assert top > 10_000
        shares.append(share_of_long_frames(durations) - share_of_long_frames(idle))
        if shares[-1] < MOST_LONG_FRAMES:
            break
        console.page.evaluate("document.querySelector('.row-table').scrollTop = 0")
    return min(shares)


@pytest.mark.parametrize("path", ["/turns", "/memories?user=walker"])
def test_long_lists_open_at_once_and_scroll_without_jank(
    large: GatewayProcess, open_page: OpenConsole, path: str
) -> None:
    console = open_page(large, path)
    assert console.first_content() < MOST_MILLISECONDS_TO_CONTENT
    expect(console.page.locator(".row-table tbody tr.row").nth(10)).to_be_visible()
    assert share_of_lost_frames(console) < MOST_LONG_FRAMES
    assert console.page.locator(".row-table tbody tr").count() < MOST_ROWS


def test_all_turns_can_be_reached(large: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(large)
    rows = console.page.get_by_role("grid")
    for _ in range(60):
        console.page.evaluate(
            "() => { const box = document.querySelector('.row-table'); box.scrollTop = box.scrollHeight; }"
        )
        if int(rows.get_attribute("aria-rowcount") or 0) > COUNT:
            break
        console.page.wait_for_timeout(100)
    assert int(rows.get_attribute("aria-rowcount") or 0) == COUNT + 1
    expect(console.page.locator("tbody tr.row").last).to_contain_text("Question ")


def test_a_long_list_is_filtered_at_once(large: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(large, "/turns?user=user-7")
    expect(console.page.get_by_role("grid")).to_have_attribute("aria-rowcount", str(COUNT // 100 + 1))
