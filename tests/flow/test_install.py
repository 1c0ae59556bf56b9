"""The program as it is installed: a real wheel, in environments made by uv and by pip, in an empty folder."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.clients import ROOT
from tests.fakes.running import eventually

SITE = next(Path(path) for path in sys.path if path.endswith("site-packages"))
FACT = "My cat is called Miso."


class Installed:
    """A way to run the installed program: the command in front of its arguments, and its environment."""

    def __init__(self, folder: Path, way: "Way") -> None:
        self.home = folder / "home"
        self.here = folder / "empty"
        self.data = self.home / ".local" / "share" / "memory-gateway"
        self.command = way.command
        self.way = way
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "UV_CACHE_DIR": str(way.folder / "cache"),
            "PYTHONPATH": str(way.folder / "dependencies"),
            "COLUMNS": "200",
        }
        for path in (self.home, self.here):
            path.mkdir(exist_ok=True)

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.command, *arguments],
            capture_output=True,
            text=True,
            cwd=self.here,
            env=self.environment | environment,
            timeout=60,
            check=False,
        )

    @asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator[tuple[str, str]]:
        """The URL of a started gateway, and what it wrote to standard error."""
        log = self.home / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(  # noqa: ASYNC220 — its output is read in a thread
                [*self.command, "serve", "--port", "0", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.here,
                env=self.environment,
            )
        assert process.stdout is not None
        try:
            line = ""
            while not (url := re.search(r"http://127\.0\.0\.1:\d+", line)):
                line = await asyncio.to_thread(process.stdout.readline)
                assert line, log.read_text()
            yield url.group(), log.read_text()
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)
            process.stdout.close()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@dataclass
class Way:
    """A way to install the wheel: the command that runs the program, and the package, if its place is known."""

    folder: Path
    command: list[str]
    package: Path | None = None


@pytest.fixture(scope="module", params=["uvx", "pip"])
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Way:
    """The wheel, installed as the parameter says; its dependencies are those of the tests' own environment."""
    folder = tmp_path_factory.mktemp(request.param)
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for path in SITE.iterdir():
        if path.name != "gateway" and not path.name.startswith("memory_gateway"):
            (dependencies / path.name).symlink_to(path)
    if request.param == "uvx":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        names = [re.split(r"[<>=;\[ ]", line)[0] for line in project["dependencies"]]
        (folder / "overrides").write_text("".join(f"{name}; python_version < '3'\n" for name in names))
        uv = [str(SITE.parents[2] / "bin" / "uv"), "tool", "run", "--offline", "--quiet", "--python", sys.executable]
        return Way(folder, [*uv, "--overrides", str(folder / "overrides"), "--from", str(wheel), "memory-gateway"])
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    package = next(environment.glob("lib/python*/site-packages/gateway"))
    return Way(folder, [str(environment / "bin" / "memory-gateway")], package)


@pytest.fixture
def installed(way: Way, tmp_path: Path) -> Installed:
    """The installed program, with a home of this test's own."""
    return Installed(tmp_path, way)


def package_of(installed: Installed) -> Path:
    """The folder of the installed package."""
    way = installed.way
    if way.package is None:
        installed.run("--version")  # makes the environment in uv's cache
        way.package = next(way.folder.glob("cache/archive-v*/*/lib/python*/site-packages/gateway"))
    return way.package


async def say(url: str, text: str) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"model": "default", "messages": [{"role": "user", "content": text}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            assert response.status == 200
            await response.read()


async def texts(url: str) -> list[str]:
    async with aiohttp.ClientSession() as session:

        async def is_ready() -> bool:
            async with session.get(f"{url}/ready") as response:
                state = await response.json()
            return bool(state["memory"] == "ready" and state["journal_backlog"] == 0)

        await eventually(is_ready, 30)
        async with session.get(f"{url}/v1/memory/export") as response:
            return [json.loads(line)["text"] for line in (await response.read()).splitlines()]


async def test_an_installed_gateway_keeps_its_memory_outside_the_package(installed: Installed) -> None:
    async with installed.serving() as (url, _):
        await say(url, FACT)
        assert FACT in await texts(url)
    assert (installed.data / "meta.json").exists()
    assert not (await asyncio.to_thread(package_of, installed) / "data").exists()
    checked = await asyncio.to_thread(installed.run, "check")
    assert str(installed.data) in checked.stdout
    other = installed.home / "other"
    async with installed.serving("--data", str(other)) as (url, _):
        assert await texts(url) == []
    assert (other / "meta.json").exists()
    named = await asyncio.to_thread(lambda: installed.run("check", GATEWAY_DATA=str(installed.home / "third")))
    assert str(installed.home / "third") in named.stdout


async def test_a_memory_inside_the_package_is_moved_out_of_it(installed: Installed) -> None:
    async with installed.serving() as (url, _):
        await say(url, FACT)
    package = await asyncio.to_thread(package_of, installed)
    installed.data.rename(package / "data")
    async with installed.serving() as (url, log):
        assert "moved the memory of an earlier version" in log
        assert FACT in await texts(url)
    assert not (package / "data").exists()


def test_a_data_folder_inside_a_package_or_a_cache_is_refused(installed: Installed) -> None:
    package = package_of(installed)
    refused = installed.run("check", "--data", str(package / "data"))
    assert refused.returncode == 2
    assert "inside the folder of installed Python packages" in refused.stderr
    cache = installed.home / ".cache" / "some"
    refused = installed.run("check", "--data", str(cache))
    assert (refused.returncode, "inside a cache" in refused.stderr) == (2, True)
    tagged = installed.home / "tagged"
    tagged.mkdir()
    (tagged / "CACHEDIR.TAG").touch()
    assert "inside a cache" in installed.run("check", GATEWAY_DATA=str(tagged / "data")).stderr
