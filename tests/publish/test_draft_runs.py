"""A run of `hubcli train` as a draft: its facts, its figures asked again, its picture, nothing of where it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import HubcliError, PublishError, UsageError
from hubcli.training.train import train
from tests.publish import drafts
from tests.publish.drafts import BASE_ID, drafted
from tests.support import trainable

TOLD = {
    "version": "1.0.0",
    "description": "Good or bad.",
    "authors": ["Ann"],
    "license": "mit",
    "data_license": "cc0-1.0",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """base/, rows.jsonl and run/: a LoRA that learned them in half a minute."""
    folder = tmp_path_factory.mktemp("trained")
    base = drafts.base(folder / "base")
    rows = trainable.jsonl(folder / "rows.jsonl", trainable.reviews(240))
    more: dict[str, Any] = {"train": {"epochs": 3}, "data": {"name": "Toy reviews"}, "release": TOLD}
    train(trainable.recipe(folder, base, rows, **more), folder / "run")
    yield folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, its base to be had by its id."""
    drafts.cached(trained / "base", monkeypatch, trained / "cache")
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def said(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())  # type: ignore[no-any-return]


def restate(run: Path, **change: Any) -> None:
    """State other figures of the test rows."""
    document = said(run)
    for row in document["metrics"]:
        if row["split"] == "test":
            row["value"] = change.get(row["name"], row["value"])
    (run / "run.json").write_text(json.dumps(document))


def test_a_run_is_its_own_description(run: Path, trained: Path, tmp_path: Path) -> None:
    found = drafted(run, base=BASE_ID, license=None, description=None, authors=())
    release, document = found.release, said(run)
    assert (found.description, found.authors, release.license) == ("Good or bad.", ({"name": "Ann"},), "mit")
    assert release.head is not None and release.head.labels == ("neg", "pos")
    assert {metric.split for metric in release.metrics} == {"test"}
    test = {row["name"]: row for row in document["metrics"] if row["split"] == "test"}
    for metric in release.metrics:
        assert metric.value == round(test[metric.name]["value"], 4) and metric.dataset == "Toy reviews"
    assert release.training["rows"] == document["rows"] and release.training["data"]["license"] == "cc0-1.0"
    assert any("reproduced on" in note and "(accuracy" in note for note in found.notes)
    folder = drafts.written(found, tmp_path / "out")
    assert (folder / "loss.png").read_bytes() == (run / "loss.png").read_bytes()
    assert (
        "loss.png" not in [spec.path for spec in found.specs()] and "](loss.png)" in (folder / "README.md").read_text()
    )
    everything = b"".join(file.read_bytes() for file in folder.iterdir()) + json.dumps(release.to_json()).encode()
    assert str(trained).encode() not in everything and str(tmp_path).encode() not in everything


def test_a_drafted_run_installs_and_answers_as_the_run(run: Path, tmp_path: Path) -> None:
    index = drafts.indexed(drafted(run, base=BASE_ID), tmp_path / "index")
    api.index_add("drafts", str(index))
    texts = ["a good film", "a bad book", "the plot is good"]
    answers = [api.load_adapter(ref).predict(texts) for ref in ("drafts:acme/reviews", str(run / "adapter"))]
    assert [(a.label, a.score) for a in answers[0]] == [(a.label, a.score) for a in answers[1]]
    assert {a.label for a in answers[0]} <= {"neg", "pos"}


def test_data_that_the_recipe_does_not_name_are_told(run: Path) -> None:
    assert not [note for note in drafted(run, base=BASE_ID).notes if "data.name" in note]
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace('name = "Toy reviews"\n', ""))
    assert (run / "recipe.toml").read_text() != text
    (note,) = [note for note in drafted(run, base=BASE_ID).notes if "data.name" in note]
    assert "on 'Toy reviews'" in note


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    assert drafted(run, base=BASE_ID) == drafted(run, base=BASE_ID)


@pytest.mark.parametrize(("name", "value"), [("accuracy", 0.2), ("f1", 0.1), ("loss", 5.0)])
def test_a_figure_that_the_rows_contradict_is_refused(name: str, value: float, run: Path) -> None:
    restate(run, **{name: value})
    with pytest.raises(PublishError, match=rf"metrics: {name}.* as stated") as error:
        drafted(run, base=BASE_ID, allow_unreproduced=True)
    assert error.value.id == "E_METRIC"


def test_a_sample_is_as_many_rows_as_were_asked_for(run: Path) -> None:
    found = drafted(run, base=BASE_ID, sample=20, seed=3)
    said = [note for note in found.notes if " on 20 rows (" in note]
    assert [note.partition(" on ")[0] for note in said] == [
        "1 figure reproduced",
        "3 figures not judged, for they say too little,",
    ]


def test_without_its_rows_it_says_so_or_refuses(run: Path) -> None:
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("rows.jsonl", "gone.jsonl"))
    with pytest.raises(PublishError, match="data to reproduce them on") as error:
        drafted(run, base=BASE_ID)
    assert error.value.id == "E_METRIC" and "--allow-unreproduced" in str(error.value.hint)
    found = drafted(run, base=BASE_ID, allow_unreproduced=True)
    assert any("were not reproduced" in note for note in found.notes)


def test_other_rows_than_the_runs_are_no_proof(run: Path, tmp_path: Path) -> None:
    other = trainable.jsonl(tmp_path / "other.jsonl", trainable.reviews(60, seed=9))
    text = (run / "recipe.toml").read_text()
    start = text.index("train = [")
    end = text.index("]", start) + 1
    (run / "recipe.toml").write_text(f'{text[:start]}train = ["{other}"]{text[end:]}')
    with pytest.raises(PublishError, match="not what the run was measured on"):
        drafted(run, base=BASE_ID)


def test_data_of_ones_own_are_asked(run: Path, trained: Path) -> None:
    found = drafted(run, base=BASE_ID, data=trained / "rows.jsonl", eval_options={"dataset": "Toy reviews"})
    assert any("reproduced on" in note and "(accuracy" in note for note in found.notes)
    document = said(run)
    document["metrics"] += [{**document["metrics"][-1], "dataset": "Another"}]
    (run / "run.json").write_text(json.dumps(document))
    with pytest.raises(PublishError, match="of other data"):
        drafted(run, base=BASE_ID, data=trained / "rows.jsonl", eval_options={"dataset": "A third"})


UNMEASURED: dict[str, tuple[dict[str, Any], str]] = {
    "other data": ({"name": "accuracy", "dataset": "Books", "split": "test", "sha256": "0" * 64}, "accuracy on Books"),
    "a hand's, of other data": ({"name": "bleu", "dataset": "Books", "split": "test"}, "bleu on Books"),
    "a name that eval has not": ({"name": "bleu", "dataset": "Toy reviews", "split": "test"}, "bleu on Toy reviews"),
}


@pytest.mark.parametrize("case", UNMEASURED)
def test_one_figure_that_is_measured_lets_no_other_pass(case: str, run: Path) -> None:
    row, text = UNMEASURED[case]
    rows = [*said(run)["metrics"], {"value": 0.99, "n": 60, "seed": 0, **row}]
    (run / "run.json").write_text(json.dumps({**said(run), "metrics": rows}))
    with pytest.raises(PublishError, match=f"of {text} there are none") as refused:
        drafted(run, base=BASE_ID)
    assert refused.value.id == "E_METRIC" and "--allow-unreproduced" in str(refused.value.hint)
    notes = drafted(run, base=BASE_ID, allow_unreproduced=True).notes
    assert any(f"of {text}" in note for note in notes) and any("figures reproduced on" in note for note in notes)


def test_a_run_s_figures_on_its_several_parts_stand(run: Path) -> None:
    """One part of a run without test rows is asked; the others are what it measured, and no other data's."""
    rows = [row for row in said(run)["metrics"] if row["split"] == "validation"]
    assert rows
    (run / "run.json").write_text(
        json.dumps({**said(run), "metrics": [*rows, {**rows[0], "split": "train", "value": 0.2}]})
    )
    notes = drafted(run, base=BASE_ID).notes
    assert any("figures reproduced on" in note for note in notes)
    assert "1 figure of the run's other rows (train) as it measured them, not asked again" in notes


def test_weights_that_the_run_did_not_write(run: Path) -> None:
    file = run / "adapter" / "adapter_model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(PublishError, match="as the run wrote it") as error:
        drafted(run, base=BASE_ID)
    assert error.value.id == "E_HASH"


@pytest.mark.parametrize("status", ["running", "gone"])
def test_a_run_that_is_not_done(status: str, run: Path) -> None:
    (run / "run.json").write_text(json.dumps({**said(run), "status": status}))
    with pytest.raises(UsageError, match="a run that is done"):
        drafted(run, base=BASE_ID)


@pytest.mark.parametrize(
    "row",
    [{"name": "accuracy", "value": "high"}, {"name": 7}, {"value": True}, {"interval": [1]}, {"n": "many"}, {"dataset": None}],
    ids=str,
)  # fmt: skip
def test_figures_that_are_none(row: dict[str, Any], run: Path) -> None:
    document = said(run)
    document["metrics"][-1] |= row
    (run / "run.json").write_text(json.dumps(document))
    with pytest.raises(PublishError, match="a figure: expected name, value"):
        drafted(run, base=BASE_ID)


def test_figures_kept_beside_an_adapter_are_asked_too(run: Path, trained: Path) -> None:
    folder = run / "adapter"
    api.eval(str(folder), trained / "rows.jsonl", dataset="Toy reviews")
    options = {"eval_options": {"dataset": "Toy reviews"}, "base": BASE_ID}
    found = drafted(folder, data=trained / "rows.jsonl", **options)
    assert any("reproduced on" in note and "(accuracy" in note for note in found.notes)
    assert [metric.name for metric in found.release.metrics] == ["accuracy", "f1", "mcc", "loss"]
    (picture,) = [file for file in found.files if file.path == "figures.png"]
    assert (picture.data or b"").startswith(b"\x89PNG") and picture.role is None
    assert found == drafted(folder, data=trained / "rows.jsonl", **options)
    document = json.loads((folder / "metrics.json").read_text())
    document["metrics"][0]["value"] = 0.2
    (folder / "metrics.json").write_text(json.dumps(document))
    with pytest.raises(PublishError, match=r"0\.2000 as stated"):
        drafted(folder, data=trained / "rows.jsonl", **options)
    with pytest.raises(PublishError, match="no data to measure on is named"):
        drafted(folder, base=BASE_ID)


def test_figures_of_the_card_are_asked_as_well(run: Path, trained: Path) -> None:
    """Beside none of the folder's own, they are judged on the data that was named; others need a word more."""
    said = "model-index: [{{name: x, results: [{{task: {{type: x}}, dataset: {{type: x, name: {}}}, metrics: [{{type: {}, value: {}}}]}}]}}]"  # fmt: skip
    folder = run / "adapter"
    options: dict[str, Any] = {"eval_options": {"dataset": "Toy reviews"}, "base": BASE_ID}

    def of(*claim: Any, **more: Any) -> Any:
        (folder / "README.md").write_text(f"---\n{said.format(*claim)}\n---\n# x\n")
        return drafted(folder, data=trained / "rows.jsonl", **options, **more)

    accuracy = {row["name"]: row for row in json.loads((run / "run.json").read_text())["metrics"]}["accuracy"]["value"]
    assert any("1 figure reproduced on" in note for note in of("Toy reviews", "accuracy", accuracy).notes)
    with pytest.raises(PublishError, match=r"0\.1000 as stated"):
        of("Toy reviews", "accuracy", 0.1, allow_unreproduced=True)
    with pytest.raises(PublishError, match="of bleu on Toy reviews there are none"):
        of("Toy reviews", "bleu", 0.5)
    (folder / "metrics.json").unlink(missing_ok=True)
    api.eval(str(folder), trained / "rows.jsonl", dataset="Toy reviews")
    with pytest.raises(PublishError, match="of accuracy on Books there are none"):
        of("Books", "accuracy", 0.9)
    assert any("of accuracy on Books" in note for note in of("Books", "accuracy", 0.9, allow_unreproduced=True).notes)


KEYS = ("name", "path", "task", "method", "config", "base", "seed", "pipeline", "head", "rows", "data", "parameters", "steps", "best", "metrics", "files", "versions")  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_run_json_that_anyone_may_have_written(key: str, run: Path) -> None:
    (run / "recipe.toml").unlink()
    document = said(run)
    for value in (7, "x", [], [[]], {"a": [1]}, {"id": 3}, {"labels": 5}, None, "\x1b[31m"):
        (run / "run.json").write_text(json.dumps({**document, key: value}))
        try:
            found = drafted(run, base=BASE_ID, allow_unreproduced=True)
        except HubcliError:
            continue
        assert found.release.base is not None and found.release.base.id == BASE_ID
