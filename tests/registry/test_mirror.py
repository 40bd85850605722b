"""mirror: what another machine installs from the folder alone, what a second run does, and what a kill leaves (THREATS 41)."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.config import IndexConfig
from hubcli.errors import BusyError, EntryError, UsageError
from hubcli.index.catalog import Catalog
from hubcli.index.check import check_folder
from hubcli.mirroring import run as running
from hubcli.mirroring.state import locked
from tests.registry.entrydocs import yank
from tests.support.adapters import IndexFolder, lora_files, release
from tests.support.cli import hubcli
from tests.support.composed import compose, composed
from tests.support.hub_server import LiveHub, allow_loopback
from tests.support.static_server import serve


@pytest.fixture
def index(tmp_path: Path) -> IndexFolder:
    """acme/one in three versions, acme/two in one, their average, and a fusion over them."""
    folder = IndexFolder(tmp_path / "origin")
    folder.add("acme/one", "1.0.0", "1.1.0", "2.0.0")
    folder.add("acme/two")
    compose(folder, "acme/both", composed("average(acme/one, acme/two)", {"acme/one": "^1.0", "acme/two": "^1.0"}))
    api.index_remove("bundled")
    api.index_add("acme", str(folder.folder))
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def change(index: IndexFolder, name: str, version: str, **fields: Any) -> None:
    """Edit one release of an entry, as its keepers do."""
    file = index.folder / f"{name}.json"
    document = json.loads(file.read_bytes())
    for found in document["releases"]:
        found.update(fields if found["version"] == version else {})
    file.write_text(json.dumps(document, indent=1))


def listed(folder: Path) -> dict[str, list[str]]:
    """name → versions, as a reader of the folder is served them."""
    view = Catalog(IndexConfig("mirror", str(folder))).view
    return {
        name: [r["version"] for r in json.loads(view.lookup(name) or b"")["releases"]] for name in sorted(view.names())
    }


def tree(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*") if f.is_file()
    }


def rows(report: dict[str, Any]) -> dict[str, bool]:
    return {f"{row['name']}@{row['version']}": row["changed"] for row in report["mirrored"]}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another machine: an empty home, and no socket can be connected."""
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere" / "hf"))
    yield


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def installed(ref: str) -> dict[str, str]:
    """Files of an install by path, after they were verified."""
    report = api.install(ref)
    assert api.verify()["ok"]
    found = Path(report["installed"][-1]["path"])
    return tree(found) if found.is_dir() else {}


# Another machine


@pytest.mark.parametrize("how", ["folder", "http"])
def test_another_machine_installs_from_it_alone(
    how: str, index: IndexFolder, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {ref: installed(ref) for ref in ("acme/one@~1.1", "acme/both")}
    report = api.mirror(there, "acme/one@~1.1", "acme/both")
    assert report["failed"] == [] and listed(there) == {
        "acme/both": ["1.0.0"],
        "acme/one": ["1.1.0"],
        "acme/two": ["1.0.0"],
    }
    index.folder.rename(tmp_path / "gone")
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere" / "hf"))
    with serve(there) as server:
        if how == "folder":
            no_network(monkeypatch)
        else:
            monkeypatch.delenv("HF_HUB_OFFLINE")
        assert hubcli("index", "add", "local", str(there) if how == "folder" else server.url).code == 0
        for ref, files in expected.items():
            found = installed(ref)
            weights = [path for path in files if path.startswith("adapter")]
            assert {path: found[path] for path in weights} == {path: files[path] for path in weights}
        assert {row["name"] for row in api.list()["adapters"]} == {"acme/both", "acme/one", "acme/two"}
        assert hubcli("install", "acme/one@2").code == 3


@pytest.mark.slow
def test_predictions_are_those_of_the_origin(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a base of this machine: the same answers, from bytes that came through the mirror."""
    monkeypatch.setenv("HUBCLI_OFFLINE", "1")
    ref, text = "reactions/albert-lora", "CCO.CC(=O)O>>CC(=O)OCC"
    first = hubcli("run", ref, text, "--json")
    assert first.code == 0, first.err
    assert api.mirror(there, ref)["failed"] == []
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "elsewhere"))
    no_network(monkeypatch)
    api.index_remove("bundled")
    api.index_add("local", str(there))
    assert hubcli("run", ref, text, "--json").document == first.document
    assert api.list()["adapters"][0]["index"] == "local"


def test_it_passes_a_check_and_is_refused_with_a_file_less(index: IndexFolder, there: Path) -> None:
    report = api.mirror(there, all=True)
    assert api.index_check(there) == {"ok": True, "entries": 3, "faults": [], **_rest(there)}
    assert report["files"] == len(list((there / "_files").iterdir())) and report["bytes"] == report["fetched"] > 0
    next((there / "_files").iterdir()).unlink()
    assert {fault["id"] for fault in api.index_check(there)["faults"]} == {"E_NOT_FOUND"}


def _rest(folder: Path) -> dict[str, Any]:
    """What else a check says, which is not about faults."""
    return {key: value for key, value in api.index_check(folder).items() if key not in ("ok", "entries", "faults")}


def test_an_index_on_a_hub_with_its_adapters_there_too(
    index: IndexFolder, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries from a dataset repository, weights from a model repository at its commit, the rest from beside the entries."""
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        document = json.loads((index.folder / "acme/two.json").read_bytes())
        weights = document["releases"][0]["files"][2]
        (tmp_path / "two").mkdir()
        (index.folder / "_files" / weights["sha256"]).rename(tmp_path / "two" / weights["path"])
        commit = hub.import_folder("acme/two", tmp_path / "two")
        (index.folder / "acme/one.json").unlink()
        (index.folder / "acme/both.json").unlink()
        change(index, "acme/two", "1.0.0", hub={"repo": "acme/two", "commit": commit})
        hub.import_folder("acme/index", index.folder, repo_type="dataset")
        api.index_remove("acme")
        api.index_add("ours", "hf:datasets/acme/index")
        report = api.mirror(there, "acme/two")
    assert report["failed"] == [] and report["files"] == 3 and listed(there) == {"acme/two": ["1.0.0"]}
    no_network(monkeypatch)
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "elsewhere"))
    api.index_add("local", str(there), first=True)
    assert installed("acme/two")[weights["path"]] == weights["sha256"]


# What is mirrored


def test_all_is_every_release_and_the_bytes_of_whole_entries_are_the_origins(index: IndexFolder, there: Path) -> None:
    change(index, "acme/one", "1.1.0", yanked=yank())
    report = api.mirror(there, all=True, index="acme")
    assert listed(there)["acme/one"] == ["1.0.0", "1.1.0", "2.0.0"] and len(report["mirrored"]) == 5
    assert [row["version"] for row in report["mirrored"] if row["yanked"]] == ["1.1.0"]
    for name in ("one", "two", "both"):
        assert (there / f"acme/{name}.json").read_bytes() == (index.folder / f"acme/{name}.json").read_bytes()


def test_quarantined_releases_are_listed_without_files_and_archives_are_left_out(
    index: IndexFolder, there: Path
) -> None:
    change(index, "acme/one", "2.0.0", status="quarantined", status_reason="harm")
    origin = {"url": "https://x.example/a.zip", "sha256": "ab" * 32, "format": "zip", "library": "adapterhub"}
    change(index, "acme/two", "1.0.0", status="archived", files=[], origin=origin)
    (index.folder / "acme/both.json").unlink()
    report = api.mirror(there, all=True)
    assert [row["ref"] for row in report["left_out"]] == ["acme/one@2.0.0", "acme/two@1.0.0"]
    assert "quarantined: harm" in report["left_out"][0]["reason"] and "exit_code" not in report
    assert listed(there) == {"acme/one": ["1.0.0", "1.1.0", "2.0.0"]}
    assert hubcli("mirror", str(there), "--all").code == 0
    refused = hubcli("mirror", str(there), "acme/one@2", "acme/two", "acme/one@1.0.0", "--json")
    assert refused.code == 6 and [row["error"]["id"] for row in refused.document["failed"]] == [
        "E_QUARANTINED",
        "E_ARCHIVE",
    ]


@pytest.mark.parametrize(
    "ref, id",
    [("acme/three", "E_NOT_FOUND"), ("acme/one@9", "E_NOT_FOUND"), ("hf:acme/x", "E_USAGE"), ("./x", "E_USAGE"), ("!", "E_REF"),
     ("other:acme/one", "E_NOT_FOUND")],
)  # fmt: skip
def test_one_ref_that_can_not_be_had_stops_no_other(ref: str, id: str, index: IndexFolder, there: Path) -> None:
    report = api.mirror(there, ref, "acme/two")
    (failed,) = report["failed"]
    assert failed["ref"] == ref and failed["error"]["id"] == id and report["exit_code"]
    assert listed(there) == {"acme/two": ["1.0.0"]}


def test_other_bytes_than_promised_never_get_in(index: IndexFolder, there: Path) -> None:
    weights = release(lora_files(fill=9.0), "1.0.0")["files"][2]
    change(index, "acme/two", "1.0.0", files=[weights])
    (index.folder / "_files" / weights["sha256"]).write_bytes(b"x" * weights["size"])
    report = api.mirror(there, all=True)
    failed = {row["ref"]: row["error"]["id"] for row in report["failed"]}
    assert failed == {"acme/two@1.0.0": "E_HASH", "acme/both@1.0.0": "E_NOT_FOUND"} and report["exit_code"] == 4
    assert listed(there) == {"acme/one": ["1.0.0", "1.1.0", "2.0.0"]} and api.index_check(there)["ok"]
    assert not (there / "_files" / weights["sha256"]).exists()


def test_offline(index: IndexFolder, there: Path) -> None:
    hub = {"repo": "acme/two", "commit": "cd" * 20}
    change(index, "acme/two", "1.0.0", hub=hub)
    weights = json.loads((index.folder / "acme/two.json").read_bytes())["releases"][0]["files"][2]
    (index.folder / "_files" / weights["sha256"]).unlink()
    answer = hubcli("mirror", str(there), "acme/one", "acme/two", "--offline")
    assert answer.code == 7 and "error: acme/two@1.0.0" in answer.err and list(listed(there)) == ["acme/one"]


def test_pairs_that_look_alike_are_noted_and_owners_go_along(index: IndexFolder, there: Path) -> None:
    index.add("acme/summarize")
    index.add("acme/sumarize")
    (index.folder / "_owners.json").write_text(json.dumps({"v": 1, "groups": {"acme": ["ada"], "other": ["eve"]}}))
    api.mirror(there, "acme/summarize", "acme/sumarize")
    assert api.index_check(there)["ok"]
    assert json.loads((there / "_owners.json").read_bytes()) == {"v": 1, "groups": {"acme": ["ada"]}}


# Again


def test_a_second_run_fetches_nothing_and_changes_nothing(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/both")
    before = tree(there)
    report = api.mirror(there, "acme/both")
    assert report["fetched"] == 0 and not any(rows(report).values()) and tree(there) == before
    assert hubcli("mirror", str(there), "acme/both").out.splitlines()[0].startswith("there (verified): acme/both 1.0.0")


def test_what_was_withdrawn_since_is_taken_over_whatever_is_asked_for(
    index: IndexFolder, there: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBCLI_HOME", str(there.parent / "keeper"))
    api.index_remove("bundled")
    api.index_add("acme", str(index.folder))
    api.mirror(there, "acme/one@1.0.0", "acme/one@1.1.0", "acme/two")
    change(index, "acme/one", "1.1.0", yanked=yank("wrong labels"))
    change(index, "acme/one", "1.0.0", status="deprecated", status_reason="old")
    change(index, "acme/two", "1.0.0", status="quarantined", status_reason="harm")
    report = api.mirror(there, "acme/one@1.0.0")
    told = {(row["name"], row["version"], row["what"]) for row in report["refreshed"]}
    assert told == {
        ("acme/one", "1.1.0", "yanked"), ("acme/one", "1.0.0", "status"), ("acme/one", "1.0.0", "status_reason"),
        ("acme/two", "1.0.0", "status"), ("acme/two", "1.0.0", "status_reason"),
    }  # fmt: skip
    monkeypatch.setenv("HUBCLI_HOME", str(there.parent / "elsewhere"))
    api.index_remove("bundled")
    api.index_add("local", str(there))
    assert api.resolve("acme/one").version == "1.0.0"
    assert hubcli("install", "acme/two").code == 6
    assert "wrong labels" in hubcli("install", "acme/one@1.1.0").err
    monkeypatch.setenv("HUBCLI_HOME", str(there.parent / "keeper"))
    change(index, "acme/one", "1.1.0", yanked=None)
    assert [row["what"] for row in api.mirror(there, "acme/one@1.0.0")["refreshed"]] == ["yanked"]


def test_a_damaged_file_is_fetched_again(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/two")
    before = tree(there)
    file = max((there / "_files").iterdir(), key=lambda file: file.stat().st_size)
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    report = api.mirror(there, "acme/two")
    assert rows(report) == {"acme/two@1.0.0": True} and tree(there) == before


def test_nothing_is_removed_but_by_prune(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    assert api.mirror(there, "acme/two")["entries"] == 3
    planned = api.mirror(there, "acme/two", prune=True, dry_run=True)
    assert planned["removed"] == ["acme/both@1.0.0", "acme/one@1.0.0", "acme/one@1.1.0", "acme/one@2.0.0"]
    assert len(listed(there)) == 3
    assert "acme/nope" in api.mirror(there, "acme/two", "acme/nope", prune=True)["failed"][0]["error"]["message"]
    assert len(listed(there)) == 3
    done = api.mirror(there, "acme/two", prune=True)
    assert listed(there) == {"acme/two": ["1.0.0"]} and done["removed"][:4] == planned["removed"]
    assert len(list((there / "_files").iterdir())) == done["files"] == 3 and api.index_check(there)["ok"]
    assert sorted(p.name for p in there.iterdir() if p.is_dir()) == ["_files", "acme"]


def test_a_release_that_is_other_now_is_refused_and_the_old_one_kept(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    before = tree(there)
    change(index, "acme/two", "1.0.0", license="mit")
    report = api.mirror(there, all=True)
    assert [(row["ref"], row["error"]["id"]) for row in report["failed"]] == [("acme/two", "E_IMMUTABLE")]
    assert "another license" in report["failed"][0]["error"]["message"] and tree(there) == before


def test_what_the_index_has_no_more_is_kept_with_a_note(index: IndexFolder, there: Path) -> None:
    api.mirror(there, all=True)
    (index.folder / "acme/both.json").unlink()
    document = json.loads((index.folder / "acme/one.json").read_bytes())
    document["releases"] = document["releases"][1:]
    (index.folder / "acme/one.json").write_text(json.dumps(document))
    report = api.mirror(there, "acme/two")
    assert (
        report["failed"] == []
        and listed(there)["acme/one"] == ["1.1.0", "2.0.0", "1.0.0"]
        and "acme/both" in listed(there)
    )
    assert any("acme/one 1.0.0 is kept as it was" in note for note in report["notes"])
    assert any("acme/both is kept as it was" in note for note in report["notes"])


def test_an_entry_that_can_not_be_read_now_is_told_once_and_kept(index: IndexFolder, there: Path) -> None:
    api.mirror(there, "acme/two")
    before = tree(there)
    (index.folder / "acme/two.json").write_text("{}")
    report = api.mirror(there, "acme/two")
    assert [row["ref"] for row in report["failed"]] == ["acme/two"] and tree(there) == before
    assert any("what was withdrawn since is not known" in note for note in report["notes"])


def test_an_entry_is_never_taken_from_another_index(index: IndexFolder, there: Path, tmp_path: Path) -> None:
    api.mirror(there, "acme/two")
    other = IndexFolder(tmp_path / "other")
    other.add("acme/two", "1.0.0", "9.0.0")
    api.index_remove("acme")
    api.index_add("other", str(other.folder))
    report = api.mirror(there, "acme/two@9")
    assert listed(there)["acme/two"] == ["1.0.0"]
    assert report["failed"][0]["ref"] == "acme/two"


# The folder


def test_folders_that_are_no_mirror(index: IndexFolder, there: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not empty, and no mirror"):
        api.mirror(index.folder, "acme/two")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        api.mirror(tmp_path / "file", "acme/two")
    api.mirror(there, "acme/two")
    (there / "acme/two.json").write_text("{}")
    with pytest.raises(EntryError):
        api.mirror(there, "acme/two")


def test_usage(index: IndexFolder, there: Path) -> None:
    for arguments in ([], ["--all", "acme/two"], ["acme/two", "--index", "nope"]):
        assert hubcli("mirror", str(there), *arguments).code in (2, 3)
    assert not there.exists()
    planned = hubcli("mirror", str(there), "acme/both", "--dry-run", "--json")
    assert planned.code == 0 and set(rows(planned.document)) == {"acme/both@1.0.0", "acme/one@1.1.0", "acme/two@1.0.0"}
    assert not there.exists()


def test_one_run_at_a_time(index: IndexFolder, there: Path) -> None:
    with locked(there), pytest.raises(BusyError):
        api.mirror(there, "acme/two")


class Killed(BaseException):
    """The process ends here: nothing after it runs, no clean-up either."""


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new_one(
    index: IndexFolder, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nothing to one state, and from that to another that prunes: every rename and every removal is a place to die."""
    old: dict[str, list[str]] = {}
    ends, saved = [], tmp_path / "saved"
    runs: list[tuple[list[str], dict[str, Any], dict[str, list[str]]]] = [
        (["acme/one@1.0.0", "acme/two"], {}, {"acme/one": ["1.0.0"], "acme/two": ["1.0.0"]}),
        (["acme/both"], {"prune": True}, {"acme/both": ["1.0.0"], "acme/one": ["1.1.0"], "acme/two": ["1.0.0"]}),
    ]
    for refs, options, new in runs:
        step = 0
        while _killed(step, there, refs, options, monkeypatch):
            found = listed(there) if (there / "index.json").exists() else {}
            assert found in (old, new), (step, found)
            ends.append(found == new)
            _whole(there)
            if step % 4 == 0:
                assert api.mirror(there, *refs, **options)["failed"] == [] and listed(there) == new
            _restore(saved, there)
            step += 1
        assert listed(there) == new and api.index_check(there)["ok"] and not list(there.glob(".*.tmp"))
        _restore(there, saved)
        old = new
    assert len(ends) > 20 and {*ends} == {True, False}


def _restore(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)


def _killed(step: int, there: Path, refs: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run until `step` files were renamed or removed in the mirror; whether it was killed there."""
    left = [step]

    def mortal(method: Any) -> Any:
        def wrapped(self: Path, *arguments: Any, **keywords: Any) -> Any:
            if there in self.parents:
                if left[0] <= 0:
                    raise Killed
                left[0] -= 1
            return method(self, *arguments, **keywords)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", mortal(Path.replace))
        patch.setattr(Path, "unlink", mortal(Path.unlink))
        try:
            api.mirror(there, *refs, **options)
        except Killed:
            return True
    return False


def _whole(there: Path) -> None:
    """Every file that a reader is promised is there, with the right bytes."""
    if not (there / "index.json").exists():
        return
    view = Catalog(IndexConfig("mirror", str(there))).view
    for name in view.names():
        for found in json.loads(view.lookup(name) or b"")["releases"]:
            for file in found.get("files", ()):
                data = (there / "_files" / file["sha256"]).read_bytes()
                assert hashlib.sha256(data).hexdigest() == file["sha256"]


def test_a_state_with_faults_is_never_served(index: IndexFolder, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last check stands before the switch."""
    api.mirror(there, "acme/two")
    before = (there / "index.json").read_bytes()
    checked = check_folder

    def lying(folder: Path) -> Any:
        (next((folder / "_files").iterdir())).unlink()
        return checked(folder)

    monkeypatch.setattr(running, "check_folder", lying)
    with pytest.raises(EntryError):
        api.mirror(there, "acme/one")
    assert (there / "index.json").read_bytes() == before
