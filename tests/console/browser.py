"""The browser that the tests of the console drive: Chromium of the system, without a download of playwright's own.

`python -m tests.console.browser` installs it where that needs no question: as root on Debian or Ubuntu.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

__all__ = ["find_browser", "running_browser"]

VARIABLE: Final = "CONSOLE_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--font-render-hinting=none", "--force-color-profile=srgb")
_ADVICE = f"""The tests of the console need a browser: Chromium or Chrome.
Install it with the system's packages (Debian, Ubuntu: apt-get install chromium; Fedora: dnf install chromium;
macOS: brew install --cask chromium), or set {VARIABLE} to the path of its program."""


def find_browser() -> str | None:
    """The path of the browser's program: that of the environment variable, or else the first in PATH."""
    path = os.environ.get(VARIABLE)
    if path:
        return shutil.which(path)
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    path = find_browser()
    assert path, _ADVICE
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def main() -> None:
    """Install a browser if there is none; exit with advice where it must be done by hand."""
    is_debian = shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0
    if find_browser() is None and VARIABLE not in os.environ and is_debian:
        print("installing chromium ...", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ("chromium", "fonts-dejavu-core", "fonts-noto-cjk")
        for command in (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", *packages)):
            subprocess.run(("apt-get", *command), env=environment, stdout=subprocess.DEVNULL, check=False)
    if find_browser() is None:
        sys.exit(_ADVICE)


if __name__ == "__main__":
    main()
