"""A Path is the folder that it names, wherever a ref or an expression is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubcli import api
from hubcli.refs import of_folder, parse_ref
from tests.support.evaluated import copied, prepared

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("paths"))


@pytest.mark.parametrize("given", ["a", "acme/a", "hf:a", "x(y, z)", "../a", "/a/b", ".", "~/a"])
def test_a_path_is_no_other_ref(given: str) -> None:
    ref = parse_ref(of_folder(Path(given)))
    assert ref.kind == "folder" and ref.folder == Path(given).expanduser()


@pytest.mark.slow
def test_every_verb_takes_one(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = Path("a")
    said = api.run("./a", ["a good film"])
    assert api.run(folder, ["a good film"]) == said
    assert [answer.label for answer in api.load_adapter(folder).predict("a good film")] == [
        row["label"] for row in said["predictions"]
    ]
    document = api.eval(folder, "test.csv")
    assert document["written"]["path"] == str(tmp_path / "a" / "metrics.json")
    assert document["results"] == api.eval("./a", "test.csv", write=False)["results"]
    assert api.fuse(folder, "fused", dry_run=True)["modules"]
    assert api.merge(folder, "merged", dry_run=True)["written"] is False
    assert api.export(folder, to="pt2", out="a.pt2", dry_run=True)["written"] is False
    assert api.convert(folder, to="hubcli", out="own", dry_run=True)["from"] == "peft"
