"""A process that has loaded what a gateway loads, and is copied (`fork`) for each gateway or command that a test runs.

A start from nothing costs three seconds of processor time, most of it imports and the embedder's weights; a copy is
there at once, and can be killed as any process. Tests of the start itself run `python -m gateway`.
"""

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parents[2]
# libraries read these when they are loaded; `gateway.cli.main` sets them before
_FOR_LIBRARIES = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    os.environ.update(_FOR_LIBRARIES)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fakes.preloaded"])
    return context


def start(
    arguments: Sequence[str],
    *,
    output: Path,
    errors: Path,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    beside: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> BaseProcess:
    """Start `gateway ARGUMENTS`, which appends to the files `output` and `errors`. `environment` is added to ours;
    `beside`: a process whose namespaces (of users, mounts and networks) it enters;
    `prepare`: a function of a module that it calls first."""
    options = {
        "arguments": tuple(arguments),
        "files": (str(output), str(errors)),
        "folder": str(folder),
        "environment": {**os.environ, "COLUMNS": "200", **(environment or {})},
        "beside": beside,
        "prepare": prepare,
    }
    process = _context().Process(target=_run, kwargs=options, daemon=True)
    process.start()
    return process


def _run(
    *,
    arguments: Sequence[str],
    files: Sequence[str],
    folder: str,
    environment: dict[str, str],
    beside: int | None,
    prepare: Callable[[], None] | None,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(files, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(folder)
    if beside is not None:
        _enter(beside)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if prepare is not None:
        prepare()
    sys.argv = ["gateway", *arguments]
    from gateway.cli.main import main

    main()


def _enter(process: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    paths = [f"/proc/{process}/ns/{kind}" for kind in ("user", "mnt", "net")]
    own = [f"/proc/self/ns/{kind}" for kind in ("user", "mnt", "net")]
    others = [path for path, mine in zip(paths, own, strict=True) if os.readlink(path) != os.readlink(mine)]
    files = [os.open(path, os.O_RDONLY) for path in others]
    for file in files:
        if libc.setns(file, 0):
            raise OSError(ctypes.get_errno(), "setns")
    os.chdir(ROOT)
