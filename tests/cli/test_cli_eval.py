"""hubcli eval: figures against plain peft and scikit-learn, row by row; and where they are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sklearn.metrics as sk
import torch
import transformers as tf
from huggingface_hub import constants
from peft import PeftModel
from torch.nn import functional as F

from hubcli import api, measured
from hubcli.errors import PolicyError
from tests.api.hub_repos import TARGETS, adapter_folder, at_hub, base_folder, off_line
from tests.support.adapters import BASE_ID, IndexFolder
from tests.support.cli import hubcli
from tests.support.composed import compose, composed
from tests.support.evaluated import LABELS, ROWS, figures, rows_of, table, texts
from tests.support.hub_server import LiveHub, allow_loopback

pytestmark = pytest.mark.filterwarnings("ignore")


def classifier(made: Path, name: str) -> Any:
    plain = tf.AutoModelForSequenceClassification.from_pretrained(made / "base", num_labels=3)
    return PeftModel.from_pretrained(plain, str(made / name)).eval()


def said(made: Path, name: str, rows: list[dict[str, str]]) -> tuple[list[int], list[float]]:
    """Each row alone through plain peft: the class, and the loss of the right one."""
    model, tokenizer = classifier(made, name), tf.AutoTokenizer.from_pretrained(made / "base")
    found = []
    for row in rows:
        tokens = tokenizer(row["text"], return_tensors="pt")
        tokens.pop("token_type_ids", None)
        with torch.no_grad():
            logits = model(**tokens).logits[0]
        found.append((int(logits.argmax()), float(F.cross_entropy(logits, torch.tensor(LABELS.index(row["label"]))))))
    return [one for one, _ in found], [loss for _, loss in found]


@pytest.mark.parametrize("size", ["1", "7", "64"])
def test_classes_as_peft_and_sklearn_say(here: Path, made: Path, size: str) -> None:
    answer = hubcli("eval", "./a", "--data", "test.csv", "--json", "--batch-size", size)
    assert answer.code == 0, answer.err
    rows = rows_of(here / "test.csv")
    right = [LABELS.index(row["label"]) for row in rows]
    predicted, losses = said(made, "a", rows)
    found = figures(answer.document)
    want = {
        "accuracy": sk.accuracy_score(right, predicted),
        "f1_macro": sk.f1_score(right, predicted, average="macro"),
        "mcc": sk.matthews_corrcoef(right, predicted),
        "loss": sum(losses) / ROWS,
    }
    assert {name: figure["value"] for name, figure in found.items()} == pytest.approx(want, abs=1e-6)
    assert {figure["n"] for figure in found.values()} == {ROWS}
    assert found["accuracy"]["interval"][0] < want["accuracy"] < found["accuracy"]["interval"][1]
    told = answer.document["data"]
    assert (told["rows"], told["split"], told["files"][0]["path"]) == (ROWS, "test", "test.csv")
    assert told["name"] == f"{here.name}/test.csv"
    assert answer.document["settings"]["max_length"] == 32, "what the model reads"


def test_a_composition_and_the_children_of_a_parallel(here: Path, made: Path) -> None:
    rows = rows_of(here / "test.csv")
    right = [LABELS.index(row["label"]) for row in rows]
    both = hubcli("eval", "parallel(./a, ./b)", "--data", "test.csv", "--json").document
    assert [result["expression"] for result in both["results"]] == ["./a", "./b"] and both["written"] is None
    for at, name in enumerate("ab"):
        accuracy = sk.accuracy_score(right, said(made, name, rows)[0])
        assert figures(both, at)["accuracy"]["value"] == pytest.approx(accuracy)
    handle = api.load_adapter("average(./a, ./b, weights=[0.8, 0.5])")
    best = [LABELS.index(answer.label) for answer in handle.predict([row["text"] for row in rows], batch_size=1)]
    mixed = hubcli("eval", "average(./a, ./b, weights=[0.8, 0.5])", "--data", "test.csv", "--json").document
    assert figures(mixed)["mcc"]["value"] == pytest.approx(sk.matthews_corrcoef(right, best))
    assert mixed["written"] is None and not (here / "a" / "metrics.json").exists()


def test_columns_labels_and_a_limit(here: Path) -> None:
    rows = rows_of(here / "test.csv")
    codes = {"no": "0", "yes": "1", "maybe": "2"}
    table(here / "raw.tsv.txt", ["review", "stars"], [(row["text"], codes[row["label"]]) for row in rows])
    mapped = [part for label, code in codes.items() for part in ("--label-map", f"{code}={label}")]
    named = ("--data", "raw.tsv.txt", "--format", "csv", "--column", "text=review", "--column", "label=stars")
    plain = hubcli("eval", "./a", "--data", "test.csv", "--json").document
    answer = hubcli("eval", "./a", *named, *mapped, "--json", "--no-write", "--dataset", "mine")
    assert answer.code == 0, answer.err
    assert answer.document["results"] == plain["results"] and answer.document["data"]["name"] == "mine"
    few = hubcli("eval", "./a", "--data", "test.csv", "--limit", "9", "--seed", "4", "--json").document
    again = hubcli("eval", "./a", "--data", "test.csv", "--limit", "9", "--seed", "4", "--json").document
    assert few == again and few["data"]["rows"] == 9 and few["written"] is None


def test_a_recipe_s_part(here: Path, made: Path) -> None:
    (here / "recipe.toml").write_text(
        f'v = 1\ntask = "SEQ_CLS"\nbase = {{ id = "{made / "base"}" }}\nmethod = {{ name = "lora" }}\nseed = 5\n'
        'data = { train = "train.csv", test = "test.csv", name = "moods" }\ntrain = { max_length = 6 }\n'
    )
    table(here / "train.csv", ["text", "label"], [(text, LABELS[i % 3]) for i, text in enumerate(texts(60, 8))])
    document = hubcli("eval", "./a", "--recipe", "recipe.toml", "--json").document
    assert document["data"]["name"] == "moods" and document["data"]["rows"] == ROWS
    assert (document["settings"]["seed"], document["settings"]["max_length"]) == (5, 6)
    cut = hubcli("eval", "./a", "--recipe", "recipe.toml", "--part", "validation", "--json").document
    assert cut["data"]["split"] == "validation" and 0 < cut["data"]["rows"] < 20


def test_a_recipe_s_own_seed_alone_cuts_the_parts(here: Path, made: Path) -> None:
    """Another one for the intervals never brings rows to test that were trained on."""
    table(here / "train.csv", ["text", "label"], [(text, LABELS[i % 3]) for i, text in enumerate(texts(90, 8))])
    (here / "recipe.toml").write_text(
        f'v = 1\ntask = "SEQ_CLS"\nbase = {{ id = "{made / "base"}" }}\nmethod = {{ name = "lora" }}\nseed = 5\n'
        'data = { train = "train.csv" }\nsplit = { test = 0.3, by = "random" }\ntrain = { max_length = 20 }\n'
    )
    asked = ("eval", "./a", "--recipe", "recipe.toml", "--no-write", "--json")
    own, other = hubcli(*asked).document, hubcli(*asked, "--seed", "7").document
    value = {name: figure["value"] for name, figure in figures(own).items()}
    assert {name: figure["value"] for name, figure in figures(other).items()} == value
    assert figures(own)["mcc"]["interval"] != figures(other)["mcc"]["interval"]
    few = [hubcli(*asked, "--seed", seed, "--limit", "20").document for seed in "79"]
    assert figures(few[0])["loss"] != figures(few[1])["loss"] and few[0]["settings"]["seed"] == 7


def test_a_recipe_s_base_is_loaded_as_its_training_loads_it(here: Path) -> None:
    """The method's quantisation and the base's dtype: what its own figures were made on."""
    base = base_folder(here / "wide", hidden_size=64, intermediate_size=64)
    adapter_folder(here / "mine", base, str(base), classes=3, labels=LABELS)
    said = f'v = 1\ntask = "SEQ_CLS"\nbase = {{ id = "{base}", dtype = "bfloat16" }}\n'
    said += 'data = { train = "test.csv", test = "test.csv" }\ntrain = { max_length = 20 }\n'
    (here / "plain.toml").write_text(said + 'method = { name = "lora" }\n')
    (here / "small.toml").write_text(said.replace("bfloat16", "float32") + 'method = { name = "qlora" }\n')
    asked = ("eval", "./mine", "--no-write", "--json", "--recipe")
    plain, small = (hubcli(*asked, f"{name}.toml") for name in ("plain", "small"))
    assert plain.code == small.code == 0, plain.err + small.err
    settings = [answer.document["settings"] for answer in (plain, small)]
    assert [(row["dtype"], row["quantize"]) for row in settings] == [("bfloat16", None), ("float32", "nf4")]
    by_hand = ("eval", "./mine", "--no-write", "--json", "--data", "test.csv", "--max-length", "20")
    quantised = hubcli(*by_hand, "--quantize", "nf4", "--dtype", "float32").document
    assert figures(small.document) == figures(quantised) != figures(plain.document)
    own, other = hubcli(*by_hand).document, hubcli(*asked, "plain.toml", "--dtype", "float32").document
    assert other["settings"]["dtype"] == "float32" and figures(other) == figures(own)


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_the_bars_of_who_reads_a_dataset_are_silent(
    option: str, here: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", here / "cache")
    (here / "set").mkdir()
    for part in ("train", "test"):
        shutil.copy(here / "test.csv", here / "set" / f"{part}.csv")
    (here / "recipe.toml").write_text(
        f'v = 1\ntask = "SEQ_CLS"\nbase = {{ id = "{made / "base"}" }}\nmethod = {{ name = "lora" }}\n'
        'data = { dataset = "./set" }\ntrain = { max_length = 20 }\n'
    )
    datasets.enable_progress_bars()
    try:
        answer = hubcli("eval", "./a", "--recipe", "recipe.toml", "--no-write", option)
        assert datasets.is_progress_bar_enabled()
    finally:
        datasets.disable_progress_bars()
    assert answer.code == 0 and answer.err == "" and answer.out


# Where figures are kept


def test_beside_a_folder_of_peft_s(here: Path) -> None:
    before = {path.name: path.read_bytes() for path in (here / "a").iterdir()}
    for option in ("--dry-run", "--no-write"):
        assert hubcli("eval", "./a", "--data", "test.csv", "--json", option).document["written"] is None
    assert {path.name: path.read_bytes() for path in (here / "a").iterdir()} == before
    other = {"name": "accuracy", "value": 0.5, "n": 3, "dataset": "else", "split": "test", "sha256": "0" * 64}
    measured.write(here / "a", [other])
    for _ in range(2):
        written = hubcli("eval", "./a", "--data", "test.csv", "--json").document["written"]
        assert written == {"path": str(here / "a" / "metrics.json"), "figures": 4}
    kept = measured.read(here / "a")
    assert set(kept[1]) == {
        "name", "value", "interval", "n", "dataset", "split", "sha256", "seed", "task", "settings", "hubcli"
    }  # fmt: skip
    assert kept[0] == other and [row["name"] for row in kept] == ["accuracy", "accuracy", "f1_macro", "mcc", "loss"]
    assert {path.name for path in (here / "a").iterdir()} == {*before, "metrics.json"}
    assert all((here / "a" / name).read_bytes() == content for name, content in before.items())
    assert hubcli("run", "./a", "a good film").code == 0


def test_in_the_manifest_of_hubcli_s_own_format(here: Path) -> None:
    assert hubcli("convert", "./a", "--to", "hubcli", "--out", "own").code == 0
    before = json.loads((here / "own" / "manifest.json").read_text())
    names = sorted((here / "own").iterdir())
    document = hubcli("eval", "./own", "--data", "test.csv", "--json").document
    assert document["written"]["path"] == str(here / "own" / "manifest.json")
    after = json.loads((here / "own" / "manifest.json").read_text())
    rows = after.pop("metrics")
    assert after == before and rows[0]["value"] == figures(document)["accuracy"]["value"]
    assert sorted((here / "own").iterdir()) == names
    again = hubcli("eval", "./own", "--data", "test.csv", "--json", "--no-write").document
    peft = hubcli("eval", "./a", "--data", "test.csv", "--json").document
    assert figures(again) == figures(document) == figures(peft)


def test_another_program_s_file_is_left_alone(here: Path) -> None:
    (here / "a" / "metrics.json").write_text('{"accuracy": 1}')
    answer = hubcli("eval", "./a", "--data", "test.csv", "--json")
    assert answer.code == 0 and answer.document["written"] is None
    assert "not written" in answer.err and "another program's file" in answer.err
    assert (here / "a" / "metrics.json").read_text() == '{"accuracy": 1}'


@pytest.fixture
def shop(here: Path, made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index whose one adapter is ./a, for a base that stands in the cache of the hub's client."""
    cache = home.parent / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    repo = cache / f"models--{BASE_ID.replace('/', '--')}"
    shutil.copytree(made / "base", repo / "snapshots" / ("c" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c" * 40)
    config = json.loads((here / "a" / "adapter_config.json").read_text()) | {"base_model_name_or_path": BASE_ID}
    (here / "a" / "adapter_config.json").write_text(json.dumps(config))
    index = IndexFolder(here / "index")
    files = {path.name: path.read_bytes() for path in (here / "a").iterdir() if path.name != "config.json"}
    index.add(
        "acme/moods", files=files, task="text-classification", head={"labels": LABELS, "modules": ["classifier", "score"]},
        method_config={"r": 3, "lora_alpha": 5, "target_modules": TARGETS["bert"]},
        base={"id": BASE_ID, "revision": None, "architecture": None, "weights_sha256": None, "quantization": None},
    )  # fmt: skip
    assert hubcli("index", "add", "acme", str(index.folder)).code == 0
    return index.folder


def test_in_the_record_of_what_is_installed(here: Path, shop: Path) -> None:
    answer = hubcli("eval", "acme/moods", "--data", "test.csv", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["written"]["path"].endswith(".hubcli.json")
    assert hubcli("verify", "--json").document["ok"]
    known = hubcli("info", "acme/moods", "--json").document
    wanted = figures(answer.document)
    assert [row["name"] for row in known["measured"]] == list(wanted) and known["release"]["metrics"] == []
    assert known["measured"][0]["value"] == wanted["accuracy"]["value"]
    shown = hubcli("info", "acme/moods").out
    assert f"measured here  accuracy {wanted['accuracy']['value']:.4f} (95 % interval " in shown
    assert hubcli("install", "acme/moods", "--json").document["installed"][0]["changed"] is False
    hubcli("eval", "acme/moods", "--data", "test.csv", "--json", "--dataset", "else")
    assert len(hubcli("info", "acme/moods", "--json").document["measured"]) == 8
    assert hubcli("uninstall", "acme/moods").code == 0 and hubcli("install", "acme/moods").code == 0
    assert hubcli("info", "acme/moods", "--json").document["measured"] == [], "what is fetched anew starts without"


def test_the_folder_of_an_installed_adapter_is_no_place_for_figures(here: Path, shop: Path) -> None:
    folder = hubcli("install", "acme/moods", "--json").document["installed"][0]["path"]
    with pytest.raises(PolicyError, match="an installed adapter's folder"):
        measured.write(Path(folder), [])
    assert hubcli("verify", "--json").document["ok"]


def test_of_a_composition_that_is_an_entry(here: Path, shop: Path) -> None:
    parts = {"acme/moods": "^1", "acme/others": "^1"}
    index = IndexFolder(shop)
    document = json.loads((shop / "acme" / "moods.json").read_text())
    index.write("acme/others", {**document, "name": "acme/others"})
    mixed = composed("average(acme/moods, acme/others)", parts, task="text-classification")
    compose(index, "acme/mix", mixed)
    answer = hubcli("eval", "acme/mix", "--data", "test.csv", "--json")
    assert answer.code == 0, answer.err
    alone = hubcli("eval", "acme/moods", "--data", "test.csv", "--json").document
    assert figures(answer.document)["mcc"] == figures(alone)["mcc"]
    counts = {name: len(hubcli("info", name, "--json").document["measured"]) for name in (*parts, "acme/mix")}
    assert counts == {"acme/moods": 4, "acme/others": 0, "acme/mix": 4} and hubcli("verify").code == 0


def test_of_a_hub_s_repository(here: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without labels of its own: --label-map says which of its classes a value is."""
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub") as hub:
        hub.import_folder("acme/bert", made / "base")
        at_hub(monkeypatch, hub, tmp_path / "client")
        hub.import_folder("acme/mood", adapter_folder(tmp_path / "up", made / "base", "acme/bert", classes=3, seed=1))
        refused = hubcli("eval", "hf:acme/mood", "--data", "test.csv", "--json").document["error"]
        assert "LABEL_0" in refused["message"] and "--label-map" in refused["hint"]
        mapped = [part for i, name in enumerate(LABELS) for part in ("--label-map", f"{name}=LABEL_{i}")]
        answer = hubcli("eval", "hf:acme/mood@main", "--data", "test.csv", *mapped, "--json")
    assert answer.code == 0, answer.err
    assert figures(answer.document) == figures(hubcli("eval", "./a", "--data", "test.csv", "--json").document)
    off_line(monkeypatch)
    assert len(hubcli("info", "hf:acme/mood@main", "--json").document["measured"]) == 4
    assert hubcli("verify").code == 0


# What is refused

FAULTS: dict[str, tuple[list[str], int, str, str]] = {
    "no data": (["./a"], 2, "expected either data (--data FILE) or a recipe (--recipe), found neither", ""),
    "data and recipe": (["./a", "--data", "test.csv", "--recipe", "r.toml"], 2, "found both", ""),
    "no such file": (["./a", "--data", "gone.csv"], 3, "no file gone.csv", ""),
    "an empty file": (["./a", "--data", "empty.csv"], 2, "empty.csv", ""),
    "no rows": (["./a", "--data", "header.csv"], 2, "expected rows, found none", ""),
    "another label": (["./a", "--data", "other.csv"], 2, "expected one of the labels", "--label-map VALUE=LABEL"),
    "another column": (["./a", "--data", "text.csv"], 2, "found", "--column text=Text --column label=Label"),
    "no label of the adapter's": (["./a", "--data", "test.csv", "--label-map", "no=never"], 2, "'never'", ""),
    "a pair that is none": (["./a", "--data", "test.csv", "--column", "text"], 2, "expected NAME=VALUE", ""),
    "a column the task has not": (["./a", "--data", "test.csv", "--column", "image=x"], 2, "not image", ""),
    "a part of a file": (["./a", "--data", "test.csv", "--part", "train"], 2, "it is for a recipe", ""),
    "another task": (["./a", "--data", "test.csv", "--task", "CAUSAL_LM"], 2, "for CAUSAL_LM, found one for SEQ_CLS", ""),
    "a split": (["split(./a, ./b, sizes=[2, 3])", "--data", "test.csv"], 1, "Split cuts at fixed sizes", "one by one"),
    "rows cut": (["batchsplit(./a, ./b, sizes=[2, 3])", "--data", "test.csv"], 1, "BatchSplit cuts at fixed", "one by one"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_refused(case: str, here: Path) -> None:
    (here / "empty.csv").write_text("")
    table(here / "header.csv", ["text", "label"], [])
    table(here / "other.csv", ["text", "label"], [("a film", "yes"), ("a plot", "Yess")])
    table(here / "text.csv", ["Text", "Label"], [("a film", "yes")])
    arguments, code, message, hint = FAULTS[case]
    answer = hubcli("eval", *arguments, "--json")
    assert answer.code == code, answer.err + answer.out
    error = answer.document["error"]
    assert message in error["message"] and hint in (error["hint"] or ""), error
    assert not (here / "a" / "metrics.json").exists()


def test_the_table_for_people(here: Path) -> None:
    answer = hubcli("eval", "./a", "--data", "test.csv")
    assert f"{here.name}/test.csv, test: {ROWS} rows, sha256 " in answer.out
    assert "METRIC" in answer.out and "accuracy" in answer.out and " to " in answer.out
    assert "written to" in answer.err and "written to" not in answer.out
    assert hubcli("eval", "./a", "--data", "test.csv", "--quiet").err == ""
