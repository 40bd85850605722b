"""Comparisons: which trainings they are made of, their processes, and every number of the table against its own counting."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hubcli import api
from hubcli.api import compare_page
from hubcli.errors import BusyError, HubcliError, MethodNotFoundError, UsageError
from hubcli.recipe import read
from hubcli.training import run_folder
from hubcli.training.compare import children, plan
from tests.support.cli import validator

FAKE = Path(__file__).with_name("fake_train.py")
TOY = """v = 1
name = "toy/films"
task = "SEQ_CLS"
seed = 7
base = { id = "base" }
method = { name = "lora", config = { r = 2 }, format = "peft" }
data = { train = "train.csv" }
[train]
epochs = 2
[compare.bottleneck]
head = "none"
[compare.bottleneck.train]
max_steps = 5
learning_rate = 2e-3
[compare.lora.config]
lora_alpha = 4
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with its data, in the current folder; there is no such base."""
    monkeypatch.chdir(tmp_path)
    rows = [f"film {i} is {'good' if i % 2 else 'bad'},{'yes' if i % 2 else 'no'}" for i in range(60)]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    file = tmp_path / "recipe.toml"
    file.write_text(TOY)
    return file


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings that never were; the test changes what the next ones do. Every start is written down behind it."""
    how = ["well"]

    def command(run: plan.Run, more: Any) -> list[str]:
        how.append(" ".join([run.name, *(option for option in more if option != "--offline")]))
        return [sys.executable, "-S", str(FAKE), str(run.file), str(run.folder), *more, how[0]]

    monkeypatch.setattr(children, "command", command)
    return how


def reports(folder: Path) -> dict[str, dict[int, Any]]:
    found: dict[str, dict[int, Any]] = {}
    for file in folder.glob("*/run.json"):
        report = json.loads(file.read_text())
        found.setdefault(report["method"], {})[report["seed"]] = report
    return found


def half(values: list[float]) -> float:
    """Of the 95 % t interval, from its definition."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def value(report: Any, name: str, part: str) -> float:
    return next(float(f["value"]) for f in report["metrics"] if (f["name"], f["split"]) == (name, part))


def test_the_recipe_of_each_method_is_what_is_said_of_it(recipe: Path, tmp_path: Path) -> None:
    runs = plan.planned(read(recipe), ["full", "lora", "bottleneck", "prefix"], [7, 9], tmp_path / "out")
    assert [run.name for run in runs] == [f"{m}-{s}" for m in ("full", "lora", "bottleneck", "prefix") for s in (7, 9)]
    full, lora, bottleneck, prefix = (run.recipe for run in runs[1::2])
    assert {run.recipe.seed for run in runs[1::2]} == {9} and lora.compare == {}
    assert (lora.method.config, lora.method.format) == ({"r": 2, "lora_alpha": 4}, "peft")
    for other in (full, bottleneck, prefix):
        assert (other.method.config, other.method.format) == ({}, None)
    assert (full.method.head, bottleneck.method.head, prefix.method.head) == ("auto", "none", "auto")
    assert (bottleneck.train.max_steps, bottleneck.train.learning_rate, prefix.train.max_steps) == (5, 2e-3, None)
    assert prefix.train == lora.train == full.train == read(recipe).train


@pytest.mark.parametrize(("name", "hint"), [("lroa", "did you mean 'compare.lora'?"), ("xyz", "there are bitfit")])
def test_what_a_recipe_says_of_no_method_is_refused(recipe: Path, tmp_path: Path, name: str, hint: str) -> None:
    recipe.write_text(recipe.read_text() + f"[compare.{name}]\nhead = 'none'\n")
    with pytest.raises(UsageError, match=f"compare.{name}: no method {name}") as told:
        plan.planned(read(recipe), ["full", "lora"], [7], tmp_path / "out")
    assert told.value.hint is not None and told.value.hint.startswith(hint)


def test_a_recipe_is_the_same_when_it_is_read_back(recipe: Path, tmp_path: Path) -> None:
    for run in plan.planned(read(recipe), ["full", "lora", "bottleneck"], [0], tmp_path / "out"):
        run.folder.mkdir(parents=True)
        (run.folder / run_folder.RECIPE).write_text(run.text)
        assert run_folder.written(read(run.folder / run_folder.RECIPE)) == run.text
        assert run_folder.same(run.folder, run.recipe)
        run.file.write_text(run.text.replace("batch_size = 32\n", ""))  # as written before there was such a key
        run.file.replace(run.folder / run_folder.RECIPE)
        assert run_folder.same(run.folder, run.recipe)
        run.file.write_text(run.text.replace("batch_size = 32\n", "batch_size = 31\n"))
        run.file.replace(run.folder / run_folder.RECIPE)
        assert not run_folder.same(run.folder, run.recipe)


@pytest.mark.parametrize(
    ("changes", "options", "error", "text"),
    [
        ({}, {"methods": ["lora", "bottelneck"]}, MethodNotFoundError, "bottelneck"),
        ({"compare.prefix.config": {"prefix_lenght": 3}}, {"methods": ["prefix"]}, UsageError, r"compare\.prefix.*prefix_lenght"),
        ({"compare.lora.config": {"lora_alhpa": 3}}, {}, UsageError, "did you mean 'lora_alpha'"),
        ({"method.config": {"r": "many"}}, {}, UsageError, r"compare\.lora.*config\.r: expected integer"),
        ({"compare.full.config": {"r": 3}}, {}, UsageError, "full trains every weight"),
        ({"compare.lora.quantise": "nf4"}, {}, UsageError, r"compare\.lora"),
        ({"compare.lroa.config": {"r": 3}}, {}, HubcliError, "lroa"),
        ({"compare.bitfti.train": {"epochs": 1}}, {"methods": ["lora"]}, UsageError, r"compare\.bitfti: no method bitfti"),
        ({"compare.prefix.train": {"epochs": 1}}, {"methods": ["lora"]}, UsageError, "prefix is not compared, only lora"),
        ({}, {"seeds": [1, 1]}, UsageError, "each once"),
        ({}, {"seeds": 0}, UsageError, "at least one seed"),
        ({}, {"methods": []}, UsageError, "at least one method"),
        ({}, {"reference": "full"}, UsageError, "reference: expected one of lora, bottleneck"),
        ({"data.train": "nowhere.csv"}, {}, HubcliError, "nowhere.csv"),
    ],
    ids=lambda given: str(given)[:30],
)  # fmt: skip
def test_what_can_not_be_is_refused_before_anything_runs(
    recipe: Path, mode: list[str], changes: Any, options: Any, error: type[HubcliError], text: str
) -> None:
    for dry in (True, False):
        with pytest.raises(error, match=text):
            api.compare(recipe, out="out", changes=changes, dry_run=dry, **options)
    assert mode == ["well"] and not Path("out").exists()


def test_a_dry_run_lists_the_runs_and_writes_nothing(recipe: Path, mode: list[str]) -> None:
    report = api.compare(recipe, dry_run=True)
    assert [(run["method"], run["seed"]) for run in report["runs"]] == [
        (m, s) for m in ("lora", "bottleneck") for s in (7, 8, 9)
    ]
    assert {run["status"] for run in report["runs"]} == {"new"} and report["reference"] == "lora"
    assert report["path"] == "runs/compare-toy-films" and not Path("runs").exists() and mode == ["well"]


def test_every_number_of_the_table_against_its_own_counting(recipe: Path, mode: list[str]) -> None:
    methods = ["lora", "full", "qlora", "prefix"]
    report = api.compare(recipe, methods, out="out", seeds=4, jobs=2)
    runs = reports(Path("out"))
    assert report["reference"] == "full" and report["seeds"] == [7, 8, 9, 10]
    assert report["metric"] == {"name": "accuracy", "split": "test", "higher_is_better": True}
    for row in report["methods"]:
        own = [runs[row["method"]][seed] for seed in (7, 8, 9, 10)]
        scores = [value(one, "accuracy", "test") for one in own]
        assert row["metric"]["mean"] == pytest.approx(np.mean(scores))
        assert row["metric"]["interval"] == pytest.approx(
            [np.mean(scores) - half(scores), np.mean(scores) + half(scores)]
        )
        assert [(v["seed"], v["value"]) for v in row["metric"]["values"]] == list(
            zip((7, 8, 9, 10), scores, strict=True)
        )
        f1 = next(m for m in row["metrics"] if (m["name"], m["split"]) == ("f1", "validation"))
        assert f1["mean"] == pytest.approx(np.mean([value(one, "f1", "validation") for one in own]))
        assert row["seconds_per_epoch"] == pytest.approx(np.median([one["seconds_per_epoch"] for one in own]))
        assert row["peak_memory"] == int(np.median([one["peak_memory"] for one in own]))
        assert row["parameters"]["trainable"] - row["parameters"]["without_head"] == 50
        assert row["parameters"]["share"] == pytest.approx(own[0]["parameters"]["trainable"] / 100_000)
        assert row["size"] == int(np.median([one["files"][0]["size"] + 500 for one in own]))
        assert row["linears"]["share"] == own[0]["linears"]["bytes"] / 4000
    pairs = {(found["method"], found["to"]): found for found in report["differences"]}
    assert set(pairs) == {("lora", "full"), ("qlora", "full"), ("prefix", "full"), ("qlora", "lora")}
    for (one, other), found in pairs.items():
        apart = [
            value(runs[one][s], "accuracy", "test") - value(runs[other][s], "accuracy", "test") for s in (7, 8, 9, 10)
        ]
        library = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
        assert found["mean"] == pytest.approx(np.mean(apart))
        assert found["interval"] == pytest.approx([library.low, library.high])
    assert {row["method"]: row["quantize"] for row in report["methods"]} == {
        "lora": None,
        "full": None,
        "qlora": "nf4",
        "prefix": None,
    }


def test_what_is_written_says_the_same(recipe: Path, mode: list[str]) -> None:
    report = api.compare(recipe, ["full", "lora"], out="out", seeds=2)
    document = json.loads(Path("out/compare.json").read_text())
    assert document == json.loads(json.dumps(report))
    validator("compare").validate(document)
    page = Path("out/compare.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    assert rows[0][:7] == ["method", "trainable", "without head", "of the base", "file", "accuracy", "to full"]
    _, lora = report["methods"]
    scores = [v["value"] for v in lora["metric"]["values"]]
    assert [row[0] for row in rows[2:]] == ["full", "lora"] and rows[2][6] == "-"
    assert (
        rows[3][1] == f"{lora['parameters']['trainable']:,}"
        and rows[3][5] == f"{np.mean(scores):.4f} ± {half(scores):.4f}"
    )
    assert re.fullmatch(r"[+-]0\.\d{4} \([+-]\d\.\d{4} to [+-]\d\.\d{4}\)", rows[3][6])
    assert (
        "](compare.svg)" in page
        and "`train.csv`, 60 rows" in page
        and "seeds 7, 8" in page
        and "none of a GPU" in page
        and "torch 9" in page
    )
    assert os.getcwd() not in page and "moon" not in page  # nothing of this machine
    assert Path("out/compare.png").read_bytes().startswith(b"\x89PNG")
    svg = Path("out/compare.svg").read_text()
    assert ">full<" in svg and ">lora<" in svg and ">trainable parameters, head included<" in svg
    assert not [path.name for path in Path("out").iterdir() if path.name.startswith(".compare")]


def test_a_failed_run_loses_itself_alone_and_the_same_call_mends_it(recipe: Path, mode: list[str]) -> None:
    mode[0] = "fail:lora-8"
    said: list[str] = []
    report = api.compare(recipe, ["full", "lora"], out="out", seeds=3, say=said.append)
    (failed,) = report["failed"]
    assert (failed["method"], failed["seed"], failed["message"]) == ("lora", 8, "the disk is on fire")
    assert failed["log"] == "out/lora-8.log" and "hint: put it out" in Path(failed["log"]).read_text()
    assert any("failed: the disk is on fire" in line for line in said)
    assert [v["seed"] for v in report["methods"][1]["metric"]["values"]] == [7, 9]
    assert report["differences"][0]["seeds"] == [7, 9]
    page = Path("out/compare.md").read_text()
    assert "lora has seeds 7, 9 alone." in page and "lora, seed 8, failed: `the disk is on fire`" in page
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in Path("out").glob("*/run.json")}
    mode[:] = ["well"]
    report = api.compare(recipe, ["full", "lora"], out="out", seeds=3)
    assert mode == ["well", "lora-8"] and not report["failed"]
    assert before == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before}
    assert report["differences"][0]["seeds"] == [7, 8, 9] and "failed" not in Path("out/compare.md").read_text()
    written = {file: file.stat().st_mtime_ns for file in Path("out").iterdir() if file.suffix in (".md", ".json")}
    api.compare(recipe, ["full", "lora"], out="out", seeds=3)
    assert len(mode) == 2 and written == {file: file.stat().st_mtime_ns for file in written}


def test_what_is_shared_says_nothing_of_this_machine(recipe: Path, mode: list[str], tmp_path: Path) -> None:
    (tmp_path / "models" / "mini").mkdir(parents=True)
    recipe.write_text(TOY.replace('id = "base"', 'id = "models/mini"'))
    api.compare(recipe, ["full", "lora"], out="out", seeds=1)
    failed = {
        "method": "lora", "seed": 8, "message": f"can't write {tmp_path}/out/x.bin: ~/y/z is full, 1/2 of https://a.b/c"
    }  # fmt: skip
    assert json.loads(Path("out/full-7/run.json").read_text())["base"]["id"] == str(tmp_path / "models/mini")
    written = [Path("out", name).read_text() for name in ("compare.md", "compare.json", "compare.svg")]
    assert all(str(tmp_path) not in text for text in written) and "base `mini`" in written[0]
    page = compare_page.page({**json.loads(written[1]), "failed": [failed]})
    assert "failed: `can't write …/x.bin: …/z is full, 1/2 of https://a.b/c`" in page


def test_what_shared_the_machine_is_said(recipe: Path, mode: list[str]) -> None:
    report = api.compare(recipe, ["full", "lora"], out="out", seeds=1)
    assert [run["jobs"] for run in report["runs"]] == [1, 1] and "shared" not in Path("out/compare.md").read_text()
    report = api.compare(recipe, ["full", "lora", "bottleneck"], out="out", seeds=2, jobs=2)
    said = "Up to 2 trainings shared the machine while full, lora, bottleneck trained"
    assert [run["jobs"] for run in report["runs"]] == [1, 2, 1, 2, 2, 2] and said in Path("out/compare.md").read_text()
    assert api.compare(recipe, ["full", "lora", "bottleneck"], out="out", seeds=2)["runs"] == report["runs"]
    Path("out/jobs.json").unlink()  # runs of before it was written down
    report = api.compare(recipe, ["full", "lora"], out="out", seeds=1)
    assert [run["jobs"] for run in report["runs"]] == [None, None]
    validator("compare").validate(json.loads(json.dumps(report)))


@pytest.mark.parametrize(("said", "parts"), [
    ("", []), ('[split]\nby = "random"\n', ["train", "validation", "test"]), ("[data.limit]\ntrain = 50\n", ["train"]),
], ids=["hash", "random", "limit"])  # fmt: skip
def test_rows_that_the_seed_decides_are_named(said: str, parts: list[str], recipe: Path, mode: list[str]) -> None:
    recipe.write_text(TOY.replace('data = { train = "train.csv" }\n', "") + '[data]\ntrain = "train.csv"\n' + said)
    assert api.compare(recipe, ["lora"], out="out", seeds=1)["data"]["by_seed"] == parts
    assert (f"rows of its own ({', '.join(parts)})" in Path("out/compare.md").read_text()) is bool(parts)


def test_a_run_that_is_killed_is_told_by_what_killed_it(recipe: Path, mode: list[str]) -> None:
    mode[0] = "die:full-7"
    report = api.compare(recipe, ["full", "lora"], out="out", seeds=1)
    assert report["failed"][0]["message"] == "ended by SIGKILL"
    assert report["reference"] == "full" and report["differences"] == []
    with pytest.raises(HubcliError, match="no run came to its end"):
        api.compare(recipe, ["full"], out="other", seeds=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_the_children_and_goes_on_later(recipe: Path, mode: list[str], number: int) -> None:
    mode[0] = f"wait:lora-8={int(number)}"
    with pytest.raises(KeyboardInterrupt):
        api.compare(recipe, ["lora", "bottleneck"], out="out", seeds=2)
    assert mode[1:] == ["lora-7", "lora-8"] and not Path("out/compare.json").exists()
    assert "broken off" in Path("out/lora-8.log").read_text()
    mode[:] = ["well"]
    states = {
        run["method"] + str(run["seed"]): run["status"]
        for run in api.compare(recipe, out="out", seeds=2, dry_run=True)["runs"]
    }
    assert states == {"lora7": "done", "lora8": "broken off", "bottleneck7": "new", "bottleneck8": "new"}
    report = api.compare(recipe, ["lora", "bottleneck"], out="out", seeds=2)
    assert mode[1:] == ["lora-8 --resume", "bottleneck-7", "bottleneck-8"] and not report["failed"]


def test_a_child_that_outlives_us_keeps_the_folder(recipe: Path, mode: list[str]) -> None:
    with children.locked(Path("out")) as lock:
        assert lock is not None
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))
    with pytest.raises(BusyError, match="at work in out"):
        api.compare(recipe, out="out", seeds=1)
    child.communicate(b"")
    api.compare(recipe, out="out", seeds=1)


def test_other_runs_are_no_part_of_it(recipe: Path, mode: list[str]) -> None:
    api.compare(recipe, ["lora"], out="out", seeds=1)
    with pytest.raises(UsageError, match=r"lora-7 is a run of another recipe"):
        api.compare(recipe, ["lora"], out="out", seeds=1, changes={"train.epochs": 1})
    with Path("train.csv").open("a") as file:
        file.write("one more film is good,yes\n")
    with pytest.raises(UsageError, match=r"lora-7 is a run of other data"):
        api.compare(recipe, ["lora"], out="out", seeds=1)
    assert mode == ["well", "lora-7"]
    api.compare(recipe, ["lora"], out="out", seeds=1, force=True)
    assert mode == ["well", "lora-7", "lora-7 --force"]
    Path("out/lora-7/run.json").unlink()  # killed before it had begun
    api.compare(recipe, ["lora"], out="out", seeds=1)
    assert mode[3:] == ["lora-7"]


def test_runs_on_other_rows_are_not_put_side_by_side(recipe: Path, mode: list[str]) -> None:
    api.compare(recipe, ["lora"], out="out", seeds=2)
    file = Path("out/lora-8/run.json")
    file.write_text(file.read_text().replace('"test": 50', '"test": 49'))
    with pytest.raises(HubcliError, match="another rows"):
        api.compare(recipe, ["lora"], out="out", seeds=2)


@pytest.mark.parametrize("places", [
    [(1e5, 0.86), (1.02e5, 0.861), (1.04e5, 0.859), (9e4, 0.8605), (2.2e7, 0.87), (1e5, 0.86)],
    [(3e4, 0.7), (6e4, 0.7), (1e5, 0.7), (1.1e5, 0.7), (2e5, 0.7), (2.2e7, 0.7)],
    [(300, 0.5)],
], ids=["close together", "in a row", "alone"])  # fmt: skip
def test_no_label_covers_another_nor_a_point_nor_the_axes(places: list[tuple[float, float]], tmp_path: Path) -> None:
    from matplotlib.text import Annotation

    from hubcli.training.compare import picture

    names = ["full", "lora", "qlora", "bottleneck", "prefix", "bitfit"]
    rows = [
        {"method": name, "parameters": {"trainable": int(x)}, "metric": {"mean": y, "interval": [y - 0.002, y + 0.002]}}
        for name, (x, y) in zip(names, places, strict=False)
    ]
    document = {
        "methods": rows,
        "metric": {"split": "test", "name": "accuracy"},
        "data": {"name": "films"},
        "base": {"id": "base", "parameters": 22_000_000},
    }
    made = picture.drawn(document)
    made.draw_without_rendering()
    (axes,) = made.axes
    boxes = [text.get_window_extent() for text in axes.texts if isinstance(text, Annotation)]
    assert [text.get_text() for text in axes.texts] == names[: len(places)]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    view, points = axes.get_window_extent(), axes.transData.transform(places)
    for box in boxes:
        assert view.x0 < box.x0 and box.x1 < view.x1 and view.y0 < box.y0 and box.y1 < view.y1
        assert not any(box.contains(*point) for point in points)
    ticks = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    shown = sorted(
        (box for box in ticks if view.x0 - 1 <= (box.x0 + box.x1) / 2 <= view.x1 + 1), key=lambda box: box.x0
    )
    assert len(shown) >= 1 and all(left.x1 < right.x0 for left, right in pairwise(shown))
