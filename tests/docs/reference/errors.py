"""Reference of the error codes: statuses from `gateway/errors.py` and the places that raise an error with another code;
meanings from `data/errors.toml`."""

import ast
from collections.abc import Iterator

from gateway import errors
from tests.docs.reference.tables import ROOT, code, load, table

__all__ = ["codes", "describe_errors"]

_SET_APART = {"bad_http": 400, "method_not_allowed": 405}
"""Codes of errors whose status the HTTP library determines."""
_CLASSES: dict[str, type[errors.GatewayError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.GatewayError)
}


def describe_errors() -> str:
    """A table of all codes, by status."""
    meanings = load("errors")["codes"]
    found = codes()
    if meanings.keys() != found.keys():
        raise ValueError(f"errors.toml and the code differ: {sorted(meanings.keys() ^ found.keys())}")
    rows = [
        (", ".join(map(str, sorted(statuses))) or "varies", code(name), meanings[name])
        for name, statuses in sorted(found.items(), key=lambda item: (min(item[1], default=999), item[0]))
    ]
    return table(("status", "code", "meaning"), rows)


def codes() -> dict[str, set[int]]:
    """Every error code with its HTTP statuses; an empty set for the codes whose status varies."""
    found: dict[str, set[int]] = {}
    for kind in _CLASSES.values():
        if kind.code:
            found.setdefault(kind.code, set()).add(kind.status)
    for folder in ("gateway", "plugins"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for name, status in _literals(ast.parse(file.read_text(encoding="utf-8"))):
                found.setdefault(name, set()).update({status} - {0})
    found["rejected"] = set()  # a plugin chooses the status
    return found | {name: {status} for name, status in _SET_APART.items()}


def _literals(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the literal codes of calls and assignments, with the status; 0 if it is not known from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and keyword.value.value:
                    yield str(keyword.value.value), _status(node)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and target.attr == "code" and node.value.value:
                yield str(node.value.value), 0


def _status(call: ast.Call) -> int:
    """The status of the error that a call makes: that of its class, or the first argument of `Reject`."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    first = call.args[0] if call.args else None
    if name == "Reject" and isinstance(first, ast.Constant):
        return int(str(first.value))
    return _CLASSES[name].status if name in _CLASSES and name != "GatewayError" else 0
