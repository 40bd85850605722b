"""What goes in comes out: files that AdapterHub's library and peft wrote, to another format and back."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hubcli import api
from hubcli.adapted import adapt
from hubcli.errors import BaseNotFoundError, HubcliError, UnsupportedError, UsageError
from hubcli.formats.pickled import read_bin
from tests.tensor.models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
GOLDENS = Path(os.environ.get("HUBCLI_GOLDENS") or Path(__file__).parents[1] / "fixtures" / "adapterhub")
FAMILIES = [family for family in ("bert", "distilbert", "gpt2") if (GOLDENS / family).is_dir()]
LEFT_OUT = ("ia3", "compacter")  # another package's method; a file that lacks what its config says
FOLDERS = [
    folder
    for family in FAMILIES
    for folder in sorted((GOLDENS / family / "adapters").iterdir())
    if folder.name not in LEFT_OUT
]
LORAS = [folder for folder in FOLDERS if folder.name.startswith("lora")]
SAFE = {
    "pytorch_adapter": "adapter",
    "pytorch_model_head": "model_head",
    "pytorch_model_adapter_fusion": "model_adapter_fusion",
}


def tensors_in(folder: Path) -> dict[str, dict[str, Tensor]]:
    """File (as safetensors would call it) -> key -> tensor."""
    found = {SAFE[file.stem]: read_bin(file)[0] for file in folder.glob("*.bin")}
    return found | {file.stem: load_file(file) for file in folder.glob("*.safetensors")}


def documents(folder: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text()) for file in folder.glob("*.json")}


def check_same(one: Path, other: Path) -> None:
    """The same files, keys, shapes, numbers and configs."""
    before, after = tensors_in(one), tensors_in(other)
    assert {file: set(group) for file, group in before.items()} == {file: set(group) for file, group in after.items()}
    for file, group in before.items():
        assert not [key for key in group if not same(group[key], after[file][key])]
    assert documents(one) == documents(other)


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def sums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def there_and_back(source: Path, via: str, back: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    """Convert under the same name; returns both reports."""
    out = folder / "out" / source.name
    first = api.convert(source, to=via, out=out, **options)
    return first, api.convert(out, to=back, out=folder / "back" / source.name, **options)


@pytest.mark.parametrize("source", FOLDERS, ids=lambda folder: f"{folder.parents[1].name}-{folder.name}")
def test_an_adapterhub_folder_through_hubclis(source: Path, tmp_path: Path) -> None:
    first, second = there_and_back(source, "hubcli", "adapterhub", tmp_path, base=str(source.parents[1] / "base"))
    check_same(source, tmp_path / "back" / source.name)
    assert (first["from"], second["from"], second["method"]) == ("adapterhub", "hubcli", first["method"])
    assert not [note for note in first["notes"] + second["notes"] if not note.startswith("base ")]


@pytest.mark.parametrize("source", FOLDERS[:3], ids=lambda folder: folder.name)
def test_pickled_weights_become_safetensors(source: Path, tmp_path: Path) -> None:
    api.convert(source, to="adapterhub", out=tmp_path / "out")
    check_same(source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.bin"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fusion_through_hubclis(family: str, tmp_path: Path) -> None:
    source = GOLDENS / family / "fusions" / "seq_bn,seq_bn_b"
    children = [GOLDENS / family / "adapters" / name for name in ("seq_bn", "seq_bn_b")]
    options = {"base": str(GOLDENS / family / "base"), "children": children}
    there_and_back(source, "hubcli", "adapterhub", tmp_path, **options)
    check_same(source, tmp_path / "back" / source.name)
    with pytest.raises(UnsupportedError, match="'seq_bn' is not at hand"):
        api.convert(tmp_path / "out" / source.name, to="adapterhub", out=tmp_path / "alone", base=options["base"])


@pytest.mark.parametrize("source", LORAS, ids=lambda folder: f"{folder.parents[1].name}-{folder.name}")
def test_an_adapterhub_lora_in_plain_peft_and_back(source: Path, tmp_path: Path) -> None:
    family = source.parents[1]
    there_and_back(source, "peft", "adapterhub", tmp_path, base=str(family / "base"))
    check_same(source, tmp_path / "back" / source.name)
    model = tf.AutoModel.from_pretrained(family / "base")
    tuned = PeftModel.from_pretrained(model, tmp_path / "out" / source.name).eval()
    with torch.no_grad():
        found = tuned(**load_file(family / "inputs.safetensors")).last_hidden_state
    assert apart(found, load_file(family / "outputs.safetensors")[source.name]) <= 1e-5


LORA_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bert", {"target_modules": ["query", "value"], "r": 3}),
    "patterns": (
        "bert",
        {"target_modules": ["query", "dense"], "rank_pattern": {"query": 2}, "alpha_pattern": {"query": 9}},
    ),
    "rslora and dora": ("bert", {"target_modules": "all-linear", "use_rslora": True, "use_dora": True}),
    "biases": ("bert", {"target_modules": ["query"], "bias": "lora_only", "lora_bias": True}),
    "head": ("bert", {"target_modules": ["key"], "modules_to_save": ["classifier"]}),
    "embedding": ("llama", {"target_modules": ["embed_tokens"]}),  # peft saves the base's own beside it
    "fused": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
}


@pytest.mark.parametrize("case", LORA_CONFIGS)
def test_a_peft_lora_through_hubclis_byte_for_byte(case: str, tmp_path: Path) -> None:
    family, options = LORA_CONFIGS[case]
    base = model_of(family)
    tuned = peft_adapter(base, tmp_path / "a", "SEQ_CLS" if family == "bert" else "CAUSAL_LM", **options)
    first, second = there_and_back(tmp_path / "a", "hubcli", "peft", tmp_path)
    assert sums(tmp_path / "a") == sums(tmp_path / "back" / "a") and first["notes"] == second["notes"] == []
    handle = adapt(base)
    handle.activate(handle.load(tmp_path / "out" / "a"))
    assert apart(logits(base, inputs_of(family)), logits(tuned, inputs_of(family))) <= 1e-10


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_peft_prefix_through_hubclis_byte_for_byte(family: str, tmp_path: Path) -> None:
    base = model_of(family)
    base.save_pretrained(tmp_path / "base")
    task = {"bert": "SEQ_CLS", "llama": "CAUSAL_LM"}[family]
    prefix = PrefixTuningConfig(task_type=task, num_virtual_tokens=4)
    tuned = get_peft_model(base, prefix)
    nn.init.normal_(tuned.prompt_encoder.default.embedding.weight)
    tuned.save_pretrained(tmp_path / "a")
    there_and_back(tmp_path / "a", "hubcli", "peft", tmp_path, base=str(tmp_path / "base"))
    assert sums(tmp_path / "a") == sums(tmp_path / "back" / "a")


@pytest.mark.parametrize(
    "family, targets, inner, outer",  # what the library calls intermediate and output, which it has the other way round in Llama
    [
        ("bert", ["query", "key", "output.dense", "intermediate.dense"], True, True),
        ("distilbert", ["q_lin", "v_lin", "lin1"], True, False),
        ("albert", ["query", "ffn_output"], False, True),
        ("gpt2", ["c_attn", "c_fc"], True, False),
        ("llama", ["q_proj", "v_proj", "down_proj"], True, False),
    ],
)
def test_a_peft_lora_as_adapterhubs_and_back(
    family: str, targets: list[str], inner: bool, outer: bool, tmp_path: Path
) -> None:
    base = model_of(family)
    base.save_pretrained(tmp_path / "base")
    task = "CAUSAL_LM" if family in ("gpt2", "llama") else "SEQ_CLS"
    exclude = r".*attention\.output\.dense" if family == "bert" else None
    tuned = peft_adapter(base, tmp_path / "a", task, target_modules=targets, exclude_modules=exclude, r=4, lora_alpha=6)
    options = {"base": str(tmp_path / "base"), "head": "drop" if task == "SEQ_CLS" else "keep"}
    out = tmp_path / "out"
    report = api.convert(tmp_path / "a", to="adapterhub", out=out, **options)
    assert any("target_modules" in note for note in report["notes"])
    said = json.loads((out / "adapter_config.json").read_text())
    assert said["model_type"] == family and said["config"]["r"] == 4 and said["config"]["alpha"] == 6
    assert (said["config"]["intermediate_lora"], said["config"]["output_lora"]) == (inner, outer)
    if family == "gpt2":  # one A for each of q, k and v, all the same
        assert load_file(out / "adapter.safetensors")["transformer.h.0.attn.c_attn.loras.a.lora_A"].shape[0] == 3 * 4
    handle = adapt(base)
    handle.activate(handle.load(out, "b"))
    theirs = tuned.base_model.model.get_submodule(base.base_model_prefix)
    with torch.no_grad():
        found, wanted = (model(**inputs_of(family)).last_hidden_state for model in (base.base_model, theirs))
    assert apart(found, wanted) <= 1e-12
    api.convert(out, to="peft", out=tmp_path / "again")
    before, after = (load_file(tmp_path / f / "adapter_model.safetensors") for f in ("a", "again"))
    kept = {key: tensor for key, tensor in before.items() if "lora" in key}
    assert kept.keys() == after.keys() and all(same(kept[key], after[key]) for key in kept)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two ranks": ({"target_modules": ["query", "value"], "rank_pattern": {"query": 2}}, "rank_pattern"),
    "two scales": ({"target_modules": ["query", "value"], "alpha_pattern": {"query": 2}}, "alpha_pattern"),
    "dora": ({"target_modules": ["query"], "use_dora": True}, "use_dora"),
    "biases": ({"target_modules": ["query"], "lora_bias": True}, "lora_bias"),
    "elsewhere": ({"target_modules": ["attention.output.dense"]}, "no LoRA there"),
    "unlike layers": ({"target_modules": r".*(0.*query|1.*key)"}, "all its layers alike"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_adapterhubs_lora_cannot_say_is_refused_by_name(case: str, tmp_path: Path) -> None:
    options, match = REFUSED[case]
    base = model_of("bert")
    base.save_pretrained(tmp_path / "base")
    peft_adapter(base, tmp_path / "a", "FEATURE_EXTRACTION", **options)
    with pytest.raises(UnsupportedError, match=match):
        api.convert(tmp_path / "a", to="adapterhub", out=tmp_path / "out", base=str(tmp_path / "base"))
    assert not (tmp_path / "out").exists()


def test_a_head_is_never_lost_in_silence(tmp_path: Path) -> None:
    base = model_of("bert")
    base.save_pretrained(tmp_path / "base")
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", target_modules=["query"])
    where = {"base": str(tmp_path / "base")}
    with pytest.raises(UnsupportedError, match="replaces classifier") as refused:
        api.convert(tmp_path / "a", to="adapterhub", out=tmp_path / "out", **where)
    assert refused.value.hint is not None and "--head drop" in refused.value.hint
    report = api.convert(tmp_path / "a", to="adapterhub", out=tmp_path / "out", head="drop", **where)
    assert any("its head is left out: classifier" in note for note in report["notes"])
    with pytest.raises(UnsupportedError, match="brings a head of its own"):
        _added_head_as_peft(tmp_path)


def _added_head_as_peft(folder: Path) -> None:
    """An AdapterHub LoRA with a head of its own."""
    source, made = GOLDENS / "bert", folder / "with head"
    made.mkdir()
    for file in (source / "adapters" / "lora").iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    for name in ("head_config.json", "pytorch_model_head.bin"):
        (made / name).write_bytes((source / "adapters" / "sst_with_head" / name).read_bytes())
    api.convert(made, to="peft", out=folder / "x", base=str(source / "base"))


def with_static_head(folder: Path) -> Path:
    """The golden LoRA as the library saves it from a BertForSequenceClassification, whose head it keeps beside it."""
    folder.mkdir()
    source = GOLDENS / "bert" / "adapters" / "lora"
    lora = {f"bert.{key}": tensor for key, tensor in tensors_in(source)["adapter"].items()}
    save_file(lora, folder / "adapter.safetensors")
    head = {"classifier.weight": torch.randn(2, 48), "classifier.bias": torch.randn(2)}
    save_file(head, folder / "model_head.safetensors")
    envelope = documents(source)["adapter_config.json"] | {"model_class": "BertForSequenceClassification"}
    (folder / "adapter_config.json").write_text(json.dumps(envelope))
    said = {**envelope, "config": None, "label2id": {"good": 1, "bad": 0}, "num_labels": 2}
    (folder / "head_config.json").write_text(json.dumps(said))
    return folder


def test_a_head_of_a_transformers_model_comes_along(tmp_path: Path) -> None:
    source, base = with_static_head(tmp_path / "lora"), str(GOLDENS / "bert" / "base")
    there_and_back(source, "hubcli", "adapterhub", tmp_path, base=base)
    check_same(source, tmp_path / "back" / "lora")
    api.convert(source, to="peft", out=tmp_path / "peft")
    assert json.loads((tmp_path / "peft" / "labels.json").read_text()) == {"id2label": {"0": "bad", "1": "good"}}
    model = tf.BertForSequenceClassification.from_pretrained(GOLDENS / "bert" / "base", num_labels=2)
    tuned = PeftModel.from_pretrained(model, tmp_path / "peft").eval()
    handle = adapt(tf.BertForSequenceClassification.from_pretrained(GOLDENS / "bert" / "base", num_labels=2).eval())
    handle.activate(handle.load(source))
    inputs = load_file(GOLDENS / "bert" / "inputs.safetensors")
    assert apart(logits(tuned, inputs), logits(handle.model, inputs)) <= 1e-6


def test_a_config_that_was_changed_since_counts(tmp_path: Path) -> None:
    peft_adapter(model_of("bert"), tmp_path / "a", "SEQ_CLS", target_modules=["query"], lora_alpha=4)
    api.convert(tmp_path / "a", to="hubcli", out=tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest["config"]["lora_alpha"] = 40
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    report = api.convert(tmp_path / "b", to="peft", out=tmp_path / "c")
    assert json.loads((tmp_path / "c" / "adapter_config.json").read_text())["lora_alpha"] == 40
    assert any("written anew" in note for note in report["notes"])


def test_nothing_is_left_after_an_error_or_a_dry_run(tmp_path: Path) -> None:
    source = GOLDENS / "bert" / "adapters" / "seq_bn"
    base = {"base": str(GOLDENS / "bert" / "base")}
    for error, options in (
        (BaseNotFoundError, {"to": "hubcli"}),
        (UnsupportedError, {"to": "peft", **base}),
        (UsageError, {"to": "hubcli", "head": "drop", **base}),
        (UsageError, {"to": "hubcli", "children": [source], **base}),
    ):
        with pytest.raises(error):
            api.convert(source, out=tmp_path / "out", **options)
    dry = api.convert(source, to="hubcli", out=tmp_path / "out", dry_run=True, **base)
    assert not list(tmp_path.iterdir())
    assert api.convert(source, to="hubcli", out=tmp_path / "out", **base) == dry
    with pytest.raises(UsageError, match="not empty"):
        api.convert(source, to="hubcli", out=tmp_path / "out", **base)
    assert api.convert(source, to="hubcli", out=tmp_path / "out", force=True, **base) == dry
    assert [file["path"] for file in dry["files"]] == ["adapter.safetensors", "manifest.json"]


def test_cards_and_tokenizers_come_along(tmp_path: Path) -> None:
    peft_adapter(model_of("bert"), tmp_path / "a", "SEQ_CLS", target_modules=["query"])
    (tmp_path / "a" / "tokenizer.json").write_text("{}")
    (tmp_path / "a" / "optimizer.pt").write_bytes(b"x")
    report = api.convert(tmp_path / "a", to="hubcli", out=tmp_path / "b")
    assert {"README.md", "tokenizer.json"} <= {file["path"] for file in report["files"]}
    assert [note for note in report["notes"] if "optimizer.pt" in note]


def test_methods_without_such_files_are_refused_with_what_holds_them(tmp_path: Path) -> None:
    handle = adapt(model_of("bert", torch.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle.add("bitfit", "a", head=None)
    handle.save("a", tmp_path / "a", format="hubcli")
    for to in ("peft", "adapterhub"):
        with pytest.raises(HubcliError, match="can't be written as") as refused:
            api.convert(tmp_path / "a", to=to, out=tmp_path / "b")
        assert "hubcli" in str(refused.value.hint)


def test_loras_of_a_peft_config_class_alone(tmp_path: Path) -> None:
    """A folder that was trained here has every key that peft's own class writes."""
    handle = adapt(model_of("bert", torch.float32))
    handle.add("lora", "a", {"target_modules": ["query"]}, head=None)
    handle.save("a", tmp_path / "a", format="hubcli")
    api.convert(tmp_path / "a", to="peft", out=tmp_path / "b")
    assert set(json.loads((tmp_path / "b" / "adapter_config.json").read_text())) == set(
        LoraConfig(target_modules=["query"]).to_dict()
    )
