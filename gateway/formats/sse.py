"""Parser of server-sent events from a byte stream cut anywhere. Sans I/O.

A line ends in LF, CRLF or CR; several `data:` lines of one event join with LF; comments and unknown fields are ignored
(WHATWG HTML, 9.2.6). A line over `max_line` bytes is dropped as a whole and reported by `has_overflow`.
"""

from dataclasses import dataclass

__all__ = ["Event", "EventParser"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (empty: a plain message) and its data."""

    name: bytes
    data: bytes

    def __bytes__(self) -> bytes:
        """The event in wire format."""
        name = b"event: " + self.name + b"\n" if self.name else b""
        return name + b"".join(b"data: " + line + b"\n" for line in self.data.split(b"\n")) + b"\n"


class EventParser:
    def __init__(self, max_line: int = 4 * 2**20) -> None:
        self._max_line = max_line
        self._rest = b""
        self._skips_lf = False
        self._drops_line = False
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._is_first = True
        self.has_overflow = False

    @property
    def is_mid_event(self) -> bool:
        """True if the last event is incomplete."""
        return bool(self._rest or self._data or self._name or self._drops_line)

    def feed_data(self, chunk: bytes) -> list[bytes]:
        """The data of the events that these bytes complete, without their names. Fast for the usual form: LF, and one
        `data: ` line in each event."""
        if b"\r" in chunk or self._data or self._name or self._drops_line or self._skips_lf or self._is_first:
            return [event.data for event in self.feed(chunk)]
        parts = (self._rest + chunk if self._rest else chunk).split(b"\n\n")
        self._rest = parts.pop()
        data: list[bytes] = []
        for part in parts:
            if part.startswith(b"data: ") and b"\n" not in part:
                data.append(part[6:])
            else:
                data += [event.data for event in self._parse_events(part)]
        if len(self._rest) > self._max_line:
            self._rest, self._drops_line, self.has_overflow = b"", True, True
        return data

    def _parse_events(self, part: bytes) -> list[Event]:
        events: list[Event] = []
        for line in [*part.split(b"\n"), b""]:
            self._take(line, events)
        return events

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if self._skips_lf and chunk:
            self._skips_lf = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        text = self._rest + chunk if self._rest else chunk
        if b"\r" in chunk:
            self._skips_lf = text.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = text.split(b"\n")
        self._rest = lines.pop()
        events: list[Event] = []
        for line in lines:
            self._take(line, events)
        if len(self._rest) > self._max_line:
            self._rest, self._drops_line, self.has_overflow = b"", True, True
        return events

    def end(self) -> list[Event]:
        """The last event if its empty line is missing; clients accept such an event too."""
        rest, self._rest = self._rest, b""
        return self._parse_events(rest)

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._drops_line:
            self._drops_line = False
            return
        if not line:
            if self._data:
                events.append(Event(self._name, b"\n".join(self._data)))
            self._name, self._data, self._data_size = b"", [], 0
            return
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data_size += len(value)
            if self._data_size > self._max_line:  # many lines together count like one long line
                self._data, self.has_overflow = [], True
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ")
