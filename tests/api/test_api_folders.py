"""load_adapter takes a folder of any format that hubcli reads, and fusions beside their adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hubcli import Fuse, load_adapter
from hubcli.adapted import adapt
from hubcli.errors import NotFoundError
from hubcli.testing import apart, inputs_of, output, tiny

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Adapters a (hubcli's folder) and b (AdapterHub's), a fusion over them, and the logits under each."""
    handle = adapt(tiny("bert"))
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        handle.add("bottleneck", name, {"reduction_factor": 4}, head=None)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.add("fusion", "f", {"of": ["a", "b"]}, head=None)
    handle.trainable([])
    for name, format in (("a", "hubcli"), ("b", "adapterhub"), ("f", "hubcli")):
        handle.save(name, tmp_path / name, format=format)
    found = {}
    for expr in ("a", "b", Fuse("a", "b", by="f")):
        with handle.using(expr):
            found[expr] = output(handle.model, inputs_of("bert"))
    torch.save(found, tmp_path / "expected.pt")
    return {name: tmp_path / name for name in ("a", "b", "f", "expected.pt")}


def test_folders_of_every_format(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "home"))
    expected = torch.load(folders["expected.pt"], weights_only=False)
    for name in "ab":
        model = tiny("bert")
        load_adapter(str(folders[name]), model)
        assert torch.equal(output(model, inputs_of("bert")), expected[name])
    model = tiny("bert")
    load_adapter(Fuse(str(folders["a"]), str(folders["b"]), by=str(folders["f"])), model)
    found = output(model, inputs_of("bert"))
    assert torch.equal(found, expected[Fuse("a", "b", by="f")])
    assert apart(found, expected["a"]) > 1e-3


def test_a_folder_of_nothing_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"adapter_config\.json") as caught:
        load_adapter(str(tmp_path / "empty"), tiny("bert"))
    assert "hubcli's format" in (caught.value.hint or "")


def test_the_folder_of_a_run_says_where_its_adapter_is(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(NotFoundError) as caught:
        load_adapter(str(tmp_path), tiny("bert"))
    assert str(tmp_path / "adapter") in (caught.value.hint or "")
