"""The index at scale: a name among 100,000 entries, ranked search against raw FTS5, and what building costs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Result, Row, Spread, call_cpu_ms, ratio, rounds_of
from hubcli.config import IndexConfig
from hubcli.index.build import build_site
from hubcli.index.catalog import Catalog
from hubcli.index.view import RANK
from hubcli.refs import parse_ref
from hubcli.resolver import Resolver

ENTRIES = 100_000
LIMIT = 10
RESOLVE_BAR, SEARCH_BAR = 2.0, 2.0
SOME = 50
WORDS = 3_000
SYLLABLES = ("ba", "co", "di", "fu", "ga", "lo", "mi", "nu", "pe", "ra", "so", "te")
QUERIES = {  # with how many calls make one measurement
    "a rare word": ("zirconium", 200),
    "two common words": ("text model", 3),
    "one common word and one rare": ("text zirconium", 20),
}
RAW = f"SELECT rowid, {RANK} AS rank FROM text WHERE text MATCH ? ORDER BY rank LIMIT {LIMIT}"


def run(rounds: int, seed: int) -> Result:
    """Build an index folder, a static index of it and its view; then resolve and search."""
    result = Result("index", rounds, seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["HUBCLI_HOME"] = str(work / "home")
        names, size = _write_entries(work / "folder", random.Random(seed))
        build_s = call_cpu_ms(lambda: build_site(work / "folder", work / "site")) / 1000
        view_s = call_cpu_ms(lambda: _catalog(work / "site").view) / 1000
        view = next((work / "home" / "indexes").glob("*/*.sqlite"))
        result.facts = {
            "entries": ENTRIES,
            "entry_bytes": size // ENTRIES,
            "build_s": build_s,
            "view_s": view_s,
            "view_mb": view.stat().st_size / 1e6,
        }
        result.rows += _resolving(work / "site", names, rounds, seed)
        result.rows += _searching(work / "site", view, rounds, seed)
    return result


def _catalog(folder: Path) -> Catalog:
    return Catalog(IndexConfig("bench", str(folder)))


def _resolving(site: Path, names: list[str], rounds: int, seed: int) -> list[Row]:
    """A new resolver each time, as a command has it: it reads the state, opens the view, finds, parses and chooses."""
    chosen = random.Random(seed).sample(names, SOME)
    known = Resolver([_catalog(site)])

    def cold() -> None:
        for name in chosen:
            Resolver([_catalog(site)]).resolve(parse_ref(name))

    def warm() -> None:
        for name in chosen:
            known.resolve(parse_ref(name))

    times = rounds_of({"new": lambda: call_cpu_ms(cold) / SOME, "open": lambda: call_cpu_ms(warm) / SOME}, rounds, seed)
    return [
        Row("resolve a name, index not opened before", Spread.of(times["new"]), "ms", RESOLVE_BAR),
        Row("resolve a name, index open", Spread.of(times["open"]), "ms"),
    ]


def _searching(site: Path, view: Path, rounds: int, seed: int) -> list[Row]:
    resolver = Resolver([_catalog(site)])
    raw = sqlite3.connect(f"file:{view}?mode=ro&immutable=1", uri=True)
    contestants: dict[str, Callable[[], float]] = {}
    for title, (query, often) in QUERIES.items():
        words = " ".join(f'"{word}"' for word in query.split())
        if [hit[0] for hit in raw.execute(RAW, (words,))] == []:
            raise RuntimeError(f"nothing has the words {query}")
        contestants[title] = lambda query=query, n=often: call_cpu_ms(lambda: resolver.search(query, limit=LIMIT), n)
        contestants[f"raw {title}"] = lambda words=words, n=often: call_cpu_ms(
            lambda: raw.execute(RAW, (words,)).fetchall(), n
        )
    times = rounds_of(contestants, rounds, seed)
    raw.close()
    return [ratio(f"search, {t}", times[t], "raw FTS5", times[f"raw {t}"], SEARCH_BAR) for t in QUERIES]


def _write_entries(folder: Path, chance: random.Random) -> tuple[list[str], int]:
    """An index folder of synthetic entries; their names, and the sum of their sizes."""
    pattern = json.loads((ROOT / "registry-index" / "sentiment" / "bert-lora.json").read_bytes())
    words = sorted({"".join(chance.choices(SYLLABLES, k=chance.randint(2, 5))) for _ in range(WORDS)})
    weights = [1 / (rank + 1) for rank in range(len(words))]
    names, total = [], 0
    for number in range(ENTRIES):
        group, said = f"group-{number % 997}", chance.choices(words, weights, k=12)
        name = f"{group}/{said[0]}-{said[1]}-{number}"
        text = _entry(pattern, name, number, said)
        file = folder / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
        names.append(name)
        total += len(text)
    return names, total


def _entry(pattern: dict[str, Any], name: str, number: int, said: list[str]) -> bytes:
    """One entry: words by Zipf's law; "text" in every third, "model" in every fourth, "zirconium" in one of 5,000."""
    extra = ["text"] * (number % 3 == 0) + ["model"] * (number % 4 == 0) + ["zirconium"] * (number % 5_000 == 0)
    files = [
        {**file, "sha256": hashlib.sha256(f"{number} {file['path']}".encode()).hexdigest()}
        for file in pattern["releases"][0]["files"]
    ]
    release = {**pattern["releases"][0], "files": files}
    description = " ".join([*extra, *said[2:]]).capitalize() + "."
    return json.dumps({**pattern, "name": name, "description": description, "releases": [release]}).encode()
