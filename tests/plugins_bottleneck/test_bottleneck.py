"""Bottlenecks in any tree of methods against a slow reference; what is refused; pickled files."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hubcli_bottleneck.settings import VARIANTS, check, read_settings

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Expr, Stack
from hubcli.errors import (
    BaseMismatchError,
    ConfigKeyError,
    UnsafeFormatError,
    UnsupportedError,
    UnsupportedSiteError,
    WeightsError,
)
from hubcli.testing import apart, inputs_of, output, reference, tiny
from tests.tensor.models import model_of

pytestmark = pytest.mark.filterwarnings("ignore")
MIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "houlsby": ("bottleneck", {"variant": "houlsby", "reduction_factor": 4}),
    "pfeiffer": ("bottleneck", {"reduction_factor": 4}),
    "parallel": ("bottleneck", {"variant": "parallel", "reduction_factor": 4, "mh_adapter": True}),
    "lora": ("lora", {"r": 2, "target_modules": r".*(dense|c_proj|c_attn|o_proj|down_proj|wo|\.o)"}),
    "bitfit": ("bitfit", {}),
}


def mixed(family: str) -> Adapted:
    """A handle with one frozen random adapter of each kind, all meeting at the same modules."""
    handle = adapt(tiny(family))
    for seed, (name, (method, config)) in enumerate(MIXED.items()):
        if method == "bitfit" and family in ("llama", "t5"):
            continue
        torch.manual_seed(seed)
        handle.add(method, name, copy.deepcopy(config), head=None)
        with torch.no_grad():
            for parameter in handle.trainable(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    handle.trainable([])
    return handle


def tree(names: list[str], chance: random.Random, depth: int = 3) -> Expr:
    if depth == 0 or chance.random() < 0.25:
        return chance.choice([*names, None])
    children = [tree(names, chance, depth - 1) for _ in range(chance.randint(1, 3))]
    if chance.random() < 0.5:
        return Stack(*children)
    return Average(*children, weights=[round(chance.uniform(-1, 1), 2) for _ in children])


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_mixed_trees_are_the_reference(family: str) -> None:
    handle, inputs, chance = mixed(family), inputs_of(family), random.Random(7)
    names = list(handle.adapters)
    trees: list[Expr] = [Stack("parallel", "houlsby"), Stack("lora", "houlsby", "parallel")]
    for expr in trees + [tree(names, chance) for _ in range(25)]:
        with handle.using(expr):
            found = output(handle.model, inputs)
        assert apart(found, reference(handle, expr, inputs)) <= 1e-10, expr
    with handle.using(Stack("parallel", "houlsby")):
        one = output(handle.model, inputs)
    with handle.using(Stack("houlsby", "parallel")):
        assert apart(one, output(handle.model, inputs)) > 1e-6


def test_rows_of_mixed_methods_are_separate_runs() -> None:
    handle, inputs = mixed("bert"), inputs_of("bert")
    for rows in (["parallel", "lora", None], [Stack("parallel", "houlsby"), "pfeiffer", Average("lora", "parallel")]):
        alone = []
        for i, expr in enumerate(rows):
            with handle.using(expr):
                alone.append(output(handle.model, inputs)[i])
        with handle.using(rows=rows):
            assert apart(output(handle.model, inputs), torch.stack(alone)) <= 1e-10


@pytest.mark.slow
def test_taps_survive_copies_pickles_and_compile() -> None:
    handle, inputs = mixed("bert"), inputs_of("bert")
    handle.activate(Stack("parallel", "houlsby"))
    expected = output(handle.model, inputs)
    for twin in (copy.deepcopy(handle.model), pickle.loads(pickle.dumps(handle.model))):
        handle.activate(None)
        assert torch.equal(output(twin, inputs), expected)
        handle.activate(Stack("parallel", "houlsby"))
    compiled = torch.compile(handle.model, backend="eager", fullgraph=True)
    assert apart(output(compiled, inputs), expected) <= 1e-10


REFUSED = [
    ({"inv_adapter": "nice"}, "inv_adapter"),
    ({"phm_layer": 1}, "phm_layer"),
    ({"ln_before": True}, "ln_before"),
    ({"ln_after": True}, "ln_after"),
    ({"adapter_residual_before_ln": True}, "adapter_residual_before_ln"),
    ({"use_gating": True}, "use_gating"),
    ({"stochastic_depth": 0.1}, "stochastic_depth"),
    ({"cross_adapter": True}, "cross_adapter"),
    ({"original_ln_after": False}, "original_ln_after"),
    ({"residual_before_ln": "post_add"}, "residual_before_ln"),
    ({"non_linearity": "exec"}, "non_linearity"),
    ({"reduction_factor": 0}, "reduction_factor"),
    ({"reduction_factor": True}, "reduction_factor"),
    ({"scaling": "sometimes"}, "scaling"),
    ({"leave_out": ["0"]}, "leave_out"),
    ({"mh_adapter": "yes"}, "mh_adapter"),
    ({"output_adapter": False}, "output_adapter"),
    ({"variant": "unipelt"}, "variant"),
    ({"init_weights": "houlsby"}, "init_weights"),
]


@pytest.mark.parametrize("config, key", REFUSED, ids=lambda case: str(case)[:40])
def test_what_it_does_not_do_is_refused_by_key(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigKeyError, match=key):
        read_settings(config)
    assert check(config, {"a": ("F32", (1,))})[0][0] == "E_CONFIG_KEY"
    assert all(read_settings({"variant": variant}) for variant in VARIANTS)


def test_places_that_a_model_has_not() -> None:
    with pytest.raises(UnsupportedSiteError, match="original_ln_before"):
        adapt(tiny("gpt2")).add("bottleneck", "a", {"mh_adapter": True})
    with pytest.raises(UnsupportedSiteError, match="no layers of a known layout"):
        adapt(torch.nn.Sequential(torch.nn.Linear(2, 2))).add("bottleneck", "a", head=None)
    handle = adapt(model_of("albert"))
    handle.add("bottleneck", "a", {"variant": "houlsby", "reduction_factor": 4}, head=None)
    with pytest.raises(UnsupportedError, match="ALBERT"):
        handle.save("a", Path("nowhere"), format="adapterhub")


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AdapterHub folder for the tiny BERT, with a .bin."""
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "home"))
    handle = adapt(tiny("bert"))
    handle.add("bottleneck", "a", {"reduction_factor": 4}, head=None)
    folder = handle.save("a", tmp_path / "a", format="adapterhub")
    from safetensors.torch import load_file

    torch.save(load_file(folder / "adapter.safetensors"), folder / "pytorch_adapter.bin")
    (folder / "adapter.safetensors").unlink()
    return folder


def test_a_bin_is_read_once_and_warned_of(saved: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="is a pickle"):
        adapt(tiny("bert")).load(saved)
    kept = list((tmp_path / "home" / "cache" / "converted").iterdir())
    assert [file.suffix for file in kept] == [".safetensors"]
    adapt(tiny("bert")).load(saved)


class Evil:
    """Runs code where a pickle is trusted."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("content", ["code", "list", "noise"])
def test_a_bin_with_more_than_tensors_is_refused(saved: Path, tmp_path: Path, content: str) -> None:
    file, trace = saved / "pytorch_adapter.bin", tmp_path / "trace"
    if content == "noise":
        file.write_bytes(b"\x80\x04" + bytes(range(256)) * 8)
    else:
        torch.save({"x": Evil(trace)} if content == "code" else [1, 2], file)
    handle = adapt(tiny("bert"))
    with pytest.raises(UnsafeFormatError, match="more than tensors"):
        handle.load(saved)
    assert not trace.exists() and not handle.adapters
    assert not list((tmp_path / "home" / "cache" / "converted").iterdir())


@pytest.mark.slow
def test_the_childs_memory_is_bounded() -> None:

    code = (
        "import resource, torch; from hubcli import unpickle\n"
        "unpickle.limit(1000); print(resource.getrlimit(resource.RLIMIT_AS)[0] > 0)\n"
        "try: torch.ones(1 << 32)\n"
        "except (RuntimeError, MemoryError): print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if sys.platform == "linux":
        assert done.stdout.split() == ["True", "refused"]


CHANGES: list[tuple[str, Any, type[Exception], str]] = [
    ("head_config.json", {}, UnsupportedError, "head_config.json"),
    ("config", {"phm_layer": True}, WeightsError, "phm_rule"),
    ("config", {"reduction_factor": 8}, BaseMismatchError, "shape"),
    ("config", {"leave_out": [1]}, BaseMismatchError, "modules"),
    ("config", {"output_adapter": True, "mh_adapter": True, "original_ln_before": False}, WeightsError, "no tensors"),
    ("name", "other", WeightsError, "adapter 'other'"),
    ("model_class", "RobertaModel", BaseMismatchError, "RobertaModel"),
]


@pytest.mark.parametrize("where, change, error, words", CHANGES, ids=lambda case: str(case)[:30])
def test_files_that_do_not_fit(saved: Path, where: str, change: Any, error: type[Exception], words: str) -> None:
    file = saved / "adapter_config.json"
    envelope = json.loads(file.read_text())
    if where == "config":
        envelope["config"].update(change)
    elif where.endswith(".json"):
        (saved / where).write_text("{}")
    else:
        envelope[where] = change
    file.write_text(json.dumps(envelope))
    handle = adapt(tiny("bert"))
    with pytest.raises(error, match=words):
        handle.load(saved)
    assert not handle.adapters and not handle.engine.live


def test_old_files_name_gelu_otherwise(saved: Path) -> None:
    file = saved / "adapter_config.json"
    envelope = json.loads(file.read_text())
    for version, wanted in (("adapters.1.3.0", "gelu"), (None, "gelu_new")):
        envelope["config"]["non_linearity"], envelope["version"] = "gelu", version
        file.write_text(json.dumps({key: value for key, value in envelope.items() if value is not None}))
        handle = adapt(tiny("bert"))
        name = handle.load(saved)
        assert handle.adapters[name].config["non_linearity"] == wanted
