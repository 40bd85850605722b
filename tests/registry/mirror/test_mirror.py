"""mirror: what another machine installs from the folder alone (THREATS 41)."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from tests.registry.mirror.mirrors import change, listed, tree
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli
from tests.support.hub_server import LiveHub, allow_loopback
from tests.support.static_server import serve


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
