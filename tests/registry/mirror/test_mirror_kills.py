"""mirror killed at any step, or about to serve what is faulty: the old state or the new one (THREATS 41)."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.config import IndexConfig
from hubcli.errors import EntryError
from hubcli.index.catalog import Catalog
from hubcli.index.check import check_folder
from hubcli.mirroring import run as running
from tests.registry.mirror.mirrors import listed
from tests.support.adapters import IndexFolder


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

    def lying(folder: Path, **options: Any) -> Any:
        (next((folder / "_files").iterdir())).unlink()
        return checked(folder, **options)

    monkeypatch.setattr(running, "check_folder", lying)
    with pytest.raises(EntryError):
        api.mirror(there, "acme/one")
    assert (there / "index.json").read_bytes() == before
