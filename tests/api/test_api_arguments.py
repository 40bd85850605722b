"""Every argument of load_adapter, adapt and run does something, or says why it can't; errors leave nothing behind."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hubcli import Average, Stack, adapt, load_adapter
from hubcli.api import run
from hubcli.errors import BaseMismatchError, HubcliError, OfflineError, UnsupportedError, UsageError
from hubcli.method import HubcliWarning
from tests.api.bundled import REF, classifier, tokenizer
from tests.api.hub_repos import adapter_folder, at_hub, base_folder
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli
from tests.support.hub_server import LiveHub, allow_loopback

TOKEN = "hf_secret"
TEXTS = ["the film was superb", "dull and long"]
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")


@pytest.mark.parametrize(
    ("given", "dtype"), [(None, torch.float32), ("float64", torch.float64), (torch.bfloat16, torch.bfloat16)]
)
def test_dtype(given: Any, dtype: torch.dtype, installed: Path) -> None:
    adapted = load_adapter(REF, dtype=given)
    assert {p.dtype for p in adapted.model.parameters()} == {dtype}
    assert adapted.predict("a gripping film")[0].label == "positive"


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_device(device: Any, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    to = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *a, **k: (moved.append(a), to(self, *a, **k))[1])
    assert load_adapter(REF, device=device).model.device == torch.device("cpu")
    assert moved == [(torch.device("cpu"),)]
    assert run(REF, ["a gripping film"], device=str(device))["predictions"][0]["label"] == "positive"


def test_name(installed: Path) -> None:
    adapted = load_adapter(REF, name="mine")
    assert list(adapted.adapters) == ["mine"] and adapted.active == "mine"


def test_a_quoted_ref_as_text(installed: Path) -> None:
    assert load_adapter(f'"{REF}"').active == REF


REFUSED: dict[str, tuple[Any, dict[str, Any], type[HubcliError], str]] = {
    "quantize": (REF, {"quantize": "int3"}, UnsupportedError, "quantize='int3': a base is quantised as nf4"),
    "quantize in float64": (REF, {"quantize": "nf4", "dtype": "float64"}, UnsupportedError, "4-bit weights compute in float32"),
    "head": (REF, {"head": "a"}, UsageError, "head='a': it names a child of a Fuse"),
    "an unknown dtype": (REF, {"dtype": "float17"}, UnsupportedError, "dtype 'float17'"),
    "a dtype of whole numbers": (REF, {"dtype": "int8"}, UnsupportedError, "dtype 'int8'"),
    "a dtype that is none": (REF, {"dtype": 16}, UnsupportedError, "dtype '16'"),
    "an unknown device": (REF, {"device": "toaster"}, UnsupportedError, "device 'toaster' can't be used"),
    "a device that is not there": (REF, {"device": "cuda:63"}, UnsupportedError, "device 'cuda:63' can't be used"),
    "a device without memory": (REF, {"device": "meta"}, UnsupportedError, "device 'meta' can't be used"),
    "a revision of a base from a package": (REF, {"revision": "v2"}, UnsupportedError, "revision='v2': the base is the folder"),
    "a name for several": (Stack(REF, REF), {"name": "x"}, UsageError, "name= is for a single adapter"),
    "a name for several, as text": (f"stack({REF}, {REF})", {"name": "x"}, UsageError, "name= is for a single adapter"),
    **{f"empty {key}": (REF, {key: " "}, UsageError, f"{key}= is empty") for key in ("name", "head", "dtype", "device", "quantize", "revision")},
    "a model that is none": (REF, {"model": "bert-base-uncased"}, UsageError, "expected a transformers model, found str"),
    "no adapter": (None, {}, UsageError, "needs your own model"),
    "no ref": ("not a ref", {}, UsageError, "not a ref"),
    "an unknown block": ("blend(a, b)", {}, UsageError, "blend"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_used_is_named(case: str, installed: Path) -> None:
    given, options, kind, message = REFUSED[case]
    with pytest.raises(kind) as refused:
        load_adapter(given, **options)
    assert message in refused.value.message


@pytest.mark.parametrize("key", ["dtype", "device", "revision", "quantize", "head"])
def test_with_the_persons_own_model(key: str, installed: Path) -> None:
    model = classifier()
    with pytest.raises((UsageError, UnsupportedError), match=key):
        load_adapter(REF, model, **{key: {"device": "cpu", "quantize": "nf4"}.get(key, "float32")})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert "hubcli_residents" not in dict(model.named_modules())


def test_a_model_that_is_none_is_told_before_anything_is_looked_for(home: Path) -> None:
    with pytest.raises(UsageError, match="expected a transformers model, found str"):
        load_adapter("nobody/nothing", "bert-base-uncased")


def test_adapt(installed: Path, home: Path) -> None:
    with pytest.raises(UsageError, match="expected a transformers model, found dict"):
        adapt({})
    model, words = classifier(), tokenizer()
    adapted = adapt(model)
    assert adapt(model, tokenizer=words) is adapted and adapted.tokenizer is words
    adapted.load(REF)
    with pytest.raises(OfflineError) as refused:
        adapt(model, offline=True).load("hf:acme/mood")
    assert "--offline" in f"{refused.value.message} {refused.value.cause} {refused.value.hint}"
    assert list(adapted.adapters) == [REF]


def test_run_refuses_nothing_to_run_on() -> None:
    with pytest.raises(UsageError, match="no text"):
        run(REF, [])
    assert hubcli("run", REF, "-", stdin=b"\n \n").code == 2


def test_a_batch_of_nothing(installed: Path) -> None:
    with pytest.raises(UnsupportedError, match="batch_size must be at least 1, found 0"):
        load_adapter(REF).predict("good", batch_size=0)
    assert hubcli("run", REF, "good", "--batch-size", "0").code == 2


# From a hub: revision, offline, token


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("bases")
    return [base_folder(root / str(seed), seed=seed) for seed in (0, 1)]


@pytest.fixture
def hub(bases: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    """A hub with a base in two revisions, and an adapter for it: once in the open, once private with a private base."""
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub", token=TOKEN) as live:
        live.import_folder("acme/bert", bases[0], tag="v1")
        live.import_folder("acme/bert", bases[1], tag="v2")
        live.import_folder("acme/secret-bert", bases[0], private=True)
        for name, private in (("acme/mood", False), ("acme/secret", True)):
            base = "acme/secret-bert" if private else "acme/bert"
            live.import_folder(name, adapter_folder(tmp_path / name, bases[0], base), private=private)
        at_hub(monkeypatch, live, tmp_path / "client")
        yield live


def test_revision(hub: LiveHub, tmp_path: Path) -> None:
    tokens = dict(AutoTokenizer.from_pretrained("acme/bert")(TEXTS, padding=True, return_tensors="pt"))
    tokens.pop("token_type_ids", None)
    seen = []
    for revision in ("v1", "v2", None):
        adapted = load_adapter("hf:acme/mood", revision=revision)
        plain = AutoModelForSequenceClassification.from_pretrained("acme/bert", revision=revision or "main")
        oracle = PeftModel.from_pretrained(plain, "acme/mood").eval()
        with torch.no_grad():
            seen.append(adapted.model(**tokens).logits)
            assert (seen[-1] - oracle(**tokens).logits).abs().max() <= 1e-5
    assert (seen[0] - seen[1]).abs().max() > 0.01 and torch.equal(seen[1], seen[2])
    with pytest.raises(HubcliError, match="acme/bert@v9 was not found"):
        load_adapter("hf:acme/mood", revision="v9")


def test_offline(hub: LiveHub) -> None:
    with pytest.raises(OfflineError) as refused:
        load_adapter("hf:acme/mood", offline=True)
    assert "--offline" in f"{refused.value.message} {refused.value.cause} {refused.value.hint}"
    assert hubcli("install", "hf:acme/mood").code == 0
    with pytest.raises(
        OfflineError, match=r"the base acme/bert is not on this machine .* --offline turns the network off"
    ):
        load_adapter("hf:acme/mood", offline=True)
    expected = load_adapter("hf:acme/mood").predict(TEXTS)
    hub.log.clear()
    assert load_adapter("hf:acme/mood", offline=True).predict(TEXTS) == expected
    assert run("hf:acme/mood", TEXTS, offline=True)["predictions"] == [
        {"text": p.text, "label": p.label, "score": p.score} for p in expected
    ]
    assert not hub.log


def test_token(hub: LiveHub) -> None:
    for token in (None, "hf_wrong"):
        with pytest.raises(HubcliError, match="acme/secret"):
            load_adapter("hf:acme/secret", token=token)
    adapted = load_adapter("hf:acme/secret", token=TOKEN)
    assert adapted.active == "acme/secret" and adapted.tokenizer is not None
    assert len(run("hf:acme/secret", TEXTS, token=TOKEN)["predictions"]) == 2


def test_a_base_from_the_hub_has_the_weights_that_the_entry_states(
    hub: LiveHub, bases: list[Path], tmp_path: Path
) -> None:
    index = IndexFolder(tmp_path / "index")
    folder = adapter_folder(tmp_path / "a", bases[1], "acme/bert")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    config = {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value"]}
    for name, stated in (("right", bases[1]), ("wrong", bases[0])):
        sha256 = hashlib.sha256((stated / "model.safetensors").read_bytes()).hexdigest()
        base = {"id": "acme/bert", "revision": None, "architecture": "BertModel", "weights_sha256": sha256}
        index.add(
            f"acme/{name}",
            files=files,
            base={**base, "quantization": None},
            method_config=config,
            task="text-classification",
        )
    assert hubcli("index", "add", "acme", str(index.folder)).code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", HubcliWarning)
        load_adapter("acme/right")
    with pytest.raises(BaseMismatchError, match="acme/bert should have sha256"):
        load_adapter("acme/wrong")
    with pytest.warns(HubcliWarning, match="weights: made for acme/bert"):
        load_adapter(Average("acme/wrong"), allow_base_mismatch=True)
    assert hubcli("run", "acme/wrong", "good", "--json").code == 6


def test_every_warning_is_hubclis_own(hub: LiveHub, tmp_path: Path, bases: list[Path]) -> None:
    folder = adapter_folder(tmp_path / "b", bases[0], str(bases[0]), auto_mapping={"base_model_class": "x"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_adapter(str(folder)).predict(TEXTS)  # onto the very folder it names: nothing to warn of
        load_adapter(str(folder), AutoModelForSequenceClassification.from_pretrained(bases[0]))
    own = [w for w in caught if "hubcli" in w.filename or "b:" in str(w.message)]
    assert [w.category for w in own] == [HubcliWarning], [str(w.message) for w in own]
    said = hubcli("run", str(folder), "good")
    assert "warning: " not in said.err and "auto_mapping is ignored" in said.err
    assert json.loads(hubcli("run", str(folder), "good", "--json").out)["predictions"]
