"""The pages on memories: choosing a user, list, search, selection, timeline, history, and changes."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import OpenConsole
from tests.console.console import open_console
from tests.console.filling import DAY, memory_line
from tests.console.gateway import GatewayProcess, running_gateway

TEAM = (
    (60.0, "Carla's team has six people."),
    (30.0, "Carla's team has nine people, two of them in Dublin."),
    (5.0, "Carla's team has eight people, two of them in Dublin."),
)
NOTES = (
    (50.0, "My dog is called Bruno; he is afraid of thunder.", "pets"),
    (40.0, "The roof of the boat house leaks above the door.", "boats"),
    (20.0, "I borrowed the red kayak from Henrik.", "boats"),
    (10.0, "The ferry to Bornholm leaves at seven on Fridays.", "travel"),
)

_MANY_KEYS = """async () => {
  for (let count = 0; count < 250; count += 1) {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true, cancelable: true }));
    await new Promise((resume) => setTimeout(resume));
  }
}"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, upstream_url: str) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("memories"), upstream_url) as gateway:
        gateway.import_lines(team_lines("carla"))
        gateway.post("/v1/memory", {"user": "carla", "text": "I am allergic to peanuts."})
        yield gateway


@pytest.fixture
def person(filled: GatewayProcess, request: pytest.FixtureRequest) -> str:
    """A user of this test alone, with some memories."""
    user = request.node.name[:60]
    filled.import_lines(memory_line(user, text, age, session) for age, text, session in NOTES)
    return str(user)


@pytest.fixture(scope="module")
def modules(browser: Browser, filled: GatewayProcess) -> Iterator[Page]:
    """A page that can import the modules of the console."""
    with open_console(browser, filled.url) as console:
        console.open("/memories")
        yield console.page


def team_lines(user: str) -> list[dict[str, Any]]:
    """Three versions of a fact, each superseded by the next one."""
    lines = [{**memory_line(user, text, age, "team"), "kind": "fact"} for age, text in TEAM]
    for line, successor in itertools.pairwise(lines):
        line |= {"status": "archived", "updated_at": successor["event_time"]}
        line["info"] = {**line["info"], "held_until": successor["event_time"], "replaced_by": successor["id"]}
        successor["info"] = {"replaces": [line["id"]]}
    return lines


def rows(page: Page) -> list[str]:
    return list(page.locator("tbody tr.row").all_inner_texts())


def texts_of(gateway: GatewayProcess, user: str, **parameters: str) -> set[str]:
    query = "".join(f"&{name}={value}" for name, value in parameters.items())
    return {record["text"] for record in gateway.get(f"/v1/memory/list?user={user}&limit=100{query}")["data"]}


def run(page: Page, module: str, expression: str) -> Any:
    """The value of an expression in which `m` is a module of the console."""
    return page.evaluate(f"import('/ui/lib/{module}').then((m) => ({expression}))")


def test_a_user_is_chosen_by_keyboard(filled: GatewayProcess, open_page: OpenConsole) -> None:
    console = open_page(filled, "/memories")
    expect(console.page.get_by_role("link", name="carla", exact=True)).to_be_visible()
    console.press("/")
    console.page.keyboard.type("arl")
    expect(console.page.locator("tbody tr.row")).to_have_count(1)
    console.press("Escape", "j", "Enter")
    expect(console.page).to_have_url(re.compile(r"/ui/memories\?user=carla$"))
    expect(console.page.get_by_role("region", name="Profile")).to_contain_text("I am allergic to peanuts.")


def test_the_search_is_the_real_recall(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    console = open_page(filled, f"/memories?user={person}")
    console.press("/")
    console.page.keyboard.type("what is the dog's name")
    expect(console.page.locator("tbody tr.row").first).to_contain_text("Bruno")
    matches = filled.get(f"/v1/memory/search?user={person}&query=what is the dog's name&limit=200")["data"]
    expect(console.page.locator("tbody tr.row").first).to_contain_text(str(matches[0]["relativity"]))
    assert [row for row in rows(console.page) if "Bruno" in row] != []
    console.page.reload()
    expect(console.page.locator("tbody tr.row").first).to_contain_text("Bruno")


def test_filters_select_kind_conversation_and_archive(
    filled: GatewayProcess, open_page: OpenConsole, person: str
) -> None:
    filled.import_lines(team_lines(person))
    console = open_page(filled, f"/memories?user={person}")
    console.page.get_by_role("button", name="fact", exact=True).click()
    expect(console.page.locator("tbody tr.row")).to_have_count(1)
    console.open(f"/memories?user={person}&session=boats")
    expect(console.page.locator("tbody tr.row")).to_have_count(2)
    console.page.get_by_role("button", name="Clear filters").click()
    console.page.get_by_label("Archived").check()
    expect(console.page.locator("tbody tr.row")).to_have_count(2)
    expect(console.page.locator("tbody tr.row", has_text="team")).to_have_count(2)
    console.page.go_back()
    expect(console.page.locator("tbody tr.row")).to_have_count(5)


def test_selected_memories_are_forgotten_after_a_preview(
    filled: GatewayProcess, open_page: OpenConsole, person: str
) -> None:
    console = open_page(filled, f"/memories?user={person}")
    console.press("j", "x", "j", "j", "x")
    expect(console.page.get_by_text("2 selected")).to_be_visible()
    console.press("#")
    dialog = console.page.get_by_role("dialog")
    expect(dialog).to_contain_text("The ferry to Bornholm")
    expect(dialog).to_contain_text("The roof of the boat house")
    console.press("Escape")
    assert len(texts_of(filled, person)) == 4
    console.press("#")
    dialog.get_by_role("button", name="Forget 2").click()
    expect(console.page.locator("tbody tr.row")).to_have_count(2)
    assert texts_of(filled, person) == {NOTES[0][1], NOTES[2][1]}


def test_all_that_match_a_filter_are_forgotten(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    console = open_page(filled, f"/memories?user={person}&session=boats")
    console.page.get_by_label("Select all that are loaded").click()
    console.page.get_by_role("button", name="Forget all 2 that match").click()
    console.page.get_by_role("dialog").get_by_role("button", name="Forget 2").click()
    expect(console.page.get_by_text("No memory matches")).to_be_visible()
    assert texts_of(filled, person) == {NOTES[0][1], NOTES[3][1]}


def test_memories_are_archived_and_restored(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    console = open_page(filled, f"/memories?user={person}")
    console.press("j", "a")
    expect(console.page.locator("tbody tr.row")).to_have_count(3)
    assert texts_of(filled, person, archived="true") == {NOTES[3][1]}
    console.page.get_by_label("Archived").check()
    expect(console.page.locator("tbody tr.row")).to_have_count(1)
    console.page.get_by_label("Select all that are loaded").click()
    console.page.get_by_role("button", name="Restore").click()
    expect(console.page.get_by_text("No memory matches")).to_be_visible()
    assert len(texts_of(filled, person)) == 4


def test_a_memory_is_added(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    console = open_page(filled, f"/memories?user={person}")
    console.press("n")
    console.page.keyboard.type("The key of the boat house is under the third stone.")
    dialog = console.page.get_by_role("dialog")
    dialog.get_by_label("Date").or_(dialog.locator("[name=at]")).fill("2026-05-04T10:30")
    dialog.get_by_label("Tags").fill("keys, boats")
    dialog.get_by_role("button", name="Add a memory").click()
    expect(console.page.locator("tbody tr.row").last).to_contain_text("under the third stone")
    record = next(
        item for item in filled.get(f"/v1/memory/list?user={person}")["data"] if "third stone" in item["text"]
    )
    assert record["tags"] == ["keys", "boats"]
    assert record["at"].startswith("2026-05-04T")


def test_the_export_is_a_file_of_the_user_alone(
    filled: GatewayProcess, open_page: OpenConsole, person: str, folder: Path
) -> None:
    console = open_page(filled, f"/memories?user={person}")
    with console.page.expect_download() as download:
        console.page.get_by_role("button", name="Export").click()
    download.value.save_as(folder / "export")
    lines = (folder / "export").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["owner"] for line in lines} == {person}
    assert len(lines) == len(NOTES)


def test_the_timeline_shows_what_was_valid_at_a_moment(
    filled: GatewayProcess, open_page: OpenConsole, person: str
) -> None:
    filled.import_lines(team_lines(person))
    moment = filled.get(f"/v1/memory/timeline?user={person}")["data"][0]["valid_from"]
    console = open_page(filled, f"/memories?user={person}&view=timeline")
    lanes = console.page.locator(".lanes li")
    expect(lanes).to_have_count(5)
    expect(lanes.first).to_contain_text("eight people")
    expect(lanes.first.locator(".span")).to_have_count(3)
    console.open(f"/memories?user={person}&view=timeline&as_of={moment.replace('+', '%2B')}")
    expect(lanes.first).to_contain_text("six people")
    expect(console.page.get_by_text("1 of 5 memories were valid")).to_be_visible()
    console.page.get_by_role("link", name="Show as a list").click()
    expect(console.page.locator("tbody tr.row")).to_have_count(1)
    console.page.go_back()
    console.page.get_by_role("slider", name="As of").focus()
    console.press("End")
    expect(lanes.first).to_contain_text("eight people")
    expect(console.page).not_to_have_url(re.compile("as_of"))


def test_a_part_of_the_timeline_is_chosen_by_keyboard_and_by_dragging(
    filled: GatewayProcess, open_page: OpenConsole, person: str
) -> None:
    console = open_page(filled, f"/memories?user={person}&view=timeline")
    lanes, page = console.page.locator(".lanes li"), console.page
    box = page.locator(".overview").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.15, middle, steps=4)
    page.mouse.up()
    expect(lanes).to_have_count(1)
    expect(lanes).to_contain_text("Bruno")
    expect(page).to_have_url(re.compile("[?&]from="))
    page.reload()
    expect(lanes).to_have_count(1)
    console.press("0")
    expect(lanes).to_have_count(4)
    console.press("j", "j", "Enter")
    expect(page.locator("article")).to_contain_text("The roof of the boat house")


def test_a_memory_shows_its_history_and_relations(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    lines = team_lines(person)
    filled.import_lines(lines)
    console = open_page(filled, f"/memories/{lines[2]['id']}")
    history = console.page.get_by_role("region", name="History")
    assert history.locator("del").all_inner_texts() == ["nine", "six"]
    assert history.locator("ins").all_inner_texts() == ["eight", "nine", ", two of them in Dublin"]
    console.page.get_by_role("region", name="Related memories").get_by_role("link").click()
    expect(console.page.locator("article")).to_contain_text("nine people")
    expect(console.page.get_by_text("Replaced on")).to_contain_text("eight people")


def test_a_change_can_be_undone(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    record = filled.get(f"/v1/memory/list?user={person}")["data"][0]
    console = open_page(filled, f"/memories/{record['id']}")
    console.press("e")
    console.page.get_by_role("dialog").get_by_label("Text").fill("The ferry to Bornholm leaves at nine on Fridays.")
    console.page.get_by_role("button", name="Save").click()
    expect(console.page.locator("article")).to_contain_text("leaves at nine")
    expect(console.page.locator("del")).to_have_text("seven")
    console.press("u")
    expect(console.page.locator("article")).to_contain_text("leaves at seven")
    assert filled.get(f"/v1/memory/{record['id']}")["text"] == record["text"]


@pytest.mark.parametrize(
    "path", ["/memories/users", "/memories/%2e%2e%2fusers", "/memories?user=carla&as_of=soon", f"/memories/{'f' * 32}"]
)
def test_a_wrong_address_is_answered_in_words(filled: GatewayProcess, open_page: OpenConsole, path: str) -> None:
    console = open_page(filled, path)
    expect(console.page.locator("main .note")).to_be_visible()


def test_many_keys_in_a_second_move_the_selection(filled: GatewayProcess, open_page: OpenConsole, person: str) -> None:
    filled.import_lines(memory_line(person, f"Note {number}.", number / 10 + 100) for number in range(300))
    console = open_page(filled, f"/memories?user={person}")
    console.page.evaluate(_MANY_KEYS)
    expect(console.page.locator("tr[aria-selected=true]")).to_contain_text("Note 245.")
    identity = filled.get(f"/v1/memory/list?user={person}&limit=250")["data"][249]["id"]
    expect(console.page).to_have_url(re.compile(identity))


@pytest.mark.parametrize(
    ("before", "after", "pieces"),
    [
        ("a b c", "a b c", [("same", "a b c")]),
        ("", "new", [("added", "new")]),
        ("old", "", [("removed", "old")]),
        ("I live in Berlin.", "I live in Munich.", "I live in |-Berlin|+Munich|."),
        ("the red old boat is there", "the big new boat is there", "the |-red old|+big new| boat is there"),
        ("我住在上海。", "我住在苏州。", "我住在|-上海|+苏州|。"),
        ("apples", "Nothing in common", "-apples|+Nothing in common"),
    ],
)
def test_differences_are_by_words(modules: Page, before: str, after: str, pieces: Any) -> None:
    result = run(modules, "diff.js", f"m.diffWords({json.dumps(before)}, {json.dumps(after)})")
    if isinstance(pieces, str):
        kinds = {"-": "removed", "+": "added"}
        pieces = [(kinds[part[0]], part[1:]) if part[0] in kinds else ("same", part) for part in pieces.split("|")]
    assert [(piece["kind"], piece["text"]) for piece in result] == pieces


def test_differences_of_long_texts_take_no_long_time(modules: Page) -> None:
    expression = "(() => { const start = performance.now(); m.diffWords('a b '.repeat(2e4), 'b a '.repeat(2e4)); "
    assert run(modules, "diff.js", expression + "return performance.now() - start; })()") < 2000


def test_versions_share_a_lane_unless_they_overlap(modules: Page) -> None:
    records = [
        {"id": "a", "valid_from": moment(0), "valid_to": moment(5), "replaced_by": "b"},
        {"id": "b", "valid_from": moment(5), "valid_to": None, "replaces": ["a"]},
        {"id": "c", "valid_from": moment(2), "valid_to": moment(7), "edit_of": "b"},
        {"id": "d", "valid_from": moment(1), "valid_to": None},
    ]
    lanes = run(modules, "timeline.js", f"m.buildLanes({json.dumps(records)})")
    assert [([bar["record"]["id"] for bar in lane["bars"]], lane["isContinued"]) for lane in lanes] == [
        (["a", "b"], False),
        (["c"], True),
        (["d"], False),
    ]


@pytest.mark.parametrize("days", [0.01, 0.2, 1, 3, 20, 100, 400, 3000, 30_000])
def test_an_axis_has_some_marks_in_order(modules: Page, days: float) -> None:
    begin = 1_790_000_000_000
    end = begin + round(days * DAY * 1000)
    ticks = run(modules, "timeline.js", f"m.buildTicks({begin}, {end}, 7)")
    marks = ticks["marks"]
    assert marks == sorted(set(marks))
    assert 1 <= len(marks) <= 8
    assert all(begin <= mark <= end for mark in marks)


def test_a_span_stays_within_its_limits(modules: Page) -> None:
    limited = run(modules, "timeline.js", "[m.limitSpan(-9e6, 5e6, 0, 8e6), m.limitSpan(3e6, 3e6, 0, 8e6), m.SHORTEST]")
    assert limited[0] == [0, 8e6]
    assert limited[1] == [3e6 - limited[2] / 2, 3e6 + limited[2] / 2]


def moment(day: int) -> str:
    return f"2026-03-{day + 1:02}T00:00:00.000000+00:00"
