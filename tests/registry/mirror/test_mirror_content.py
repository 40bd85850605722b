"""mirror: what is taken, what is left out, and which folders are none (THREATS 41)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubcli import api
from hubcli.errors import BusyError, EntryError, UsageError
from hubcli.mirroring.state import locked
from tests.registry.entrydocs import yank
from tests.registry.mirror.mirrors import change, listed, rows
from tests.support.adapters import IndexFolder, lora_files, release
from tests.support.cli import hubcli


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
