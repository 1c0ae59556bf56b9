"""The console in a browser, watched: what a page must never do is collected while it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

__all__ = ["MOST_MILLISECONDS_TO_CONTENT", "Console", "open_console"]

AXE = Path(__file__).parents[2] / ".venvs" / "console" / "node_modules" / "axe-core" / "axe.min.js"
MOST_MILLISECONDS_TO_CONTENT = 1000.0
_LOADS = 3
_LOOKS, _PAUSE = 20, 100  # milliseconds
_WATCH = """
window.violations = [];
window.ranScripts = 0;
window.alert = window.prompt = window.confirm = () => { window.ranScripts += 1; };
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
_FOCUS = """() => {
  const { activeElement: element } = document;
  return element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.textContent || "";
}"""
_FRAMES = """async ({ selector, distance, frames }) => {
  const box = document.querySelector(selector);
  const deltas = [];
  let before = await new Promise(requestAnimationFrame);
  for (let count = 0; count < frames; count += 1) {
    box.scrollTop += distance;
    const now = await new Promise(requestAnimationFrame);
    deltas.push(now - before);
    before = now;
  }
  return { deltas, top: box.scrollTop };
}"""


class Console:
    """A page of the console. `problems` are errors, violations and requests elsewhere that were seen."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.add_init_script(_WATCH)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._note_request)

    def open(self, path: str) -> None:
        """Open a page and wait until it has loaded its data."""
        self.page.goto(f"{self.url}/ui{path}")
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is loading."""
        self.page.wait_for_selector("main")
        expect(self.page.locator("[aria-busy=true], p[class=muted][role=status]")).to_have_count(0, timeout=15_000)

    def text(self) -> str:
        return str(self.page.inner_text("body"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focus_by_tab(self, words: str, most: int = 60) -> None:
        """Move the focus with the Tab key until it is at a control of this name."""
        names = []
        for _ in range(most):
            self.press("Tab")
            name = self.page.evaluate(_FOCUS)
            names.append(name.strip())
            if words in name:
                return
        raise AssertionError(f"{words!r} cannot be reached with Tab: {names}")

    def axe(self) -> list[str]:
        """What axe-core finds wrong with the page."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        result: dict[str, Any] = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{violation['id']}: {violation['help']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for violation in result["violations"]
            for node in violation["nodes"][:3]
        ]

    def first_content(self) -> float:
        """Milliseconds from the start of the navigation until the browser painted something.

        The best of some loads, since a machine that does other work delays single ones.
        """
        shortest = self._paint_time()
        for _ in range(_LOADS):
            if shortest < MOST_MILLISECONDS_TO_CONTENT:
                break
            self.page.reload()
            self.wait()
            shortest = min(shortest, self._paint_time())
        return shortest

    def _paint_time(self) -> float:
        return float(self.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window, when charts and tables have taken their new size."""
        width = 0
        for _ in range(_LOOKS):
            width = int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
            if width <= 0:
                break
            self.page.wait_for_timeout(_PAUSE)
        return width

    def scroll_frames(self, selector: str, *, distance: int = 400, frames: int = 120) -> tuple[list[float], float]:
        """The durations of frames, in milliseconds, while a box is scrolled; and its position at the end."""
        result = self.page.evaluate(_FRAMES, {"selector": selector, "distance": distance, "frames": frames})
        return list(map(float, result["deltas"])), float(result["top"])

    def check(self) -> None:
        """Raise AssertionError if anything was seen that must never be."""
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("window.ranScripts") == 0
        assert self.problems == []

    def _note_message(self, message: ConsoleMessage) -> None:
        # a response of 4xx is the answer to a question of the page, which shows it
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.problems.append(f"console: {message.text}")

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).scheme not in ("data", "blob") and not request.url.startswith(f"{self.url}/"):
            self.problems.append(f"elsewhere: {request.url}")


@contextmanager
def open_console(browser: Browser, url: str, **options: Any) -> Iterator[Console]:
    """A console in a browser's context of its own, as for another person. It is checked at the end."""
    options = {"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", **options}
    context = browser.new_context(**options)
    context.set_default_timeout(15_000)
    try:
        console = Console(context.new_page(), url)
        yield console
        console.check()
    finally:
        context.close()
