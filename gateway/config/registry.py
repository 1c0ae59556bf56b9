"""Tables of the kinds that a configuration can name: built-in ones, and those that a process or a package adds."""

import importlib.metadata
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from gateway.config.names import check_name

__all__ = ["KindRegistry", "Named"]


class Named(Protocol):
    """A kind, by the name under which a configuration selects it."""

    @property
    def name(self) -> str: ...


Kind = TypeVar("Kind", bound=Named)


class KindRegistry(Generic[Kind]):
    """The kinds of one part by name.

    An installed package adds a kind by an entry point of `group` that has the kind's name and leads to an instance of
    `type_`. It is loaded when a configuration selects it, never before.
    """

    def __init__(self, group: str, type_: type[Kind], built_in: Iterable[Kind]) -> None:
        self._group = group
        self._type = type_
        self._kinds = {kind.name: kind for kind in built_in}
        self._sources: dict[str, str] = {}

    def __getitem__(self, name: str) -> Kind:
        """A kind that was found before."""
        return self._kinds[name]

    def __iter__(self) -> Iterator[Kind]:
        """All kinds but those of packages that were not found before."""
        return iter(tuple(self._kinds.values()))

    def register(self, kind: Kind) -> None:
        """Add a kind, before the configuration is read. Raises ValueError if its name is taken."""
        if kind.name in self._kinds:
            raise ValueError(f"there is a kind {kind.name!r} already")
        self._kinds[kind.name] = kind

    def unregister(self, name: str) -> None:
        """Remove a kind that was added."""
        del self._kinds[name]
        self._sources.pop(name, None)

    def check(self, value: Any) -> str:
        """Return the value if it is the name of a kind, which is loaded if a package has it. Raises ValueError."""
        if not isinstance(value, str) or self.find(value) is None:
            installed = importlib.metadata.entry_points(group=self._group).names
            check_name(value, dict.fromkeys((*self._kinds, *sorted(installed))))
        return str(value)

    def find(self, name: str) -> Kind | None:
        """The kind of this name, loaded if a package has it; None if there is none. Raises ValueError if its package
        cannot be used."""
        if name not in self._kinds:
            points = list(importlib.metadata.entry_points(group=self._group, name=name))
            if not points:
                return None
            self._kinds[name], self._sources[name] = self._load(points)
        return self._kinds[name]

    def source(self, name: str) -> str:
        """The package that a kind was loaded from, with its version; empty for others."""
        return self._sources.get(name, "")

    def _load(self, points: list[importlib.metadata.EntryPoint]) -> tuple[Kind, str]:
        point, sources = points[0], sorted(map(_package_of, points))
        if len(sources) > 1:
            raise ValueError(f"more than one package has the kind {point.name!r}: {', '.join(sources)}")
        where = f"the kind {point.name!r} of {sources[0]} ({point.value})"
        try:
            kind = point.load()
        except (Exception, SystemExit) as error:
            raise ValueError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(kind, self._type):
            raise ValueError(f"{where} is no {self._type.__name__}, but of type {type(kind).__name__}")
        if kind.name != point.name:
            raise ValueError(f"{where} calls itself {kind.name!r}")
        return kind, sources[0]


def _package_of(point: importlib.metadata.EntryPoint) -> str:
    package = point.dist
    return "an unknown package" if package is None else f"{package.name} {package.version}"
