"""Fetches the libraries of the console from npm again, and compares them with the copies in `gateway/ui`.

`python -m tests.console.vendor` needs a network and npm (`make environments` brings it). It changes no file.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

__all__ = ["compare"]

ROOT = Path(__file__).parents[2]
UI = ROOT / "gateway" / "ui"
NODE = ROOT / ".venvs" / "node" / "bin"
_LICENCE = re.compile(r"licen[cs]e(?:\.(?:md|txt))?", re.IGNORECASE)


def compare(file: dict[str, str], package: Path) -> list[str]:
    """The differences between a copy and the published file, with those of the licence."""
    differences = []
    content = (package / file["path"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != file["sha256"]:
        differences.append(f"{file['name']}: {file['package']} {file['version']} has another {file['path']}")
    if content != (UI / "static" / "vendor" / file["name"]).read_bytes():
        differences.append(f"{file['name']}: the copy was changed")
    licences = [path.read_text(encoding="utf-8").split() for path in package.iterdir() if _LICENCE.fullmatch(path.name)]
    if (UI / "licenses" / file["license_file"]).read_text(encoding="utf-8").split() not in licences:
        differences.append(f"{file['name']}: the package has another licence text")
    return differences


def _fetch(package: str, version: str, folder: Path) -> Path:
    """Download and unpack a package; return its folder."""
    environment = {**os.environ, "PATH": f"{NODE}{os.pathsep}{os.environ.get('PATH', '')}"}
    npm = shutil.which("npm", path=environment["PATH"])
    if npm is None:
        sys.exit("npm is needed: `make environments` brings it")
    command = (npm, "pack", f"{package}@{version}", "--silent", "--ignore-scripts", "--pack-destination", str(folder))
    result = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    target = folder / f"{package.replace('/', '-')}-{version}"
    with tarfile.open(folder / result.stdout.split()[-1]) as archive:
        archive.extractall(target, filter="data")
    return target / "package"


def main() -> None:
    """Print each difference; exit with 1 if there is any."""
    files = tomllib.loads((UI / "vendor.toml").read_text(encoding="utf-8"))["file"]
    differences: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folders: dict[str, Path] = {}
        for file in files:
            name = file["package"]
            folders[name] = folders.get(name) or _fetch(name, file["version"], Path(temporary))
            differences += compare(file, folders[name])
    print("\n".join(differences) or f"{len(files)} files are as published")
    sys.exit(bool(differences))


if __name__ == "__main__":
    main()
