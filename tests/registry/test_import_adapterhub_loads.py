"""What an imported entry says of an adapter, against what loading AdapterHub's own files gives."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from hubcli_bottleneck.method import Bottleneck
from hubcli_bottleneck.places import filed_by_adapterhub
from safetensors.torch import load_file

from hubcli.adapted import adapt
from hubcli.api import index_import
from hubcli.errors import UnsupportedError
from hubcli.families import Structure
from hubcli.formats import adapterhub
from hubcli.index.importing import tables
from hubcli.index.importing.adapterhub import mapped
from tests.plugins_bottleneck.test_goldens import GOLDENS
from tests.registry.adapterhub_cards import parsed, put
from tests.support.cli import hubcli
from tests.support.static_server import serve
from tests.tensor.models import apart

pytestmark = pytest.mark.filterwarnings("ignore")
ADAPTERS = GOLDENS / "bert" / "adapters"


def config_of(**config: str) -> dict[str, Any]:
    found = mapped({**parsed(), "config": config}, "adapters/acme/x.yaml")
    document: dict[str, Any] = found.entries[0][0]["releases"][0]["method_config"]
    return document


@pytest.mark.parametrize(
    "golden, config",
    [
        ("seq_bn", {"using": "pfeiffer", "reduction_factor": "4"}),
        ("seq_bn_r16_gelu", {"using": "pfeiffer", "non_linearity": "gelu"}),
        ("double_seq_bn", {"using": "houlsby", "reduction_factor": "8"}),
    ],
)
def test_the_config_is_what_loading_gives(golden: str, config: dict[str, str]) -> None:
    loaded = adapterhub.read(ADAPTERS / golden)
    method = Bottleneck()
    assert loaded.method == "bottleneck"
    assert method.configure(config_of(**config)) == method.configure(loaded.config)
    assert method.configure(config_of(**{**config, "reduction_factor": "5"})) != method.configure(loaded.config)


@pytest.mark.parametrize("family", tables.CLASSES)
def test_the_families_are_what_the_tables_say(family: str) -> None:
    """Of each model_type the bare class, and whether AdapterHub's files for it can be read."""
    with torch.device("meta"):
        model = tf.AutoModel.from_config(tf.AutoConfig.for_model(family))
    assert type(model).__name__ == tables.CLASSES[family]
    read = True
    try:
        filed_by_adapterhub(Structure(model), Bottleneck().configure(config_of(using="pfeiffer")))
    except UnsupportedError:
        read = False
    assert read == (family not in tables.UNREAD)


def test_the_hint_leads_to_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetch, compare, unpack and convert as the refusal says; the outputs are those of the library that made the archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (ADAPTERS / "seq_bn").iterdir():
            archive.write(file, file.name)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "seq_bn.zip").write_bytes(packed.getvalue())
    with serve(tmp_path / "served") as server:
        card_file = {
            "version": "1",
            "url": server.url + "seq_bn.zip",
            "sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
        }
        index_import(
            "adapterhub",
            put(tmp_path / "cards", {**parsed(), "files": [card_file]}, "acme/tiny.yaml"),
            tmp_path / "index",
        )
        assert hubcli("index", "add", "ours", str(tmp_path / "index")).code == 0
        refused = hubcli("install", "acme/tiny", "--json").document["failed"][0]["error"]
        url, sha256 = re.fullmatch(r"(http\S+) \(sha256 ([0-9a-f]{64})\)", refused["cause"]).groups()  # type: ignore[union-attr]
        with urllib.request.urlopen(url) as response:
            data = response.read()
    assert hashlib.sha256(data).hexdigest() == sha256
    monkeypatch.chdir(tmp_path)
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path / "tiny")
    command = shlex.split(refused["hint"].partition("then: hubcli ")[2])
    assert command[:2] == ["convert", "./tiny"] and hubcli(*command).code == 0
    handle = adapt(tf.BertModel.from_pretrained(GOLDENS / "bert" / "base").eval())
    name = handle.load("./tiny-safe")
    with torch.no_grad(), handle.using(name):
        found = handle.model(**load_file(GOLDENS / "bert" / "inputs.safetensors")).last_hidden_state
    assert apart(found, load_file(GOLDENS / "bert" / "outputs.safetensors")["seq_bn"]) <= 1e-5
