"""What is published is what the other libraries read: plain peft from the hub, and AdapterHub's files as its own library writes them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import snapshot_download
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hubcli import api
from hubcli.training.train import train
from tests.publish import drafts
from tests.publish.hubs import TOKEN, go_online
from tests.support import trainable
from tests.support.hub_server import LiveHub

pytestmark = pytest.mark.slow
FIXTURE = Path(__file__).parents[1] / "fixtures/adapterhub/bert"
IDS = torch.tensor([[1, 8, 9, 12, 2], [1, 30, 31, 7, 2]])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub", token=TOKEN) as hub, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        go_online(monkeypatch, hub)
        yield hub


def fetched(hub: LiveHub, folder: Path, repo: str, place: Path, **more: Any) -> Path:
    """Publish a folder, and fetch it as anyone does."""
    said = {"license": "mit", "description": "A test.", "authors": ["Ann"]}
    api.publish(
        folder, repo=repo, name=f"acme/{repo.partition('/')[2]}", version="1.0.0", no_index=True, **said, **more
    )
    return Path(snapshot_download(repo, revision="v1.0.0", endpoint=hub.url, cache_dir=place, token=False))


def bare(base: Path, kind: Any) -> Any:
    torch.manual_seed(5)  # of a head that is new
    return kind.from_pretrained(base, **({"num_labels": 2} if kind is AutoModelForSequenceClassification else {}))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_plain_peft_reads_it(hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    base = trainable.base(tmp_path / "base", "bert" if method == "lora" else "llama")
    id = drafts.cached(base, monkeypatch, tmp_path / "cache")
    folder = getattr(drafts, method)(base, tmp_path / "made")
    kind = AutoModelForSequenceClassification if method == "lora" else AutoModelForCausalLM
    expected = logits(PeftModel.from_pretrained(bare(base, kind), folder))
    place = fetched(hub, folder, f"acme/{method}", tmp_path / "fetched", base=id)
    assert torch.equal(logits(PeftModel.from_pretrained(bare(base, kind), place)), expected)


def test_plain_peft_reads_what_was_trained_in_4_bit(
    hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    base = trainable.base(tmp_path / "base", hidden_size=64, intermediate_size=64)
    rows = trainable.jsonl(tmp_path / "rows.jsonl", trainable.reviews())
    train(trainable.recipe(tmp_path, base, rows, method="qlora", train={"epochs": 1}), tmp_path / "run")
    id = drafts.cached(base, monkeypatch, tmp_path / "cache")
    place = fetched(hub, tmp_path / "run", "acme/qlora", tmp_path / "fetched", base=id)
    read, made = (
        PeftModel.from_pretrained(bare(base, AutoModelForSequenceClassification), folder)
        for folder in (place, tmp_path / "run/adapter")
    )
    assert torch.equal(logits(read), logits(made))
    assert any("lora_A" in name for name, _ in read.named_parameters())


def test_adapterhubs_files_as_its_library_writes_them(
    hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = FIXTURE / "adapters/seq_bn"
    id = drafts.cached(FIXTURE / "base", monkeypatch, tmp_path / "cache")
    api.convert(golden, to="hubcli", out=tmp_path / "own", base=str(FIXTURE / "base"))
    api.convert(tmp_path / "own", to="adapterhub", out=tmp_path / "made", base=str(FIXTURE / "base"))
    place = fetched(hub, tmp_path / "made", "acme/bottleneck", tmp_path / "fetched", base=id, task="feature-extraction")
    ours, theirs = (json.loads((folder / "adapter_config.json").read_text()) for folder in (place, golden))
    assert ours["config"] == theirs["config"]
    ours = load_file(place / "adapter.safetensors")
    theirs = torch.load(golden / "pytorch_adapter.bin", weights_only=True)
    assert {k: tuple(v.shape) for k, v in ours.items()} == {k: tuple(v.shape) for k, v in theirs.items()}
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_fusion_over_published_adapters(hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = trainable.base(tmp_path / "base")
    said: dict[str, Any] = {
        "base": drafts.cached(base, monkeypatch, tmp_path / "cache"), "task": "text-classification", "version": "1.0.0",
        "license": "mit", "description": "A test.", "authors": ["Ann"], "index": tmp_path / "index",
    }  # fmt: skip
    (tmp_path / "index").mkdir()
    api.index_add("ours", str(tmp_path / "index"))
    handle = api.adapt(bare(base, AutoModelForSequenceClassification).eval())
    for name, seed in (("acme/films", 1), ("acme/books", 2)):
        torch.manual_seed(seed)
        handle.add("bottleneck", name, {"reduction_factor": 4}, head=None)
        handle.save(name, tmp_path / name, "hubcli")
        api.publish(tmp_path / name, repo=name, name=name, **said)
    handle.add("fusion", "mixed", {"of": ["acme/films", "acme/books"]})
    handle.save("mixed", tmp_path / "mixed", "hubcli")
    done = api.publish(tmp_path / "mixed", repo="acme/mixed", name="acme/mixed", **said)
    assert done["kind"] == "fusion" and done["changed"]
    api.publish(tmp_path / "acme/books", repo="acme/books", name="acme/books", **{**said, "version": "1.1.0"})
    assert not api.publish(tmp_path / "mixed", repo="acme/mixed", name="acme/mixed", **said)["changed"]
    installed = {(row["name"], row["version"]) for row in api.install("acme/mixed")["installed"]}
    assert installed == {("acme/mixed", "1.0.0"), ("acme/films", "1.0.0"), ("acme/books", "1.1.0")}
