"""hubcli merge: the folder that it writes, as plain peft and as hubcli itself reads it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from hubcli import api, load_adapter
from tests.api.bundled import REF, TEXTS, classifier, peft_of, second_adapter, tokenizer
from tests.support.cli import hubcli
from tests.tensor.models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny base, and adapters a, b, c (a DoRA), d (of a's rank) for it, each with a head."""
    base = model_of("bert", torch.float32)
    base.save_pretrained(tmp_path / "base")
    base.config._name_or_path = base.name_or_path = str(tmp_path / "base")
    options = {"a": {"r": 2}, "b": {"r": 3}, "c": {"r": 2, "use_dora": True}, "d": {"r": 2}}
    for seed, (name, more) in enumerate(options.items(), 1):
        peft_adapter(base, tmp_path / name, "SEQ_CLS", seed, target_modules=["query", "value"], **more)
        (tmp_path / name / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(folder: Path) -> Any:
    """Plain peft with an adapter of this folder's base."""
    base = copy.deepcopy(model_of("bert", torch.float32))
    return PeftModel.from_pretrained(base, folder, autocast_adapter_dtype=False).eval()


def test_what_is_written_is_the_composition_in_plain_peft(parts: Path) -> None:
    expr = "average(./a, ./b, weights=[0.7, 0.3])"
    answer = hubcli("merge", expr, "--out", "new/m", "--json")
    assert answer.code == 0, answer.err
    report = answer.document
    assert (report["how"], report["format"], report["rank"]) == ("exact", "peft", {"min": 5, "max": 5})
    assert report["of"] == [{"name": "a", "weight": 0.7}, {"name": "b", "weight": 0.3}]
    assert report["error"]["overall"] <= 1e-6
    assert report["head"]["how"] == "averaged" and report["head"]["labels"] == ["no", "yes"]
    adapted = load_adapter(expr)
    wanted = logits(adapted.model, inputs_of("bert"))
    assert apart(logits(loaded(parts / "new" / "m"), inputs_of("bert")), wanted) <= 1e-5
    again = load_adapter("./new/m")
    assert apart(logits(again.model, inputs_of("bert")), wanted) <= 1e-5
    assert again.adapters["m"].labels == ("no", "yes")
    by_transformers = AutoModelForSequenceClassification.from_pretrained(
        parts / "new" / "m", dtype=torch.float32
    ).eval()
    assert apart(logits(by_transformers, inputs_of("bert")), wanted) <= 1e-5
    assert sorted(p.name for p in (parts / "new").iterdir()) == ["m"]


def test_one_adapter_stays_what_it_is(parts: Path) -> None:
    assert "identity" in hubcli("merge", "./c", "--out", "m").out
    one, other = load_file(parts / "c" / WEIGHTS), load_file(parts / "m" / WEIGHTS)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_head_keeps_its_numbers_on_a_coarser_base(parts: Path) -> None:
    model_of("bert", torch.bfloat16).save_pretrained(parts / "base")
    assert hubcli("merge", "./a", "--out", "m").code == 0
    one, other = load_file(parts / "a" / WEIGHTS), load_file(parts / "m" / WEIGHTS)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_an_approximation_states_its_error(parts: Path) -> None:
    refused = hubcli("merge", "average(./a, ./c)", "--out", "m", "--json")
    assert refused.document["error"]["id"] == "E_UNSUPPORTED"
    assert "DoRA" in refused.document["error"]["message"] and "svd" in refused.document["error"]["hint"]
    answer = hubcli("merge", "average(./a, ./c)", "--out", "m", "--how", "svd", "--rank", "2")
    assert answer.code == 0, answer.err
    line = next(line for line in answer.out.splitlines() if line.startswith("relative error 0."))
    assert "largest" in line and "self." in line
    assert "relative error 0." in (parts / "m" / "README.md").read_text()


@pytest.mark.parametrize("how", ["ties", "dare_linear", "dare_ties_svd", "magnitude_prune"])
def test_the_same_seed_gives_the_same_bytes(how: str, parts: Path) -> None:
    random = how.startswith("dare")
    more = ["--density", "0.5", *(["--rank", "2"] if how.endswith("svd") else [])]
    for name, seed in zip("xyz", ("1", "1", "2"), strict=True):
        given = [*more, "--seed", seed] if random else more
        assert hubcli("merge", "stack(./a, ./d)", "--out", name, "--how", how, *given).code == 0
    x, y, z = ((parts / name / WEIGHTS).read_bytes() for name in "xyz")
    assert x == y
    assert (x == z) is not random


def test_a_dry_run_writes_nothing(parts: Path) -> None:
    before = sorted(p.name for p in parts.iterdir())
    answer = hubcli(
        "merge", "average(./a, ./b)", "--out", "m", "--how", "svd", "--energy", "0.9", "--dry-run", "--json"
    )
    assert answer.document["written"] is False and answer.document["error"]["overall"] > 0.01
    assert sorted(p.name for p in parts.iterdir()) == before


REFUSED = [
    (["average(./a, ./b)", "--out", "a"], "E_USAGE", "not empty"),
    (["split(./a, ./b, sizes=[1, 2])", "--out", "m"], "E_UNSUPPORTED", "Split is no sum"),
    (["average(./a, ./nobody)", "--out", "m"], "E_NOT_FOUND", "nobody"),
    (["average(./a, ./b)", "--out", "m", "--how", "svd"], "E_USAGE", "needs one of them"),
    (["average(./a, ./b)", "--out", "m", "--rank", "3"], "E_USAGE", "means nothing to exact"),
    (["average(./a, ./b)", "--out", "m", "--how", "ties", "--density", "0.5"], "E_UNSUPPORTED", "equal ranks"),
    (["average(./a, ./b)", "--out", "m", "--head", "./c"], "E_USAGE", "not in the expression"),
    (["average(./a, ./b)", "--out", "m", "--format", "adapterhub"], "E_UNSUPPORTED", "classifier"),
    (["average(./a, ./other)", "--out", "m"], "E_BASE_MISMATCH", "else/base"),
]


@pytest.mark.parametrize(("arguments", "id", "says"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_refusal_leaves_nothing(arguments: list[str], id: str, says: str, parts: Path) -> None:
    config = json.loads((parts / "b" / "adapter_config.json").read_text())
    (parts / "other").mkdir()
    (parts / "other" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "else/base"}))
    save_file(load_file(parts / "b" / WEIGHTS), parts / "other" / WEIGHTS)
    before = sorted(str(p) for p in parts.rglob("*"))
    answer = hubcli("merge", *arguments, "--json")
    assert answer.document["error"]["id"] == id, answer.out
    assert says in answer.document["error"]["message"]
    assert sorted(str(p) for p in parts.rglob("*")) == before


def test_force_replaces_and_head_chooses(parts: Path) -> None:
    (parts / "m").mkdir()
    (parts / "m" / "old").write_text("")
    answer = hubcli("merge", "average(./a, ./b)", "--out", "m", "--head", "./b", "--force", "--json")
    assert answer.document["head"]["how"] == "chosen" and answer.document["head"]["left_out"] == ["a"]
    assert not (parts / "m" / "old").exists()
    key = "base_model.model.classifier.weight"
    assert torch.equal(load_file(parts / "m" / WEIGHTS)[key], load_file(parts / "b" / WEIGHTS)[key])


def test_python_says_it_in_the_same_words(parts: Path) -> None:
    report = api.merge("average(./a, ./b)", parts / "m", how="svd", rank=2)
    assert report["options"] == {"rank": 2} and report["written"]


@pytest.mark.slow
def test_the_bundled_adapter_with_another_on_the_real_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hubcli("install", REF).code == 0
    second_adapter(tmp_path / "second", use_rslora=True)
    expr = f"average({REF}, ./second, weights=[0.8, 0.2])"
    answer = hubcli("merge", expr, "--out", "m", "--json")
    assert answer.code == 0, answer.out
    assert answer.document["head"]["labels"] == ["negative", "positive"]
    assert "language" in (tmp_path / "m" / "README.md").read_text()
    ready = load_adapter(expr)
    texts = tokenizer()(TEXTS, padding=True, truncation=True, return_tensors="pt")
    wanted = logits(ready.model, texts)
    assert apart(logits(peft_of(tmp_path / "m"), texts), wanted) <= 1e-5
    assert apart(logits(classifier(), texts), wanted) > 0.01
    rows = hubcli("run", "./m", *TEXTS, "--json").document["predictions"]
    assert [row["label"] for row in rows] == [p.label for p in ready.predict(TEXTS)]
