"""Install: the bundled adapter's repository by hubcli and by `hf download`, from the same hub, with fresh caches each time."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import PROGRAMS, ROOT, Process, Result, Row, Spread, environment, ratio, rounds_of
from benchmarks.servers import REPO, Servers, serving

NAME = "sentiment/bert-lora"
INDEX = ROOT / "registry-index"
HF, HF_AGAIN = "`hf download`", "`hf download`, again"
THIRD, HUB_BAR, AGAIN_BAR = 1 / 3, 0.9, 1 / 4


@dataclass(frozen=True)
class Contest:
    """One way to get the adapter: how it is called, its settings, and its bars (CPU against `against`, requests)."""

    title: str
    program: str
    words: tuple[str, ...]
    settings: Mapping[str, str]
    against: str = HF
    bar: float | None = None
    requests: int | None = None
    fresh: bool = True


def run(rounds: int, seed: int) -> Result:
    """Measure all ways; every one leaves the same verified files, which is checked each time."""
    result = Result("install", rounds, seed)
    entry = json.loads((INDEX / f"{NAME}.json").read_bytes())
    files = entry["releases"][0]["files"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        repo = _repo(work / "repo", files)
        with serving(work, repo, INDEX / "_files") as servers:
            contests = _contests(work, entry, servers)
            counts: dict[str, list[float]] = {contest.title: [] for contest in contests}
            homes = {contest.title: work / f"home-{number}" for number, contest in enumerate(contests)}
            runs = {c.title: _runner(c, homes[c.title], files, servers, counts[c.title]) for c in contests}
            times = rounds_of(runs, rounds, seed)
    for contest in contests:
        if contest.title != contest.against:
            row = ratio(contest.title, times[contest.title], contest.against, times[contest.against], contest.bar)
            result.rows.append(row)
    for contest in contests:
        seen = Spread.of(counts[contest.title][1:])  # the first run does not count
        result.rows.append(Row(f"requests: {contest.title}", seen, "requests", contest.requests))
    result.facts = {"files": len(files), "bytes": sum(file["size"] for file in files)}
    return result


def _repo(folder: Path, files: list[dict[str, Any]]) -> Path:
    """The bundled adapter as a folder with its files by name."""
    folder.mkdir()
    for file in files:
        shutil.copyfile(INDEX / "_files" / file["sha256"], folder / file["path"])
    return folder


def _index(folder: Path, entry: dict[str, Any], hub: dict[str, str] | None) -> str:
    """An index folder with this entry alone and no files beside it, as HUBCLI_INDEXES wants it."""
    release = {**entry["releases"][0], "hub": hub}
    file = folder / f"{NAME}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**entry, "releases": [release]}), encoding="utf-8")
    return f"team={folder}"


def _contests(work: Path, entry: dict[str, Any], servers: Servers) -> list[Contest]:
    files = len(entry["releases"][0]["files"])
    shutil.copytree(INDEX, work / "index")
    bare = _index(work / "bare", entry, None)
    pinned = _index(work / "pinned", entry, {"repo": REPO, "commit": servers.commit})
    install, download = ("install", NAME, "--quiet"), ("download", REPO, "--quiet")
    hub = {"HF_ENDPOINT": servers.hub}
    in_folder = {"HUBCLI_INDEXES": f"team={work / 'index'}"}
    folder = {"HUBCLI_INDEXES": bare, "HUBCLI_MIRRORS": str(INDEX / "_files")}
    mirror = {"HUBCLI_INDEXES": bare, "HUBCLI_MIRRORS": servers.mirror}
    named = {"HUBCLI_INDEXES": pinned, **hub}
    straight = ("install", f"hf:{REPO}", "--quiet")
    return [
        Contest("`hubcli install`, from the bundle", "hubcli", install, {}, bar=THIRD, requests=0),
        Contest("`hubcli install`, from a folder index", "hubcli", install, in_folder, bar=THIRD, requests=0),
        Contest("`hubcli install`, from a mirror, a folder", "hubcli", install, folder, bar=THIRD, requests=0),
        Contest("`hubcli install`, from a mirror over HTTP", "hubcli", install, mirror, bar=THIRD, requests=files + 1),
        Contest("`hubcli install`, from a hub server", "hubcli", install, named, bar=HUB_BAR, requests=files + 1),
        Contest("`hubcli install hf:…`, no index", "hubcli", straight, hub, bar=HUB_BAR, requests=files + 1),
        Contest("`hubcli install`, there already", "hubcli", install, {}, HF_AGAIN, AGAIN_BAR, 0, fresh=False),
        Contest(HF, "hf", download, hub),
        Contest(HF_AGAIN, "hf", download, hub, HF_AGAIN, fresh=False),
    ]


def _runner(
    contest: Contest, home: Path, files: list[dict[str, Any]], servers: Servers, counts: list[float]
) -> Callable[[], float]:
    """What runs one contestant once; the number of its requests goes to `counts`."""
    places = {"HUBCLI_HOME": str(home / "hubcli"), "HF_HOME": str(home / "hf"), "HOME": str(home)}
    settings = environment(**contest.settings, **places)

    def prepare() -> Mapping[str, str]:
        if contest.fresh:
            shutil.rmtree(home, ignore_errors=True)
        home.mkdir(exist_ok=True)
        servers.count()
        return settings

    def check(_: Mapping[str, str]) -> None:
        counts.append(servers.count())
        for file in files:
            there = [path.stat().st_size for path in home.rglob(file["path"])]
            if there != [file["size"]]:
                raise RuntimeError(f"{contest.title}: {file['path']}: expected {file['size']} bytes, found {there}")

    return Process([str(PROGRAMS / contest.program), *contest.words], prepare, check).cpu_ms
