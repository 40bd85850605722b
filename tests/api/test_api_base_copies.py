"""A base that a hub has at another commit than the release pins: the same by the hash of its weights, or not there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer, ViTImageProcessor

from hubcli import api, load_adapter
from hubcli.errors import BaseNotFoundError, OfflineError
from hubcli.manifest import BaseModel
from hubcli.training.evaluating import image_processor
from tests.api.hub_repos import adapter_folder, at_hub, base_folder, off_line
from tests.support.adapters import IndexFolder
from tests.support.hub_server import LiveHub, allow_loopback

PINNED = "ab" * 20
TEXTS = ["the film was superb", "dull and long"]
Publish = Callable[..., Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture
def hub(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    """A hub of one's own, with a copy of the base."""
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub") as live:
        live.import_folder("acme/bert", base)
        at_hub(monkeypatch, live, tmp_path / "client")
        yield live


@pytest.fixture
def adapter(hub: LiveHub, base: Path, tmp_path: Path) -> Publish:
    """Install an adapter for the base at a commit that no hub here has; the folder that peft wrote."""

    def made(**stated: Any) -> Path:
        folder = adapter_folder(tmp_path / "adapter", base, stated.get("id", "acme/bert"))
        document = {
            "id": "acme/bert",
            "revision": PINNED,
            "architecture": "BertModel",
            "weights_sha256": sha256(base),
            **stated,
        }
        index = IndexFolder(tmp_path / "index")
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        config = {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value"]}
        index.add("acme/films", files=files, base=document, method_config=config, task="text-classification")
        api.index_add("acme", str(index.folder), first=True)
        api.install("acme/films")
        return folder

    return made


def sha256(base: Path) -> str:
    return hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()


def scores(model: Any, folder: Path) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**tokens).logits.softmax(-1)  # type: ignore[no-any-return]


def test_the_same_weights_at_another_commit_are_the_base(
    adapter: Publish, hub: LiveHub, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = adapter()
    with pytest.warns(UserWarning, match=r"acme/bert has no commit abababababab here.*the same weights"):
        handle = load_adapter("acme/films")
    expected = scores(
        PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), folder).eval(), base
    )
    assert torch.allclose(scores(handle.model, base), expected, atol=1e-6)
    off_line(monkeypatch)
    with pytest.warns(UserWarning, match="the same weights"):
        again = load_adapter("acme/films")
    assert torch.allclose(scores(again.model, base), expected, atol=1e-6)


@pytest.mark.parametrize("stated", [{"weights_sha256": "cd" * 32}, {"weights_sha256": None}, {"id": "acme/other"}])
def test_anything_else_is_not(adapter: Publish, hub: LiveHub, stated: dict[str, Any]) -> None:
    adapter(**stated)
    with pytest.raises(BaseNotFoundError, match="was not found"):
        load_adapter("acme/films")


def test_what_makes_pixels_comes_from_the_same_commit(
    adapter: Publish, hub: LiveHub, base: Path, tmp_path: Path
) -> None:
    adapter()
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    ViTImageProcessor(size={"height": 6, "width": 6}).save_pretrained(copy)
    hub.import_folder("acme/bert", copy)
    pinned = BaseModel("acme/bert", PINNED, weights_sha256=sha256(base))
    with pytest.warns(UserWarning, match="the same weights"):
        found = image_processor(pinned, offline=False, token=None)
    assert found.size["height"] == 6


def test_other_weights_are_refused_before_they_are_fetched_where_the_hub_tells_their_hash(
    adapter: Publish, hub: LiveHub, base: Path, tmp_path: Path
) -> None:
    adapter()
    other = base_folder(tmp_path / "other", seed=7)
    shutil.copy(base / "config.json", other)
    hub.import_folder("acme/bert", other)
    with pytest.raises(BaseNotFoundError, match="was not found"):
        load_adapter("acme/films")
    assert not hub.seen("GET", "model.safetensors")


def test_without_a_network_and_without_a_copy(adapter: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter()
    off_line(monkeypatch)
    with pytest.raises(OfflineError):
        load_adapter("acme/films")
