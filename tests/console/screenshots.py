"""Writes the pictures of the console that the documentation shows: `docs/images/console-NAME.png`.

`python -m tests.console.screenshots` fills a gateway with presentable data, and opens each page.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser

from tests.console.browser import running_browser
from tests.console.console import Console, open_console
from tests.console.filling import correct_memory, fill_with_people
from tests.console.gateway import GatewayProcess, eventually, running_gateway, running_upstream

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 150_000
SECONDS_OF_HEALTH = 20
_COLOURS = 128
_QUESTIONS = (
    ("anna", "Suggest a dinner for Friday without peanuts."),
    ("ben", "How should the client library retry a failed request?"),
    ("anna", "Draft the first lines of my speech for Clara's wedding."),
    ("陈伟", "去成都出差的时候，我可以看到大熊猫吗？"),
    ("anna", "What was the moisture content of the glulam again?"),
    ("ben", "When are our releases, and who runs the pipeline?"),
    ("anna", "How long is the trip to the Azores?"),
    ("陈伟", "我对什么食物过敏？"),
)


def fill(gateway: GatewayProcess) -> None:
    """People, corrections, and turns with and without memories."""
    fill_with_people(gateway)
    correct_memory(gateway, "anna", "Graça", "I moved to Lisbon in September; the bakery in Graça is the best.")
    correct_memory(gateway, "ben", "staging database", "The staging database is PostgreSQL 18 since last week.")
    correct_memory(gateway, "陈伟", "自行车", "我住在杭州，现在坐地铁上班，大约三十分钟。")
    for number, (user, question) in enumerate(_QUESTIONS):
        gateway.chat(question, user, session=f"evening-{number}")
    gateway.settle()
    eventually(lambda: all(user["memories"] is not None for user in gateway.get("/v1/memory/users")["data"]))


@contextmanager
def filled_gateway() -> Iterator[GatewayProcess]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_upstream() as url,
        running_gateway(Path(folder), url) as gateway,
    ):
        fill(gateway)
        yield gateway


def hold_conversation(console: Console) -> None:
    """Chat in the playground, until the answer is there."""
    log = console.page.get_by_role("log")
    console.page.get_by_label("Message").fill("What is my cat called, and what am I allergic to?")
    console.press("Enter")
    log.get_by_text("Miso").first.wait_for()
    console.page.wait_for_function("() => !document.querySelector('[role=log][aria-busy=true]')")


def watch_health(console: Console, gateway: GatewayProcess) -> None:
    """Send chats while the page on health measures."""
    for number in range(SECONDS_OF_HEALTH):
        gateway.chat(f"Which bridge is of timber? ({number})", "anna", session="load", stream=number % 2 == 0)
        console.page.wait_for_timeout(1000)


def take(browser: Browser, gateway: GatewayProcess, name: str, path: str, **options: Any) -> None:
    """Write the picture of a page. `act` uses the page before."""
    act: Callable[[Console], None] | None = options.pop("act", None)
    with open_console(browser, gateway.url, reduced_motion="reduce", **options) as console:
        console.open(path)
        if act is not None:
            act(console)
        console.page.evaluate("document.activeElement.blur()")
        content = compress(console.page.screenshot())
    (IMAGES / f"console-{name}.png").write_bytes(content)
    print(f"console-{name}.png  {len(content) / 1000:.0f} kB", flush=True)
    assert len(content) < MOST_BYTES, f"{name} is too large"


def compress(png: bytes) -> bytes:
    """The picture with a palette, without dithering: pages have few colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    output = io.BytesIO()
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(output, "PNG", optimize=True)
    return output.getvalue()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with running_browser() as browser, filled_gateway() as gateway:
        turn = gateway.get(f"/v1/turns?user=anna&memory=hit&q={quote('moisture content')}")["data"][0]["id"]
        records = gateway.get("/v1/memory/list?user=anna&limit=100")["data"]
        memory = next(record["id"] for record in records if "bakery" in record["text"])
        for name, path in (
            ("turns", "/turns"),
            ("why", f"/turns/{turn}"),
            ("candidates", f"/turns/{turn}?tab=candidates"),
            ("memories", "/memories?user=anna"),
            ("timeline", "/memories?user=anna&view=timeline"),
            ("memory", f"/memories/{memory}"),
            ("users", "/users"),
            ("settings", "/settings"),
        ):
            take(browser, gateway, name, path)
        take(browser, gateway, "playground", "/playground?user=anna&mode=read", act=hold_conversation)
        take(browser, gateway, "turns-dark", "/turns", color_scheme="dark")
        take(browser, gateway, "memories-zh", f"/memories?user={quote('陈伟')}", locale="zh-CN")
        take(browser, gateway, "health", "/health?range=15m", act=lambda console: watch_health(console, gateway))


if __name__ == "__main__":
    main()
