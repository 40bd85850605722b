"""Installing from files at hand: what appears, and that nothing of a refused adapter stays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import HubcliError
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved, repair
from hubcli.manifest import FileSpec, Installed, Record
from hubcli.store import Store
from tests.store.faulty import refused
from tests.store.samples import FILES, WEIGHTS, Shelf, everything_under, sha


def test_an_installed_adapter_is_whole_read_only_and_recorded(shelf: Shelf, store: Store) -> None:
    done = install_resolved(shelf.resolved(), store, Sources())
    assert done.changed
    folder = Path(done.path)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".hubcli.json"} == FILES
    assert not any(p.stat().st_mode & 0o222 for p in folder.iterdir())
    assert {p.name for p in store.layout.blobs.glob("??/*")} == {sha(data) for data in FILES.values()}
    assert all((store.layout.blob(sha(data))).samefile(folder / name) for name, data in FILES.items())
    assert store.verify(done).ok
    assert store.installed() == [dataclasses.replace(done, changed=False)]
    assert Record.from_json(json.loads((folder / ".hubcli.json").read_text())["record"]) == done.record


def test_installing_again_changes_nothing_and_reads_no_source(shelf: Shelf, store: Store) -> None:
    resolved = shelf.resolved()
    install_resolved(resolved, store, Sources())
    before = everything_under(store.path)
    again = install_resolved(dataclasses.replace(resolved, file_roots=()), store, Sources())
    assert not again.changed and everything_under(store.path) == before


def test_a_dry_run_writes_nothing(shelf: Shelf, store: Store) -> None:
    planned = install_resolved(shelf.resolved(), store, Sources(), dry_run=True)
    assert planned.changed and not store.path.exists()


def test_versions_live_side_by_side_and_share_what_is_equal(shelf: Shelf, store: Store) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        install_resolved(shelf.resolved(FILES | {"README.md": version.encode()}, version=version), store, Sources())
    found = {text: store.find("test/demo", text) for text in ("", "^1.0", "1.0.0", ">=2.0.0-rc.0", "^3")}
    assert {k: v and v.record.version for k, v in found.items()} == {
        "": "1.1.0", "^1.0": "1.1.0", "1.0.0": "1.0.0", ">=2.0.0-rc.0": "2.0.0-rc.1", "^3": None,
    }  # fmt: skip
    assert store.layout.blob(sha(WEIGHTS)).stat().st_nlink == 4


def test_content_comes_out_of_the_stores_own_blobs(shelf: Shelf, store: Store) -> None:
    resolved = shelf.resolved()
    store.remove(install_resolved(resolved, store, Sources()))
    assert install_resolved(dataclasses.replace(resolved, file_roots=()), store, Sources()).changed


def test_a_wrong_source_is_named_and_the_next_one_serves(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    resolved = shelf.resolved()
    bad = Shelf(tmp_path / "bad")
    bad.put(WEIGHTS[:-1] + b"x", sha(WEIGHTS))
    said: list[str] = []
    roots = (str(bad.folder), *resolved.file_roots)
    done = install_resolved(dataclasses.replace(resolved, file_roots=roots), store, Sources(), warn=said.append)
    assert store.verify(done).ok and [str(bad.folder) in line for line in said] == [True]


BODIES = {
    "13 flipped": (WEIGHTS[:-1] + b"x", "E_HASH"),
    "14 short": (WEIGHTS[:-1], "E_SIZE"),
    "14 long": (WEIGHTS + b"x", "E_SIZE"),
    "14 empty": (b"", "E_SIZE"),
}


@pytest.mark.parametrize(("body", "id"), BODIES.values(), ids=BODIES)
def test_wrong_bytes_leave_nothing(shelf: Shelf, store: Store, body: bytes, id: str) -> None:
    resolved = shelf.resolved()
    shelf.put(body, sha(WEIGHTS))
    refused(resolved, store, id)


def test_row_14_an_endless_source_is_cut_off_at_the_stated_size(store: Store) -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"x" * 100

    with store.staging() as staging, pytest.raises(HubcliError) as caught:
        staging.receive(FileSpec("a.md", 1000, "", "card"), endless())
    assert caught.value.id == "E_SIZE" and given == 11


UNSAFE_PATHS = [
    "../../x",
    "/etc/x",
    "a/../../x",
    "C:\\x",
    "\\\\srv\\x",
    "a\\..\\b",
    "~",
    "",
    ".",
    "x.",
    "x ",
    "a\0b",
    "x" * 300,
    "~/x.json",
]
OTHER_PATHS = ["nul.json", "aux/x.json", ".hubcli.json", ".HUBCLI.json", ".hubcli.json/x.json", "README.MD"]


@pytest.mark.parametrize("path", UNSAFE_PATHS + OTHER_PATHS, ids=ascii)
def test_row_1_a_hostile_path_creates_nothing(shelf: Shelf, store: Store, path: str, tmp_path: Path) -> None:
    resolved = shelf.resolved()
    hostile = FileSpec(path, len(FILES["README.md"]), sha(FILES["README.md"]), "card")
    files = (*resolved.release.files, hostile)
    resolved = dataclasses.replace(resolved, release=dataclasses.replace(resolved.release, files=files))
    before = everything_under(tmp_path)
    refused(resolved, store, "E_PATH_UNSAFE")
    assert everything_under(tmp_path) == before and not store.path.exists()


@pytest.mark.parametrize("damage", ["edited", "missing", "record", "extra"])
def test_row_49_damage_is_listed_and_repaired(shelf: Shelf, store: Store, damage: str) -> None:
    resolved = shelf.resolved()
    done = install_resolved(resolved, store, Sources())
    folder = Path(done.path)
    weights = folder / "adapter_model.safetensors"
    if damage == "edited":
        weights.chmod(0o644)
        weights.write_bytes(WEIGHTS[:-1] + b"x")
    elif damage == "missing":
        weights.unlink()
    elif damage == "record":
        (folder / ".hubcli.json").chmod(0o644)
        (folder / ".hubcli.json").write_text("{}")
    else:
        (folder / "evil.py").write_text("")
    item: Any = store.installed()[0] if damage != "record" else store.broken()[0]
    found = store.verify(item)
    expected = {"edited": "modified", "missing": "missing", "record": "unverifiable", "extra": "extra"}[damage]
    assert found.status == expected
    if damage == "edited":
        assert sha(WEIGHTS) in str(found.problems[0]) and "adapter_model.safetensors" in str(found.problems[0])
    assert repair(item, store, Sources(), resolved).ok
    assert store.verify(store.installed()[0]).ok and {p.name for p in folder.iterdir()} == {*FILES, ".hubcli.json"}


def test_repair_never_takes_other_files_than_were_installed(installed: Installed, shelf: Shelf, store: Store) -> None:
    path = Path(installed.path) / "README.md"
    path.unlink()
    other = shelf.resolved(FILES | {"README.md": b"# other\n"})
    assert repair(installed, store, Sources(), other).ok
    assert path.read_bytes() == FILES["README.md"]


def test_row_11_a_version_never_changes_its_files(installed: Installed, shelf: Shelf, store: Store) -> None:
    refused(shelf.resolved(FILES | {"README.md": b"# other\n"}), store, "E_IMMUTABLE")
    assert store.verify(installed).ok
