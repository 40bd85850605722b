"""Figures in an installed adapter's record: replaced in one step, the rest of the record as it was."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hubcli import measured
from hubcli.errors import EntryError, NotFoundError, UnsupportedError
from hubcli.manifest import Installed
from hubcli.paths import bundled
from hubcli.store import Store

ROOT = Path(__file__).parents[2]


def row(name: str = "accuracy", value: float = 0.5, dataset: str = "d", **more: Any) -> dict[str, Any]:
    fixed = {"n": 10, "interval": [0.1, 0.9], "split": "test", "sha256": "a" * 64}
    return {"name": name, "value": value, "dataset": dataset, **fixed, **more}


def test_a_record_gains_figures_and_keeps_all_else(installed: Installed, store: Store) -> None:
    before = store.get(installed.record.name, installed.record.version)
    assert before is not None and before.record.measured == ()
    os.utime(installed.path, ns=(5, 7))
    path = store.measure(installed, [row(), row("f1")])
    store.measure(installed, [row(value=0.7), row(dataset="e"), row(split="train"), row(sha256="b" * 64)])
    after = store.get(installed.record.name, installed.record.version)
    assert after is not None
    assert [(one["value"], one["name"]) for one in after.record.measured[:2]] == [(0.7, "accuracy"), (0.5, "f1")]
    assert len(after.record.measured) == 5
    assert dataclasses.replace(after.record, measured=()) == before.record
    assert store.verify(after).ok and path.stat().st_mode & 0o777 == 0o444
    assert Path(installed.path).stat().st_mtime_ns == 7, "which of two commits is newer goes by it"
    schema = json.loads((bundled("schemas") / "manifest.schema.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_bytes()))
    assert not list(store.layout.tmp.glob("*@*"))


def test_killed_on_the_way_the_old_record_stands(installed: Installed, store: Store) -> None:
    store.measure(installed, [row()])
    code = (
        "import sys; from pathlib import Path; from hubcli.store import Store; store = Store(Path(sys.argv[1]))\n"
        "store.measure(store.installed()[0], [])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(store.layout.home)],
        cwd=ROOT,
        env=os.environ | {"HUBCLI_FAULT_POINT": "after-manifest"},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    (item,) = store.installed()
    assert item.record.measured == (row(),) and store.verify(item).ok
    assert [finding.fixed for finding in store.doctor(fix=True)] == [True]


def test_several_at_once_lose_nothing(installed: Installed, store: Store) -> None:
    threads = [threading.Thread(target=store.measure, args=(installed, [row(dataset=str(i))])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one["dataset"] for one in store.installed()[0].record.measured} == set(map(str, range(8)))


def test_what_was_removed_is_named(installed: Installed, store: Store) -> None:
    store.remove(installed)
    with pytest.raises(NotFoundError, match="was removed meanwhile"):
        store.measure(installed, [row()])
    assert not Path(installed.path).exists()


def test_a_folder_s_figures(tmp_path: Path) -> None:
    assert measured.read(tmp_path) == ()
    assert measured.write(tmp_path, [row()]).name == "metrics.json"
    measured.write(tmp_path, [row(value=0.6), row("f1")])
    assert measured.read(tmp_path) == (row(value=0.6), row("f1"))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[1]", UnsupportedError), ('{"format": "hubcli", "v": 2}', UnsupportedError), ("{", EntryError)],
)
def test_a_file_that_is_not_ours(text: str, kind: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(kind):
        measured.write(tmp_path, [row()])
    assert (tmp_path / "metrics.json").read_text() == text


def test_metrics_that_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"format": "hubcli", "v": 1, "metrics": 5}')
    with pytest.raises(EntryError):
        measured.read(tmp_path)
