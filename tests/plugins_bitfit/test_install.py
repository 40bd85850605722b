"""A BitFit in an index: judged from its manifest before it appears, found by ref, loaded with its head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli import install, load_adapter
from hubcli.adapted import adapt
from hubcli.api import index_add
from hubcli.errors import BaseMismatchError, ConfigKeyError, HubcliError, WeightsError
from tests.support.adapters import BASE_ID, IndexFolder
from tests.tensor.models import apart, inputs_of, logits, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
REF = "test/bitfit"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A saved adapter with a head, and the logits that it gives."""
    handle = adapt(model_of("bert"), labels=["bad", "good"])
    handle.add("bitfit", "mine", {"target_modules": ["query", "LayerNorm"]})
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in handle.trainable("mine"):
            parameter.add_(torch.randn_like(parameter))
    handle.save("mine", tmp_path / "saved", format="hubcli")
    handle.activate("mine")
    torch.save(logits(handle.model, inputs_of("bert")), tmp_path / "expected.pt")
    return {file.name: file.read_bytes() for file in (tmp_path / "saved").iterdir()}


def offer(folder: Path, files: dict[str, bytes]) -> None:
    index = IndexFolder(folder)
    index.add(
        REF, files=files, method="bitfit", method_config={}, head={"labels": ["no", "yes"], "modules": ["classifier"]}
    )
    document = json.loads((folder / f"{REF}.json").read_text())
    for file in document["releases"][0]["files"]:
        file["role"] = "config" if file["path"] == "manifest.json" else "weights"
    index.write(REF, document)
    index_add("acme", str(folder))


def test_it_installs_and_loads_by_ref(files: dict[str, bytes], tmp_path: Path) -> None:
    offer(tmp_path / "index", files)
    assert install(REF)["installed"][0]["method"] == "bitfit"
    handle = load_adapter(REF, model_of("bert"))
    assert apart(logits(handle.model, inputs_of("bert")), torch.load(tmp_path / "expected.pt")) == 0
    assert handle.adapters[REF].labels == ("no", "yes")


Change = Callable[[dict[str, Any]], Any]
REFUSED: dict[str, tuple[Change, type[HubcliError], str]] = {
    "a key": (lambda m: m["config"].update(r=8), ConfigKeyError, "'r' was unexpected"),
    "no config": (lambda m: m.update(config=None), ConfigKeyError, "config: expected an object"),
    "targets": (lambda m: m["config"].update(target_modules=["key"]), WeightsError, "doesn't name it"),
    "another base": (
        lambda m: m.update(base={"id": "other/base"}),
        BaseMismatchError,
        f"other/base, the release says {BASE_ID}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_manifest_says_is_checked_before_it_appears(
    case: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    change, error, message = REFUSED[case]
    manifest = json.loads(files["manifest.json"])
    change(manifest)
    offer(tmp_path / "index", {**files, "manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(error, match=message):
        install(REF)
