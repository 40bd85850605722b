"""docs/benchmarks.md, from the results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.measure import ROOT, Row, Spread, read

PAGE = ROOT / "docs" / "benchmarks.md"
TITLES = {"startup": "Start-up", "install": "Install", "index": "Index"}
METHOD = """# Benchmarks

Written by `python -m benchmarks` (or `make bench`) from `benchmarks/results/*.json`; don't edit it by hand.

Times are CPU times (user + system) in milliseconds: of whole processes with the children they waited for, or, for the
index, of calls in one process. All contestants run in one session, in a new random order each round, one thread each, after
a round that does not count; caches of the file system are warm. A ratio is taken round by round; the table shows its median
and, in brackets, its least and greatest value. The bar is held by the median. Compare ratios, not times: these depend on the
machine.
"""
NOTES = {
    "startup": "The home folder has the bundled adapter installed. `hf` is huggingface_hub's command line.",
    "install": """The repository is that of the bundled adapter: {files} files, {bytes:,} bytes. The hub is `hubcli hub serve`'s
server in a process of its own on loopback, whose CPU time does not count; `hf download` takes the repository from it as
well, with Xet and telemetry off. Home and cache are empty at every start but for the two rows "there already" and "again", so a
first install also builds the view of its index. hubcli hashes every byte and checks every file; after each run the
files are looked for and their sizes compared. What HTTP adds to a mirror is mostly the import of the standard library's
client. Loopback has no latency: these are no download times.""",
    "index": """{entries:,} synthetic entries of {entry_bytes} bytes on average, checked and read by the product's own code:
`hubcli index build` of the folder took {build_s:.1f} s of CPU time, the view built from the static index once a snapshot
{view_s:.1f} s, and is {view_mb:.0f} MB. "Raw FTS5" is `SELECT rowid, bm25(…) … MATCH … ORDER BY rank LIMIT 10` on the same
table; hubcli's search also reads what it shows of the hits. The view's file is in the file system's cache.""",
}


def write() -> None:
    """Write the page."""
    PAGE.write_text(text(), encoding="utf-8")


def text() -> str:
    """The page, from what results there are."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterable[str]:
    yield METHOD
    for name, title in TITLES.items():
        result = read(name)
        if result is None:
            continue
        yield f"## {title}\n"
        yield NOTES[name].format(**result["facts"]) + "\n"
        yield from table(result["rows"])
        yield f"\n{_setting(result)}\n"


def table(rows: Iterable[Row]) -> Iterable[str]:
    """A Markdown table."""
    yield "| what | against | ms | peer, ms | figure | bar | verdict |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        bar = "" if row.bar is None else f"≤ {_number(row.bar)}{_unit(row.unit)}"
        cells = (row.what, row.against, _median(row.own), _median(row.peer), _figure(row), bar, row.verdict)
        yield "| " + " | ".join(cells) + " |"


def _figure(row: Row) -> str:
    low, middle, high = (_number(value) for value in (row.value.min, row.value.median, row.value.max))
    return f"{middle}{_unit(row.unit)}" + (f" ({low} to {high})" if low != high else "")


def _unit(unit: str) -> str:
    return " ×" if unit == "x" else f" {unit}"


def _median(spread: Spread | None) -> str:
    return "" if spread is None else _number(spread.median)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _setting(result: dict[str, Any]) -> str:
    machine, load = result["machine"], result["load"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['rounds']} rounds, seed {result['seed']}, commit {result['commit']}; {versions}; {machine['system']}, "
        f"{machine['cpu']}, {machine['cores']} cores; load average {load['before']} before, {load['after']} after."
    )
