"""Files of rows: CSV, TSV, JSONL and Parquet, read column by column, with the place of each row.

A row's number is the line it starts in, counted from 1, in a text file; in Parquet the row's own, from 1. A byte order mark at
the start of a file is dropped, empty lines are passed over, and columns that the task does not read are not looked at.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn, TextIO

from hubcli.errors import DiskError, MissingExtraError, NotFoundError
from hubcli.recipe import Data
from hubcli.training.encodings import opened
from hubcli.training.findings import Findings, bad_data, listed, printable, quoted, value

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
MAX_CELL = 1 << 20  # characters; what is longer is no row but a file that was read wrong
_FIELD_LIMIT = threading.Lock()  # csv's limit is the process's


class _Missing:
    """What a row lacks altogether; another thing than an empty cell or a null."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one file: what the task reads -> its values, and the number of each row. `folder` is where the file stands."""

    name: str
    numbers: Sequence[int]
    columns: dict[str, list[Any]]
    folder: Path

    @property
    def places(self) -> list[str]:
        """Where each row stands, `train.csv:17`."""
        return [f"{self.name}:{number}" for number in self.numbers]


def described(file: Path, written: str) -> dict[str, Any]:
    """Path as written, size in bytes and sha256 of a data file.

    Raises:
        NotFoundError: there is none. UsageError: E_DATA, it is no file. DiskError: it can't be read.
    """
    name = printable(written)
    try:
        if not file.exists():
            raise NotFoundError(f"no data file {name}", hint=f"looked for {printable(str(file))}")
        if not file.is_file():
            found = "a folder" if file.is_dir() else "something else"
            raise bad_data(f"data: expected a file, found {found}: {name}")
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
            return {"path": written, "size": stream.tell(), "sha256": digest.hexdigest()}
    except OSError as error:
        raise DiskError(f"can't read {name}", cause=error.strerror) from None


def format_of(written: str, data: Data) -> str:
    """The format of a file: `data.format`, else what its suffix says.

    Raises:
        UsageError: E_DATA, none that is known, or options that it has no use for.
    """
    kind = data.format or SUFFIXES.get(Path(written).suffix.lower())
    if kind is None:
        raise bad_data(
            f"{printable(written)}: expected {', '.join(SUFFIXES)}, found "
            + (printable(Path(written).suffix) or "no suffix"),
            hint="data.format says what a file is: csv, tsv, jsonl, parquet",
        )
    if data.delimiter and kind not in ("csv", "tsv"):
        raise bad_data(f"data.delimiter is for csv and tsv, found {kind}: {printable(written)}")
    if data.encoding != Data().encoding and kind == "parquet":
        raise bad_data(f"data.encoding is for text, found {kind}: {printable(written)}")
    return kind


def read(file: Path, written: str, wanted: Mapping[str, str], data: Data) -> Table:
    """The rows of a file; `wanted` is what the task reads -> the column it is in.

    Raises:
        UsageError: E_DATA, the file is not what its format says, lacks a column or has no rows; all places are named.
        MissingExtraError: Parquet without pyarrow. DiskError: it can't be read.
    """
    kind, name = format_of(written, data), printable(written)
    numbers: Sequence[int]
    try:
        if kind == "parquet":
            numbers, columns = _parquet(file, name, wanted)
        else:
            with opened(file, name, data.encoding) as stream:
                if kind == "jsonl":
                    numbers, columns = _json_lines(stream, name, wanted)
                else:
                    numbers, columns = _cells(stream, name, wanted, _delimiter(data, kind))
    except OSError as error:
        raise DiskError(f"can't read {name}", cause=error.strerror or printable(str(error))) from None
    if not numbers:
        raise bad_data(f"{name}: expected rows, found none")
    return Table(name, numbers, columns, file.parent)


def missing_columns(name: str, wanted: Mapping[str, str], found: Sequence[str]) -> NoReturn:
    """Refuse a file that lacks columns.

    Raises:
        UsageError: E_DATA, with the columns it has, and the ones that may be meant.
    """
    lacking = [column for column in wanted.values() if column not in found]
    close = {
        column: difflib.get_close_matches(column.lower(), [one.strip().lower() for one in found], 1)
        for column in lacking
    }
    meant = [
        f"{key} = {value(next(one for one in found if one.strip().lower() == close[column][0]))}"
        for key, column in wanted.items()
        if close.get(column)
    ]
    raise bad_data(
        f"{name}: expected column{'s' * (len(lacking) > 1)} {quoted(lacking)}, found {quoted(found) or 'none'}",
        hint=f"did you mean data.columns = {{ {', '.join(meant)} }}?"
        if meant
        else "data.columns says which column is which",
    )


# --- text files


def _delimiter(data: Data, kind: str) -> str:
    given = data.delimiter or ("\t" if kind == "tsv" else ",")
    if given in '"\r\n\0':
        raise bad_data(f"data.delimiter: {value(given)} can't be one")
    return given


@contextmanager
def _long_cells() -> Iterator[None]:
    with _FIELD_LIMIT:
        before = csv.field_size_limit(MAX_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _cells(
    stream: TextIO, name: str, wanted: Mapping[str, str], delimiter: str
) -> tuple[list[int], dict[str, list[Any]]]:
    """Rows of a CSV file: all cells are text."""
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    numbers: list[int] = []
    rows: list[Any] = []
    findings = Findings()
    start = 1
    try:
        with _long_cells():
            header = next((row for row in reader if row), None)
            pick = _picker(name, wanted, header)
            start, width = reader.line_num + 1, len(header or ())
            for row in reader:
                if len(row) == width:
                    numbers.append(start)
                    rows.append(pick(row))
                elif row:
                    findings.add(f"expected {width} cells", f"{name}:{start}", f"found {len(row)}")
                start = reader.line_num + 1
    except csv.Error as error:
        raise _broken(name, start, str(error)) from None
    findings.stop()
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in wanted]
    return numbers, dict(zip(wanted, columns, strict=True))


def _picker(name: str, wanted: Mapping[str, str], header: list[str] | None) -> Any:
    if header is None:
        raise bad_data(f"{name}: expected a header and rows, found an empty file")
    if not set(wanted.values()) <= set(header):
        missing_columns(name, wanted, header)
    twice = [column for column in wanted.values() if header.count(column) > 1]
    if twice:
        raise bad_data(f"{name}: expected one column of a name, found {quoted(twice)} more than once")
    at = [header.index(column) for column in wanted.values()]
    return itemgetter(*at) if len(at) > 1 else lambda row: (row[at[0]],)


def _broken(name: str, start: int, why: str) -> Exception:
    if "field larger" in why:
        return bad_data(f"{name}:{start}: a cell of over 1 MiB", hint="is a quote open?")
    what = "a quote is never closed" if "end of data" in why else printable(why)
    return bad_data(f"{name}: broken quoting in the row that starts in line {start}: {what}")


def _json_lines(stream: TextIO, name: str, wanted: Mapping[str, str]) -> tuple[list[int], dict[str, list[Any]]]:
    """Rows of a JSONL file: an object a line."""
    decode = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_object).decode
    numbers: list[int] = []
    columns: dict[str, list[Any]] = {key: [] for key in wanted}
    filled = [(columns[key], column) for key, column in wanted.items()]
    seen: set[str] = set()
    findings = Findings()
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except (ValueError, RecursionError) as error:
            findings.add("expected JSON", f"{name}:{number}", _why(error))
            continue
        if not isinstance(row, dict):
            findings.add("expected a JSON object a line", f"{name}:{number}", f"found {value(row)}")
            continue
        numbers.append(number)
        seen.update(row)
        for values, column in filled:
            values.append(row.get(column, MISSING))
    findings.stop()
    if numbers and not set(wanted.values()) <= seen:
        missing_columns(name, wanted, sorted(seen))
    return numbers, columns


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = [name for name, _ in pairs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise ValueError(f"key {quoted(twice)} twice")
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return "nested too deep" if isinstance(error, RecursionError) else printable(str(error))[:100]


# --- Parquet


def _parquet(file: Path, name: str, wanted: Mapping[str, str]) -> tuple[range, dict[str, list[Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "reading Parquet needs pyarrow, not installed here", hint="pip install 'hubcli[train]'"
        ) from None
    try:
        with parquet.ParquetFile(file) as source:
            found = source.schema_arrow.names
            if not set(wanted.values()) <= set(found):
                missing_columns(name, wanted, found)
            table = source.read(columns=list(dict.fromkeys(wanted.values())))
        columns = {key: table.column(column).to_pylist() for key, column in wanted.items()}
    except (pyarrow.ArrowException, KeyError, UnicodeError) as error:
        raise bad_data(
            f"{name}: not a Parquet file that can be read", cause=listed(printable(str(error)).split("; "))
        ) from None
    return range(1, table.num_rows + 1), columns
