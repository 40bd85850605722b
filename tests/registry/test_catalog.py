"""Indexes from folders, disks and servers: one snapshot, views built once, faults of transport (THREATS 16, 31, 34, 37, 55)."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hubcli.config import BUNDLED, IndexConfig
from hubcli.errors import EntryError, HubcliError, OfflineError
from hubcli.http import Http
from hubcli.index import fill
from hubcli.index.build import build_site
from hubcli.index.catalog import Catalog
from hubcli.index.static import HttpSource, read_index
from tests.registry.entrydocs import dump, entry, release, write
from tests.support.static_server import Fault, serve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = tmp_path / "index" / "_files"
    files.mkdir(parents=True)
    (files / hashlib.sha256(b"weights").hexdigest()).write_bytes(b"weights")
    (tmp_path / "index" / "_owners.json").write_text("{}")
    return write(tmp_path / "index", entry("acme/legal"), entry("acme/tax"), entry("zoo/ape", description="Äffchen 猿"))


@pytest.fixture
def site(folder: Path, tmp_path: Path) -> Path:
    build_site(folder, tmp_path / "site", name="acme", endpoint="https://hub.acme.example")
    return tmp_path / "site"


def at(url: object, **options: object) -> Catalog:
    config = IndexConfig("acme", str(url))
    if not config.url.startswith("http"):
        return Catalog(config, **options)  # type: ignore[arg-type]
    tokens = options.pop("tokens", None)
    http = Http(tokens, options.get("offline"), sleep=lambda _: None)  # type: ignore[arg-type]
    return Catalog(config, source=HttpSource(config.url, http), **options)  # type: ignore[arg-type]


def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts views that are built."""
    log: list[str] = []
    original = fill.fill
    monkeypatch.setattr(fill, "fill", lambda db, snapshot, where: log.append(where) or original(db, snapshot, where))
    return log


def test_folder_disk_and_server_give_the_same(folder: Path, site: Path) -> None:
    with serve(site) as server:
        catalogs = [at(folder), at(site), at(server.url)]
        raw = (folder / "zoo" / "ape.json").read_bytes()
        assert [catalog.lookup("zoo/ape") for catalog in catalogs] == [raw] * 3
        assert len({catalog.snapshot_sha256 for catalog in catalogs}) == 1
        assert [catalog.endpoint for catalog in catalogs] == [
            None,
            "https://hub.acme.example",
            "https://hub.acme.example",
        ]
        assert [c.file_roots for c in catalogs] == [
            (f"{folder}/_files",),
            (f"{site}/_files",),
            (server.url + "_files",),
        ]


def test_the_identity_is_that_of_names_and_bytes(folder: Path) -> None:
    lines = "hubcli snapshot 1\n"
    for name in ("acme/legal", "acme/tax", "zoo/ape"):
        lines += f"{hashlib.sha256((folder / f'{name}.json').read_bytes()).hexdigest()} {name}\n"
    assert at(folder).snapshot_sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_a_view_is_built_once_and_again_after_a_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = builds(monkeypatch)
    assert at(folder).lookup("acme/new") is None and at(folder).has("acme/tax")
    assert len(log) == 1
    write(folder, entry("acme/new"))
    assert at(folder).lookup("acme/new") and len(log) == 2
    (folder / "acme" / "new.json").unlink()
    assert at(folder).lookup("acme/new") is None
    assert len(list(at(folder).folder.glob("*.sqlite"))) == 1


def test_a_304_costs_nothing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = builds(monkeypatch)
    with serve(site) as server:
        assert at(server.url).has("acme/legal")
        assert at(server.url).has("acme/legal")
        assert server.paths() == ["/index.json", "/entries.jsonl.gz"]
        assert at(server.url, refresh=True).has("acme/legal")
        assert [(r.path, r.status, r.sent) for r in server.requests[2:]] == [("/index.json", 304, 0)]
    assert len(log) == 1


def test_entries_are_fetched_only_when_the_snapshot_is_another(folder: Path, site: Path, tmp_path: Path) -> None:
    with serve(site) as server:
        assert at(server.url).has("acme/legal")
        build_site(folder, site, name="acme", endpoint="https://other.example")
        assert at(server.url, refresh=True).endpoint == "https://other.example"
        assert server.paths().count("/entries.jsonl.gz") == 1
        write(folder, entry("acme/new"))
        build_site(folder, site, name="acme")
        assert not at(server.url).has("acme/new")
        assert at(server.url, refresh=True).has("acme/new")
        assert server.paths().count("/entries.jsonl.gz") == 2


def test_update_says_whether_there_is_news(folder: Path, site: Path) -> None:
    with serve(site) as server:
        catalog = at(server.url)
        assert catalog.update() and not catalog.update()
        write(folder, entry("acme/new"))
        build_site(folder, site)
        assert catalog.update() and catalog.has("acme/new")


def test_a_server_without_etags_works(site: Path) -> None:
    with serve(site) as server:
        server.faults["/index.json"] = Fault(headers={"ETag": ""}, times=None)
        assert at(server.url).has("acme/legal")
        assert at(server.url, refresh=True).has("acme/legal")
        assert server.paths().count("/entries.jsonl.gz") == 1


def test_offline_reads_the_last_snapshot(site: Path) -> None:
    with serve(site) as server:
        with pytest.raises(OfflineError, match="never fetched") as error:
            at(server.url, offline="HUBCLI_OFFLINE", refresh=True).has("x/y")
        assert error.value.id == "E_OFFLINE" and "HUBCLI_OFFLINE" in str(error.value.hint)
        assert at(server.url, offline="HUBCLI_OFFLINE").local_view is None and at(server.url).local_view is None
        assert not server.requests
        at(server.url).has("x/y")
        count = len(server.requests)
        assert at(server.url, offline="HUBCLI_OFFLINE", refresh=True).has("acme/legal")
        assert at(server.url).local_view is not None
        assert len(server.requests) == count


@pytest.mark.parametrize(
    "fault, id",
    [
        (Fault(401, times=None), "E_DENIED"),
        (Fault(403, times=None), "E_DENIED"),
        (Fault(404, times=None), "E_NOT_FOUND"),
        (Fault(500, times=None), "E_NETWORK"),
        (Fault(headers={"Content-Type": "text/html"}, body=b"<html>"), "E_NETWORK"),
        (Fault(body=b"<!doctype html><p>log in"), "E_NETWORK"),
        (Fault(body=b"{}"), "E_SCHEMA"),
        (Fault(body=b"{"), "E_JSON_SYNTAX"),
        (Fault(body=b" " * 100_000), "E_SIZE"),
        (Fault(body=b'{"format": 9}'), "E_SNAPSHOT"),
    ],
)
def test_an_index_that_fails_leaves_the_old_state(site: Path, fault: Fault, id: str) -> None:
    with serve(site) as server:
        before = at(server.url).snapshot_sha256
        server.faults["/index.json"] = fault
        with pytest.raises(HubcliError) as error:
            at(server.url, refresh=True).has("acme/legal")
        assert error.value.id == id
        assert at(server.url, offline="--offline").snapshot_sha256 == before


def promise(site: Path, data: bytes, **changes: object) -> None:
    """Entries that are not those of the site, promised honestly but for `changes`."""
    document = json.loads((site / "index.json").read_bytes())
    unpacked = changes.pop("unpacked", None) or len(gzip.decompress(data))
    document["entries"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "unpacked": unpacked}
    (site / "index.json").write_text(json.dumps({**document, **changes}))
    (site / "entries.jsonl.gz").write_bytes(data)


def lines(*pairs: object) -> bytes:
    return gzip.compress(b"".join(json.dumps(pair).encode() + b"\n" for pair in pairs), mtime=0)


LEGAL = ["acme/legal", dump(entry("acme/legal")).decode()]
TAX = ["acme/tax", dump(entry("acme/tax")).decode()]


@pytest.mark.parametrize(
    "data, changes, id",
    [
        (lines(LEGAL), {"count": 1}, "E_SNAPSHOT"),
        (lines(LEGAL, TAX), {}, "E_SNAPSHOT"),
        (lines(TAX, LEGAL), {"count": 2}, "E_SNAPSHOT"),
        (lines(LEGAL, LEGAL), {"count": 2}, "E_SNAPSHOT"),
        (lines({"name": "acme/legal"}), {"count": 1}, "E_SNAPSHOT"),
        (b"not gzip", {"unpacked": 99}, "E_SNAPSHOT"),
        (lines(LEGAL)[:-20], {"unpacked": 9999}, "E_SNAPSHOT"),
        (lines(LEGAL), {"unpacked": 1 << 30}, "E_SNAPSHOT"),
        (lines(LEGAL), {"unpacked": 100}, "E_SNAPSHOT"),
    ],
    ids=[
        "another snapshot",
        "fewer",
        "out of order",
        "twice",
        "no pair",
        "no gzip",
        "cut",
        "promises too much",
        "unpacks to more",
    ],
)
def test_entries_that_are_not_the_promised_ones(site: Path, data: bytes, changes: dict[str, object], id: str) -> None:
    promise(site, data, **changes)
    with serve(site) as server, pytest.raises(HubcliError) as error:
        at(server.url).has("acme/legal")
    assert error.value.id == id and error.value.exit_code == 4
    assert not list(at(server.url).folder.glob("*"))


def test_entries_of_another_hash_are_refused(site: Path) -> None:
    data = bytearray((site / "entries.jsonl.gz").read_bytes())
    data[len(data) // 2] ^= 1
    (site / "entries.jsonl.gz").write_bytes(bytes(data))
    with serve(site) as server, pytest.raises(EntryError, match=r"expected .* bytes with sha256") as error:
        at(server.url).has("acme/legal")
    assert error.value.id == "E_SNAPSHOT"


BOMB = """
import re, resource, sys
from pathlib import Path
from hubcli.errors import EntryError
from hubcli.index.static import MAX_UNPACKED, StaticFolderSource
_, snapshot = StaticFolderSource(Path(sys.argv[1])).changed("")
try:
    for name, raw in snapshot.entries:
        pass
except EntryError as error:
    # ru_maxrss of a forked process starts at its parent's: the status file counts this program alone
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1] if status.exists() else None
    print(error.id, peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("newlines", [False, True])
def test_a_bomb_is_not_unpacked(site: Path, newlines: bool) -> None:
    piece = (b"[" * 99 + b"\n" if newlines else b"[" * 100) * 10_000
    pieces = [gzip.compress(piece)] * 200
    promise(site, b"".join(pieces), unpacked=15 << 20)
    done = subprocess.run([sys.executable, "-c", BOMB, str(site)], capture_output=True, text=True, check=True)
    id, rss = done.stdout.split()
    scale = 1024 if sys.platform != "darwin" else 1
    assert id in ("E_SNAPSHOT", "E_JSON_SYNTAX", "E_JSON_DEPTH") and int(rss) * scale < 100e6, resource.RUSAGE_SELF


def test_another_number_of_entries_than_promised(site: Path) -> None:
    promise(site, (site / "entries.jsonl.gz").read_bytes(), count=2)
    with pytest.raises(EntryError, match="expected 2 entries, found 3") as error:
        at(site).has("acme/legal")
    assert error.value.id == "E_SNAPSHOT"


def test_a_bomb_that_says_so_is_refused_before_it_is_fetched() -> None:
    document = {"format": 1, "name": "x", "snapshot": "0" * 64, "count": 1}
    for size, unpacked in ((10_000, 10 << 30), (10_000, 20 << 20), (500 << 20, 600 << 20)):
        document["entries"] = {"size": size, "sha256": "0" * 64, "unpacked": unpacked}
        with pytest.raises(EntryError, match="unpacked: expected at most") as error:
            read_index(json.dumps(document).encode(), "index.json")
        assert error.value.id == "E_SNAPSHOT"


def test_one_bad_entry_is_named_and_the_others_work(folder: Path) -> None:
    (folder / "acme" / "bad.json").write_bytes(dump(entry("acme/bad", release("1"), description=3)))
    (folder / "acme" / "Ugly.json").write_bytes(b"{")
    (folder / "loose.json").write_bytes(dump(entry("loose")))
    catalog = at(folder)
    assert catalog.lookup("acme/legal")
    with pytest.raises(EntryError, match=r"acme/bad.json: 2 faults: description: expected string, found 3; releases"):
        catalog.lookup("acme/bad")
    assert [(name, fault.id, fault.field) for name, fault in catalog.faults()] == [
        ("acme/Ugly", "E_NAME_CHARSET", "name"),
        ("acme/Ugly", "E_JSON_SYNTAX", ""),
        ("acme/bad", "E_SCHEMA", "description"),
        ("acme/bad", "E_SCHEMA", "releases[0].version"),
        ("loose", "E_NAME_CHARSET", "name"),
    ]
    assert catalog.has("acme/bad") and [hit.name for hit in catalog.search("bad", limit=9)] == []


@pytest.mark.parametrize("origin, hint", [("user", "hubcli index remove far"), ("project", "it stands in: project")])
def test_an_index_that_nothing_reads_says_how_to_be_rid_of_it(origin: str, hint: str) -> None:
    with pytest.raises(HubcliError, match="no source reads ftp://") as error:
        Catalog(IndexConfig("far", "ftp://x", origin=origin))
    assert (error.value.id, error.value.hint) == ("E_CONFIG", hint)


def test_file_names_that_are_no_text(folder: Path) -> None:
    with open(os.fsencode(folder / "acme") + b"/\xff\x1b.json", "wb") as stream:
        stream.write(b"{}")
    catalog = at(folder)
    assert catalog.lookup("acme/legal") and {fault.id for _, fault in catalog.faults()} >= {"E_NAME_CHARSET"}


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0" + b"x" * 5000, b"garbage" * 999])
def test_a_damaged_view_is_built_again(folder: Path, damage: bytes) -> None:
    first = at(folder)
    assert first.has("acme/legal")
    (file,) = first.folder.glob("*.sqlite")
    file.write_bytes(damage)
    assert at(folder).has("acme/legal")


def test_damage_inside_a_view_is_told(folder: Path) -> None:
    first = at(folder)
    assert first.has("acme/legal")
    (file,) = first.folder.glob("*.sqlite")
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(EntryError, match="damaged") as error:
        at(folder).lookup("acme/legal")
    assert error.value.id == "E_SNAPSHOT" and str(file.parent) in str(error.value.hint)


@pytest.mark.parametrize("state", ["{", "[]", "{}", '{"format": 99}', '{"format": 1, "url": "elsewhere"}'])
def test_a_damaged_state_is_forgotten(folder: Path, state: str) -> None:
    first = at(folder)
    assert first.has("acme/legal")
    (first.folder / "state.json").write_text(state)
    assert at(folder).has("acme/legal")


def test_builders_at_once_do_no_harm(folder: Path) -> None:
    failed: list[BaseException] = []

    def look() -> None:
        try:
            assert at(folder).has("acme/legal")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(file.suffix for file in at(folder).folder.iterdir()) == [".json", ".sqlite"]


def test_a_build_that_breaks_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(fill, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        at(folder).has("acme/legal")
    assert not list(at(folder).folder.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="folders can't be made read-only this way")
def test_a_home_that_cannot_be_written_still_answers(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(parents=True)
    (home / "indexes").write_text("a file where the folder should be")
    catalog = at(folder)
    assert catalog.lookup("acme/legal") and catalog.search("contracts", limit=5)


def test_the_bundled_index_has_no_faults() -> None:
    catalog = Catalog(IndexConfig(BUNDLED, BUNDLED))
    assert catalog.has("sentiment/bert-lora") and catalog.faults() == [] and catalog.view.unknown_keys() == []


def test_a_token_goes_to_the_index(site: Path) -> None:
    with serve(site, token="secret") as server:
        with pytest.raises(HubcliError) as error:
            at(server.url).has("acme/legal")
        assert error.value.id == "E_DENIED" and error.value.exit_code == 7
        catalog = at(server.url, tokens={server.origin: "secret"})
        assert catalog.has("acme/legal")
        assert "secret" not in "".join(f.read_text(errors="replace") for f in catalog.folder.iterdir())


def test_entries_can_not_be_swapped_between_snapshots(folder: Path, site: Path, tmp_path: Path) -> None:
    write(folder, entry("acme/new"))
    build_site(folder, tmp_path / "newer")
    (site / "entries.jsonl.gz").write_bytes((tmp_path / "newer" / "entries.jsonl.gz").read_bytes())
    with serve(site) as server, pytest.raises(HubcliError) as error:
        at(server.url).has("acme/new")
    assert error.value.id in ("E_SNAPSHOT", "E_SIZE")
