"""How far extraction has come in the journal, by part of the memory. Pure."""

from collections.abc import Callable, Collection, Mapping

__all__ = ["JournalPositions"]


class JournalPositions:
    """The numbers up to which all messages of a part are noted. `part_of`: the part of a scope; `owns`: true for scopes
    of parts that this process works on (None: all)."""

    def __init__(self, part_of: Callable[[str], int], owns: Callable[[str], bool] | None) -> None:
        self._part_of = part_of
        self._owns = owns
        self._newest: dict[int, int] = {}
        self._resumed: dict[int, int] = {}

    @property
    def newest(self) -> dict[int, int]:
        return dict(self._newest)

    def note(self, scope: str, seq: int) -> None:
        """All messages of the scope's part are noted up to a number."""
        part = self._part_of(scope)
        self._newest[part] = max(self._newest.get(part, 0), seq)

    def resume(self, earlier: Mapping[int, int], parts: Collection[int] | None = None) -> None:
        """Go on where an earlier process stopped (None: in all parts). It may have stored items of messages that are
        still queued, up to here."""
        for part in earlier.keys() | self._newest.keys() if parts is None else parts:
            self._resumed[part] = max(earlier.get(part, 0), self._newest.get(part, 0))

    def may_be_processed(self, scope: str, seq: int) -> bool:
        """True if an earlier process may have stored items of a message."""
        return seq <= self._resumed.get(self._part_of(scope), 0)

    def is_after(self, positions: Mapping[int, int], scope: str, seq: int) -> bool:
        """True if a message that this process works on comes after these positions."""
        return seq > positions.get(self._part_of(scope), 0) and (self._owns is None or self._owns(scope))
