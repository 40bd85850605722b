"""mirror after a run that was killed or stopped, and beside a source that is away: no later run is stopped by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.mirroring import run as running
from hubcli.mirroring.state import MARK
from tests.registry.mirror.mirrors import change, listed, tree
from tests.support.adapters import IndexFolder


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize(
    ("ref", "names"), [("acme/two", {"acme/two"}), ("acme/one@2.0.0", {"acme/one", "acme/two"}), ("--all", None)]
)
def test_an_entry_that_a_killed_run_did_not_come_to_name(
    ref: str, names: set[str] | None, prune: bool, index: IndexFolder, there: Path
) -> None:
    """What `kill -9` leaves between the entries and the mark: an entry that nothing says an index of."""
    api.mirror(there, "acme/two")
    shutil.copy(index.folder / "acme/one.json", there / "acme/one.json")
    report = api.mirror(there, prune=prune, all=True) if ref == "--all" else api.mirror(there, ref, prune=prune)
    expected = names or {"acme/one", "acme/two", "acme/both"}
    expected = {"acme/one"} if prune and ref == "acme/one@2.0.0" else expected
    assert report["failed"] == [] and listed(there).keys() == expected
    assert json.loads((there / MARK).read_bytes())["indexes"].keys() == expected
    assert {str(f.relative_to(there))[:-5] for f in (there / "acme").iterdir()} == expected and api.index_check(there)[
        "ok"
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_run_that_is_stopped_leaves_what_it_found(
    error: type[BaseException], index: IndexFolder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.mirror(there, "acme/two")
    before = tree(there)

    def stopped(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(running, "build_site", stopped)
        with pytest.raises(error):
            api.mirror(there, "acme/one")
    assert {path: sha for path, sha in tree(there).items() if "_files" not in path or path in before} == before
    assert api.mirror(there, "acme/one")["failed"] == [] and listed(there).keys() == {"acme/one", "acme/two"}


def test_a_run_that_is_stopped_after_the_switch_keeps_the_new_state(
    index: IndexFolder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.mirror(there, "acme/two")
    build = running.build_site

    def stopped(*arguments: Any, **options: Any) -> Any:
        build(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "build_site", stopped)
    with pytest.raises(KeyboardInterrupt):
        api.mirror(there, "acme/one@1.0.0")
    assert listed(there) == {"acme/one": ["1.0.0"], "acme/two": ["1.0.0"]} and api.index_check(there)["ok"]


@pytest.mark.parametrize("prune", [False, True])
def test_a_release_that_was_published_again_is_refused(prune: bool, index: IndexFolder, there: Path) -> None:
    """Asked for or not, with --prune too: a mirror that takes it over would serve other bytes under the same version."""
    api.mirror(there, "acme/two", "acme/one@1.0.0")
    before = tree(there)
    change(index, "acme/two", "1.0.0", license="mit")
    for ref in ("acme/two", "acme/two@1.0.0"):
        report = api.mirror(there, ref, prune=prune)
        assert [(row["ref"], row["error"]["id"]) for row in report["failed"]] == [("acme/two", "E_IMMUTABLE")]
        assert report["removed"] == [] and tree(there) == before


def test_a_mirror_keeps_its_hub_while_a_source_is_away(index: IndexFolder, there: Path, tmp_path: Path) -> None:
    hub = {"repo": "acme/films", "commit": "a" * 40}
    for folder, name in ((index, "acme/two"), (IndexFolder(tmp_path / "second"), "other/three")):
        if name == "other/three":
            folder.add(name)
            api.index_add("second", str(folder.folder))
        change(folder, name, "1.0.0", hub=hub)
        (folder.folder / "_index.json").write_text('{"endpoint": "https://hub.acme.example"}')
    api.mirror(there, "acme/two", "other/three")
    assert json.loads((there / "index.json").read_bytes())["endpoint"] == "https://hub.acme.example"
    (tmp_path / "second").rename(tmp_path / "away")
    report = api.mirror(there, "acme/two")
    assert any("other/three is kept as it was" in note for note in report["notes"]), report["notes"]
    assert not any("different hubs" in note for note in report["notes"])
    assert json.loads((there / "index.json").read_bytes())["endpoint"] == "https://hub.acme.example"
