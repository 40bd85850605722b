"""Files of heads that adapters bring: saved and read again, and those that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from hubcli.added_heads import read_config
from hubcli.errors import BaseMismatchError, ConfigKeyError, UnsupportedError, WeightsError

from .goldens import BERT, INPUTS, LABELS, TEXTS, folder, handle, logits, tokenizer
from .models import apart

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("format", ["adapterhub", "hubcli"])
@pytest.mark.parametrize("name", ["sst", "multi", "tag"])
def test_saved_and_loaded_again(name: str, format: str, tmp_path: Path) -> None:
    given = handle(name)
    given.save(name, tmp_path / "again", format=format)
    again = given.load(tmp_path / "again")
    assert again == "again" and torch.equal(logits(given, again), logits(given, name))
    assert given.labels_of(again) == LABELS[name]
    if format == "adapterhub":
        before, after = (json.loads((f / "head_config.json").read_text()) for f in (folder(name), tmp_path / "again"))
        keep = ("config", "name", "model_class", "model_type", "hidden_size", "version")
        assert {key: before[key] for key in keep} == {key: after[key] for key in keep}
        kept = torch.load(folder(name) / "pytorch_model_head.bin", weights_only=True)
        found = load_file(tmp_path / "again" / "model_head.safetensors")
        assert found.keys() == kept.keys() and all(torch.equal(found[key], kept[key]) for key in kept)


def test_peft_cannot_hold_it(tmp_path: Path) -> None:
    given = handle("sst")
    given.add("lora", "low", {"r": 2}, head=None)
    low = given.engine.adapters["low"]
    low.added = given.engine.adapters["sst"].added
    with pytest.raises(UnsupportedError, match="peft's files can't hold"):
        given.save("low", tmp_path / "low")


CLASSES = {"head_type": "classification", "num_labels": 2}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"head_type": "dependency_parsing"}, UnsupportedError, "head_type 'dependency_parsing'"),
        ({"head_type": None}, UnsupportedError, "head_type None"),
        ({"shift_labels": True}, ConfigKeyError, "shift_labels"),
        ({"layers": 0}, ConfigKeyError, "layers"),
        ({"layers": True}, ConfigKeyError, "layers"),
        ({"num_labels": "3"}, ConfigKeyError, "num_labels"),
        ({"use_pooler": 1}, ConfigKeyError, "use_pooler"),
        ({"dropout_prob": 1.5}, ConfigKeyError, "dropout_prob"),
        ({"label2id": {"a": 0, "b": 2}}, ConfigKeyError, "label2id"),
        ({"activation_function": 3}, ConfigKeyError, "activation_function"),
        ({"head_type": "question_answering", "num_labels": 3}, ConfigKeyError, "expected 2"),
    ],
)
def test_configs_are_refused_by_key(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_config({**CLASSES, **change}, "here")


def broken(tmp_path: Path, file: str, **changes: Any) -> Path:
    target = tmp_path / "broken"
    shutil.copytree(folder("sst"), target)
    document = json.loads((target / file).read_text())
    document["config"].update(changes)
    (target / file).write_text(json.dumps(document))
    return target


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    given = handle()
    wide = broken(tmp_path / "a", "head_config.json", num_labels=4, label2id=None)
    with pytest.raises(BaseMismatchError, match=r"4.weight has shape \(3, 48\), this model needs \(4, 48\)"):
        given.load(wide)
    deep = broken(tmp_path / "b", "head_config.json", layers=3)
    with pytest.raises(WeightsError, match="expected tensors"):
        given.load(deep)
    strange = broken(tmp_path / "c", "head_config.json", activation_function="gelu_x")
    with pytest.raises(ConfigKeyError, match="gelu_x"):
        given.load(strange)
    alone = broken(tmp_path / "d", "head_config.json")
    (alone / "pytorch_model_head.bin").unlink()
    with pytest.raises(UnsupportedError, match="needs both"):
        given.load(alone)
    named = broken(tmp_path / "e", "head_config.json")
    save_file({"heads.other.1.weight": torch.zeros(2)}, named / "model_head.safetensors")
    with pytest.raises(WeightsError, match=r"expected keys heads\.sst\."):
        given.load(named)
    assert not given.adapters


def test_a_head_of_a_transformers_model_replaces_its_modules(tmp_path: Path) -> None:
    """AdapterHub's files of a BertForSequenceClassification: keys are the model's own, the config of the head is null."""
    target = broken(tmp_path, "head_config.json")
    document = json.loads((target / "head_config.json").read_text())
    document.update(config=None, model_class="BertForSequenceClassification", label2id={"good": 1, "bad": 0})
    (target / "head_config.json").write_text(json.dumps(document))
    (target / "pytorch_model_head.bin").unlink()
    torch.manual_seed(5)
    classifier = {"classifier.weight": torch.randn(2, 48), "classifier.bias": torch.randn(2)}
    save_file(classifier, target / "model_head.safetensors")
    given = handle(made=tf.BertForSequenceClassification)
    given.load(target, "static")
    with torch.no_grad(), given.using("static"):
        out = given.model(**INPUTS, output_hidden_states=True)
        pooled = given.model.bert.pooler(out.hidden_states[-1])
    expected = pooled @ classifier["classifier.weight"].T + classifier["classifier.bias"]
    assert apart(out.logits, expected) <= 1e-5 and given.labels_of("static") == ("bad", "good")


def test_load_adapter_takes_the_bare_base(tmp_path: Path) -> None:
    from hubcli import load_adapter

    base = tmp_path / "base"
    shutil.copytree(BERT / "base", base)
    tokenizer().save_pretrained(base)
    target = broken(tmp_path, "adapter_config.json")
    document = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**document, "model_name": str(base)}))
    given = load_adapter(str(target))
    assert type(given.model) is tf.BertModel
    assert apart(logits(given, "broken"), load_file(BERT / "outputs.safetensors")["logits(sst)"]) <= 1e-5
    assert [p.label in LABELS["sst"] for p in given.predict(TEXTS)] == [True] * 3
