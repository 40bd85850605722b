"""Rows of datasets that the `datasets` library reads, from folders, against what that library itself gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from hubcli.errors import HubcliError, MissingExtraError, NotFoundError, OfflineError, UsageError
from hubcli.training.examples import load
from tests.training.written import recipe

ROWS = {"text": [f"row {i}" for i in range(40)], "label": [i % 2 for i in range(40)]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def saved(folder: Path, features: datasets.Features | None, **parts: dict[str, list[Any]]) -> Path:
    """A folder as the hub has them: Parquet files named by split."""
    (folder / "set" / "data").mkdir(parents=True)
    for part, rows in parts.items():
        file = folder / "set" / "data" / f"{part}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=features).to_parquet(file)
    return folder / "set"


CLASSES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})


def test_a_folder_of_splits(tmp_path: Path) -> None:
    folder = saved(tmp_path, CLASSES, train=ROWS, test={"text": ["new", "other"], "label": [1, 0]})
    found = load(recipe(tmp_path, dataset="./set"), offline=True)
    own = datasets.load_dataset(str(folder))
    assert found.labels == ("neg", "pos")
    for part in ("train", "test"):
        assert [dict(example.fields) for example in found.parts[part]] == list(own[part])
    assert found.parts["test"][1].place == "./set[test]:2"
    facts = {"dataset": "./set", "subset": None, "revision": None}
    train = {"part": "train", **facts, "fingerprint": own["train"]._fingerprint, "rows": 40}
    assert found.files[0] == train and [told["part"] for told in found.files] == ["train", "test"]


def test_named_splits_are_exactly_those_taken(tmp_path: Path) -> None:
    saved(tmp_path, None, train=ROWS, test={"text": ["new", "other"], "label": [-1, -1]})
    one = recipe(tmp_path, split={"validation": 0.2, "test": 0.2}, dataset="set", splits={"train": "train[10:]"})
    found = load(one)
    assert sum(map(len, found.parts.values())) == 30 == found.files[0]["rows"]
    assert all(found.parts.values()) and len(found.files) == 1
    assert sorted(row.fields["text"] for rows in found.parts.values() for row in rows) == sorted(ROWS["text"][10:])


def test_a_class_label_of_minus_one_is_none(tmp_path: Path) -> None:
    saved(tmp_path, CLASSES, train=ROWS, test={"text": ["new"], "label": [-1]})
    with pytest.raises(UsageError, match=r'expected a label in "label": set\[test\]:1 \(found nothing\)'):
        load(recipe(tmp_path, dataset="set"))


def test_tags_by_name(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["O", "B-X"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner": datasets.List(names)})
    saved(tmp_path, features, train={"tokens": [["a", "b"], ["c"]], "ner": [[0, 1], [1]]})
    found = load(recipe(tmp_path, "TOKEN_CLS", dataset="set", columns={"tags": "ner"}))
    assert found.labels == ("B-X", "O")
    assert [example.fields["tags"] for example in found.parts["train"]] == [[1, 0], [0]]


def test_images_stay_encoded(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    images = [{"bytes": b"one", "path": None}, {"bytes": b"two", "path": None}]
    saved(tmp_path, features, train={"image": images, "label": [0, 1]})
    found = load(recipe(tmp_path, "IMG_CLS", dataset="set"))
    assert [example.fields["image"]["bytes"] for example in found.parts["train"]] == [b"one", b"two"]


def test_other_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pandas.DataFrame(ROWS).to_csv(tmp_path / "set" / "train.csv", index=False)
    assert len(load(recipe(tmp_path, dataset="set")).parts["train"]) == 40


@pytest.mark.parametrize(
    ("data", "error", "expected"),
    [
        ({"columns": {"text": "sentence"}}, UsageError, r'set\[train\]: expected column "sentence", found "text", "label"'),
        ({"subset": "none"}, UsageError, r"the dataset set can't be read"),
        ({"splits": {"train": "dev"}}, UsageError, r"the dataset set\[dev\] can't be read"),
        ({"splits": {"test": "train"}}, UsageError, "expected a part train, found test"),
        ({"delimiter": ";"}, UsageError, "data.delimiter is for files, found data.dataset"),
        ({"format": "csv"}, UsageError, "data.format is for files, found data.dataset"),
        ({"dataset": "./none"}, NotFoundError, "no folder ./none"),
    ],
)  # fmt: skip
def test_what_is_no_dataset(data: dict[str, Any], error: type[HubcliError], expected: str, tmp_path: Path) -> None:
    saved(tmp_path, CLASSES, train=ROWS)
    with pytest.raises(error, match=expected):
        load(recipe(tmp_path, **{"dataset": "set", **data}))


def test_code_in_a_folder_never_runs(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    ran = tmp_path / "ran"
    (tmp_path / "set" / "set.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    with pytest.raises(HubcliError):
        load(recipe(tmp_path, dataset="set"))
    assert not ran.exists()


@pytest.mark.parametrize("switch", ["--offline", "HF_HUB_OFFLINE", "HUBCLI_OFFLINE"])
def test_offline(switch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HUBCLI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    if switch != "--offline":
        monkeypatch.setenv(switch, "1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked: list[Any] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *given, **_: asked.append(given) or [])
    with pytest.raises(
        OfflineError, match=f"some/set is not on this machine, and {switch} turns the network off"
    ) as found:
        load(recipe(tmp_path, dataset="some/set"), offline=switch == "--offline")
    assert switch in str(found.value.hint) and not asked
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("raised", "error"),
    [(datasets.exceptions.DatasetNotFoundError("gone"), NotFoundError), (ConnectionError("down"), HubcliError)],
)
def test_what_the_library_raises(
    raised: Exception, error: type[HubcliError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HUBCLI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    asked: list[Any] = []

    def refuse(*given: Any, **named: Any) -> None:
        asked.append((given, named))
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(error) as found:
        load(recipe(tmp_path, dataset="some/set", subset="x", revision="abc"), token="secret")
    assert found.value.id in ("E_NOT_FOUND", "E_NETWORK") and str(raised) in str(found.value.cause)
    assert asked == [(("some/set", "x"), {"split": None, "revision": "abc", "token": "secret"})]


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="needs the package datasets") as found:
        load(recipe(tmp_path, dataset="some/set"))
    assert found.value.hint == "pip install 'hubcli[train]'"
