"""load_adapter(quantize=) and `run --quantize`, from the bundled adapter and from an index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bitsandbytes.nn import Linear4bit

from hubcli import bases, load_adapter
from hubcli import quantised as quantisation
from hubcli.errors import MissingExtraError
from tests.api.bundled import REF, TEXTS
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli

from .conftest import logits

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")


def test_the_bundled_adapter_in_4_bit(home: Path) -> None:
    full, small = load_adapter(REF), load_adapter(REF, quantize="nf4")
    assert sum(isinstance(module, Linear4bit) for module in small.model.modules()) == 37
    for one, other in zip(full.predict(TEXTS), small.predict(TEXTS), strict=True):
        assert one.label == other.label and 0 < abs(one.score - other.score) < 0.2
    assert small.adapters[REF].notes == ("made for no quantised base that it names, this one is nf4",)


def test_on_the_command_line(home: Path) -> None:
    answer = hubcli("run", REF, "a gripping film", "--quantize", "nf4")
    assert answer.code == 0 and answer.out.startswith("positive")
    assert "this one is nf4" in answer.err and "kernels" not in answer.err
    refused = hubcli("run", REF, "a gripping film", "--quantize", "int3")
    assert refused.code == 1 and "quantize='int3'" in refused.err and "quantize=None" in refused.err


def test_without_bitsandbytes_nothing_is_looked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisation, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="bitsandbytes and accelerate") as missing:
        load_adapter("nobody/nothing", quantize="nf4")
    assert missing.value.id == "E_EXTRA" and str(missing.value.hint).startswith("quantize=None")


def test_a_qlora_of_an_index(
    folder: Path, peft_folder: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed by its release's method, on a base in 4 bit and in full precision; its head is never quantised."""
    index = IndexFolder(tmp_path / "index")
    files = {file.name: file.read_bytes() for file in peft_folder.iterdir()}
    stated = {**json.loads(files["adapter_config.json"]), "base_model_name_or_path": "acme/tiny"}
    files["adapter_config.json"] = json.dumps(stated).encode()
    base = {
        "id": "acme/tiny",
        "revision": None,
        "architecture": "BertModel",
        "weights_sha256": None,
        "quantization": {"method": "nf4"},
    }
    config = {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value", "dense"]}
    head = {"labels": ["a", "b", "c"], "modules": ["classifier"]}
    index.add(
        "acme/mood", files=files, method="qlora", base=base, method_config=config, head=head, task="text-classification"
    )
    hubcli("index", "add", "acme", str(index.folder))
    monkeypatch.setattr(bases, "find_base", lambda base, **_: str(folder))
    small, full = (load_adapter("acme/mood", quantize=kind) for kind in ("nf4", None))
    assert small.adapters["acme/mood"].method == full.adapters["acme/mood"].method == "qlora"
    assert small.adapters["acme/mood"].notes == ()
    assert full.adapters["acme/mood"].notes == (
        "made for a base that is quantised (nf4), this one is in full precision",
    )
    small.model.eval()
    assert small.labels_of("acme/mood") == ("a", "b", "c") and logits(small.model).shape == (3, 3)
    assert 1e-3 < (logits(small.model) - logits(full.model)).abs().max() < 2
