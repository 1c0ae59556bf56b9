"""`gateway memory export` and `import`: memories to and from files, as JSON lines or Parquet."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gateway.cli.calling import NotAnswered, message_of
from gateway.maintenance.foreign_exports import foreign_format

__all__ = ["exported", "load", "save"]

_HEAD = 65_536  # bytes of a file from which its format is detected
_TIMEOUT = 600.0
_ROWS_AT_ONCE = 2_000
_BLOCK = 2**18  # bytes of a file that are sent at once
_NESTED = ("tags", "links", "info", "metadata")  # JSON text in a column of Parquet
_FRACTIONS = ("event_time", "created_at", "updated_at", "confidence")
_WHOLE = ("part", "version")


def exported(url: str, key: str, selection: Mapping[str, str | None]) -> Iterator[bytes]:
    """Stream the lines of an export. Raises NotAnswered."""
    query = urlencode({name: value for name, value in selection.items() if value})
    try:
        with _open_request(f"{url}/v1/memory/export?{query}", key) as response:
            yield from response
    except urllib.error.HTTPError as error:
        raise NotAnswered(message_of(error)) from error
    except OSError as error:
        raise NotAnswered(f"the export broke off: {error}; run it again") from error


def save(lines: Iterable[bytes], target: str, console: Console, *, with_vectors: bool) -> int:
    """Write an export to a file (by its ending: .parquet, else JSON lines), or to standard output (`-`). Returns the
    number of memories."""
    count = 0

    def counted(step: Callable[[], None]) -> Iterator[bytes]:
        nonlocal count
        for line in lines:
            count += 1
            step()
            yield line

    if target == "-":
        _write_lines(counted(lambda: None), sys.stdout.buffer)
        return count
    path = Path(target)
    unfinished = path.with_name(path.name + ".part")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed} memories"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("exporting", total=None)
        counted_lines = counted(lambda: bar.advance(task))
        if path.suffix == ".parquet":
            _write_parquet(counted_lines, unfinished, with_vectors=with_vectors)
        else:
            with unfinished.open("wb") as file:
                _write_lines(counted_lines, file)
    unfinished.replace(path)
    return count


def load(path: Path, url: str, key: str, tenant: str | None, console: Console) -> dict[str, Any]:
    """Import a file. Returns the answer of the gateway. Raises NotAnswered or OSError."""
    with path.open("rb") as file:
        kind = foreign_format(file.read(_HEAD))
    if kind and path.suffix != ".parquet":
        raise NotAnswered(f"{path} is {kind}")
    query = urlencode({"tenant": tenant} if tenant else {})
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("importing", total=path.stat().st_size)
        content = _parquet_lines(path, bar, task) if path.suffix == ".parquet" else _plain_blocks(path, bar, task)
        try:
            with _open_request(f"{url}/v1/memory/import?{query}", key, content) as response:
                result: dict[str, Any] = json.loads(response.read())
                return result
        except urllib.error.HTTPError as error:
            raise NotAnswered(message_of(error)) from error
        except OSError as error:
            raise NotAnswered(f"the import broke off: {error}; run it again, nothing is stored twice") from error


def _open_request(url: str, key: str, data: Iterable[bytes] | None = None) -> Any:
    headers = {"content-type": "application/x-ndjson"} | ({"x-gateway-key": key} if key else {})
    request = urllib.request.Request(url, data, headers)  # noqa: S310 — the operator's own address
    return urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 — as above


def _write_lines(lines: Iterable[bytes], file: IO[bytes]) -> None:
    file.writelines(lines)
    file.flush()


def _write_parquet(lines: Iterator[bytes], path: Path, *, with_vectors: bool) -> None:
    import pyarrow as pa  # noqa: PLC0415 — only this format needs it
    from pyarrow import parquet  # noqa: PLC0415

    from gateway.maintenance.transfer import COLUMNS, VECTOR_COLUMNS  # noqa: PLC0415 — as above

    kinds = {name: pa.float64() for name in _FRACTIONS} | {name: pa.int64() for name in _WHOLE}
    names = (*COLUMNS, *VECTOR_COLUMNS) if with_vectors else COLUMNS
    schema = pa.schema([pa.field(name, kinds.get(name, pa.utf8())) for name in names])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [_flatten(json.loads(line)) for line in islice(lines, _ROWS_AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: json.dumps(row[name], ensure_ascii=False) for name in _NESTED}


def _unflatten(row: dict[str, Any]) -> bytes:
    """The line of a row in a Parquet file."""
    plain = {name: json.loads(value) if name in _NESTED and value else value for name, value in row.items()}
    return json.dumps(plain, ensure_ascii=False).encode() + b"\n"


def _plain_blocks(path: Path, bar: Progress, task: Any) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            bar.advance(task, len(block))
            yield block


def _parquet_lines(path: Path, bar: Progress, task: Any) -> Iterator[bytes]:
    from pyarrow import parquet  # noqa: PLC0415 — only this format needs it

    try:
        file = parquet.ParquetFile(path)
        share = path.stat().st_size / max(file.metadata.num_rows, 1)
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            rows = batch.to_pylist()
            yield b"".join(_unflatten(row) for row in rows)
            bar.advance(task, share * len(rows))
    except (ValueError, TypeError) as error:  # raised by pyarrow and json for files of other formats
        raise NotAnswered(f"{path} is no export of a gateway: {str(error).splitlines()[0][:200]}") from error
