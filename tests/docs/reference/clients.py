"""Reference of the tested clients: packages from `data/clients.toml`, versions from the lock files."""

import json
import re
from typing import Any

from tests.docs.reference.tables import ROOT, code, load, table

__all__ = ["describe_agents", "describe_sdks"]

_FOLDER = ROOT / "tests" / "clients"


def describe_sdks() -> str:
    """A table of the SDKs and frameworks."""
    rows = [
        (f"{code(client['package'])} ({client['language']})", _version(client), client["covers"])
        for client in load("clients")["sdk"]
    ]
    return table(("client", "version", "covered"), rows)


def describe_agents() -> str:
    """A table of the coding agents."""
    rows = [(code(client["package"]), _version(client), client["format"]) for client in load("clients")["agent"]]
    return table(("agent", "version", "format"), rows)


def _version(client: dict[str, Any]) -> str:
    """The version in the lock file `lock`. Raises ValueError if there is not exactly one."""
    package, lock = client.get("locked_as", client["package"]), client["lock"]
    text = (_FOLDER / lock).read_text(encoding="utf-8")
    if lock.endswith(".json"):
        return str(json.loads(text)["packages"][f"node_modules/{package}"]["version"])
    versions = set(re.findall(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE | re.IGNORECASE))
    if len(versions) != 1:
        raise ValueError(f"{lock} has {len(versions)} versions of {package}")
    return str(versions.pop())
