"""A checkout of another commit beside the working tree, removed at the end."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import ROOT

__all__ = ["checkout", "short_name"]

_BUILD = "gateway.native.build"  # compiles in place, where a commit has it


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder, compiled as far as it can be. Raises CalledProcessError."""
    parent = Path(tempfile.mkdtemp(prefix="gateway-checkout-"))
    folder = parent / "tree"
    _git("worktree", "add", "--quiet", "--detach", str(folder), revision)
    try:
        _run([sys.executable, "-m", "compileall", "-q", "gateway", "plugins"], folder)
        if (folder / Path(*_BUILD.split(".")).with_suffix(".py")).exists():
            _run([sys.executable, "-m", _BUILD], folder)
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))
        shutil.rmtree(parent, ignore_errors=True)


def short_name(revision: str = "HEAD") -> str:
    """The short hash of a commit. Raises CalledProcessError."""
    return _git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}").strip()


def _git(*arguments: str) -> str:
    return _run(["git", *arguments], ROOT)


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
