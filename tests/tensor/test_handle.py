"""The handle: what it leaves alone, what it refuses, and that nothing of a failure stays."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hubcli.adapted import adapt
from hubcli.composition import Stack
from hubcli.errors import (
    ActiveError,
    AdapterError,
    BusyError,
    ConfigKeyError,
    HubcliError,
    MethodNotFoundError,
    NameInUseError,
    NotFoundError,
    UnsafeFormatError,
    UnsupportedError,
    UnsupportedSiteError,
    WeightsError,
)

from .conftest import Lab
from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
Build = Callable[..., Lab]


def state(model: torch.nn.Module) -> dict[str, Any]:
    """All that attaching could change: hooks, instance attributes, children, flags, bytes."""
    return {
        name: (
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            sorted(m.__dict__),
            list(m._modules),
            [(p.requires_grad, p.data_ptr(), p.detach().sum().item()) for p in m._parameters.values() if p is not None],
        )
        for name, m in model.named_modules()
    }


def test_detach_leaves_no_trace(tmp_path: Path) -> None:
    base = model_of("bert")
    before, answer = state(base), logits(base, inputs_of("bert"))
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", r=2, target_modules=["query"])
    handle = adapt(base)
    assert adapt(base) is handle
    handle.load(tmp_path / "a")
    handle.activate("a")
    handle.trainable("a")
    logits(base, inputs_of("bert"))
    handle.detach()
    assert state(base) == before
    assert torch.equal(logits(base, inputs_of("bert")), answer)
    assert adapt(base) is not handle
    adapt(base).detach()
    handle.load(tmp_path / "a")
    assert list(handle.adapters) == ["a"] and adapt(base) is handle


def test_the_model_keeps_its_keys_and_copies(lab: Build, tmp_path: Path) -> None:
    made = lab("bert", head=True)
    keys = list(model_of("bert").state_dict())
    made.handle.activate("a")
    made.handle.trainable("b")
    expected = logits(made.base, made.inputs)
    assert list(made.base.state_dict()) == keys
    made.base.load_state_dict(made.base.state_dict(), strict=True)
    made.base.save_pretrained(tmp_path / "saved")
    assert sorted(load_file(tmp_path / "saved" / "model.safetensors")) == sorted(keys)
    for twin in (copy.deepcopy(made.base), pickle.loads(pickle.dumps(made.base))):
        assert torch.equal(logits(twin, made.inputs), expected)
        adapt(twin).activate(None)
        assert not torch.equal(logits(twin, made.inputs), expected)
    assert torch.equal(logits(made.base, made.inputs), expected)


def test_using_comes_back_also_on_error(lab: Build) -> None:
    made = lab("bert")
    made.handle.activate("a")
    with pytest.raises(RuntimeError), made.handle.using("b"):
        assert made.handle.active == "b"
        with made.handle.using(None):
            assert made.handle.active is None
        assert made.handle.active == "b"
        raise RuntimeError
    assert made.handle.active == "a"


def test_an_error_in_forward_leaves_nothing(lab: Build) -> None:
    made = lab("bert")
    expected = made.under("a")

    def fail(*_: Any) -> None:
        raise RuntimeError("inside")

    hook = made.base.bert.encoder.layer[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="inside"), made.handle.using("b"):
        logits(made.base, made.inputs)
    hook.remove()
    made.handle.activate("a")
    assert torch.equal(logits(made.base, made.inputs), expected)


def test_activate_during_a_forward_is_refused(lab: Build) -> None:
    made = lab("bert")
    hook = made.base.bert.register_forward_hook(lambda *_: made.handle.activate("b"))
    with pytest.raises(BusyError, match="forward"):
        logits(made.base, made.inputs)
    hook.remove()
    made.handle.activate("b")


def test_threads_have_their_own_expression(lab: Build) -> None:
    made = lab("bert")
    expected = {name: made.under(name) for name in ("a", "b", None)}
    wrong: list[Any] = []

    def work(name: str | None) -> None:
        for _ in range(20):
            with made.handle.using(name):
                if not torch.equal(logits(made.base, made.inputs), expected[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", None, "a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names(lab: Build) -> None:
    made = lab("bert")
    assert made.handle.load(made.folders["a"]) == "a"
    assert made.handle.load(made.folders["a"], "again") == "again"
    with pytest.raises(NameInUseError, match="other bytes"):
        made.handle.load(made.folders["b"], "a")
    with pytest.raises(NameInUseError):
        made.handle.add("lora", "a")
    with pytest.raises(NotFoundError, match="nobody"):
        made.handle.detach("nobody")
    made.handle.activate(Stack("b", "a"))
    with pytest.raises(ActiveError, match="stack"):
        made.handle.detach("a")
    made.handle.activate(None)
    made.handle.detach("a")
    with pytest.raises(NotFoundError):
        made.handle.activate("a")
    made.handle.load(made.folders["b"], "a")
    assert torch.equal(made.under("a"), made.under("b"))


def test_a_ref_in_an_expression_is_located_and_loaded(lab: Build) -> None:
    made = lab("bert")
    record = SimpleNamespace(name="lang/de", release=None)
    adapt(made.base, locate=lambda ref: SimpleNamespace(record=record, path=str(made.folders["a"])))
    expected = made.folded(a=1, b=1)
    made.handle.activate(Stack("lang/de@^1", "b"))
    assert "lang/de@^1" in made.handle.adapters
    assert apart(logits(made.base, made.inputs), expected) <= 1e-10
    assert made.handle.load("lang/de") == "lang/de"


def broken(folder: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    change(config, tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


def first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(key for key in tensors if part in key)


BROKEN: dict[str, tuple[Callable[[Any, Any], Any], type[HubcliError], str, str]] = {
    "nan": (lambda c, t: t[first(t, "lora_A")].fill_(float("nan")), WeightsError, "NaN", "E_WEIGHTS_NONFINITE"),
    "nan in the head": (lambda c, t: t[first(t, "classifier.w")].fill_(float("inf")), WeightsError, "NaN", "E_WEIGHTS_NONFINITE"),
    "half a pair": (lambda c, t: t.pop(first(t, "lora_B")), WeightsError, "expected lora_A, lora_B, found lora_A", "E_WEIGHTS"),
    "a whole site": (lambda c, t: [t.pop(first(t, "value.lora_A")), t.pop(first(t, "value.lora_B"))], WeightsError, "no tensors", "E_WEIGHTS"),
    "half a head": (lambda c, t: t.pop(first(t, "classifier.bias")), WeightsError, "classifier", "E_WEIGHTS"),
    "not a target": (lambda c, t: c.update(target_modules=["query"]), WeightsError, "doesn't name it", "E_WEIGHTS"),
    "not a LoRA": (lambda c, t: t.update({"base_model.model.x": torch.ones(1)}), WeightsError, "no part", "E_WEIGHTS"),
    "other base weights": (
        lambda c, t: t.update({"base_model.model.bert.pooler.dense.bias": torch.ones(16)}), ConfigKeyError, "other base weights", "E_CONFIG_KEY",
    ),
    "key": (lambda c, t: c.update(trainable_token_indices=[1]), ConfigKeyError, "trainable_token_indices", "E_CONFIG_KEY"),
    "method": (lambda c, t: c.update(peft_type="NOPE"), MethodNotFoundError, "NOPE", "E_METHOD"),
    "another library": (lambda c, t: c.pop("peft_type"), UnsupportedError, "peft_type", "E_UNSUPPORTED"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_failed_load_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    change, error, message, id = BROKEN[case]
    base = model_of("bert", torch.float32)
    peft_adapter(base, tmp_path / "a", "SEQ_CLS", r=2, target_modules=["query", "value"])
    broken(tmp_path / "a", change)
    handle = adapt(base)
    before = state(base)
    with pytest.raises(error, match=message) as caught:
        handle.load(tmp_path / "a")
    assert caught.value.id == id
    assert state(base) == before and not handle.adapters


def test_files_that_are_not_there(tmp_path: Path) -> None:
    handle = adapt(model_of("bert"))
    with pytest.raises(NotFoundError, match="no folder"):
        handle.load(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match=r"adapter_config\.json is missing"):
        handle.load(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "target_modules": ["query"]}')
    with pytest.raises(WeightsError, match="missing"):
        handle.load(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeFormatError, match="more than tensors"):
        handle.load(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(WeightsError, match="can't be read"):
        handle.load(tmp_path)
    with pytest.raises(NotFoundError, match="is no folder"):
        handle.load("group/name")


def test_a_module_that_is_never_called_is_refused() -> None:
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(8, 8), "layer": torch.nn.TransformerEncoderLayer(8, 2, 16)})
    with pytest.raises(UnsupportedSiteError, match="MultiheadAttention"):
        adapt(model).add("lora", "a", {"target_modules": ["first", "out_proj"]})
    assert not any(m._forward_hooks for m in model.modules())


def test_saving_refuses_other_formats(lab: Build, tmp_path: Path) -> None:
    made = lab("bert")
    with pytest.raises(UnsupportedError, match="can't be written; supported"):
        made.handle.save("a", tmp_path, format="ggml")


def test_no_walk_on_load_and_swap(lab: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lab("bert")
    hooks = sum(len(m._forward_hooks) for m in made.base.modules())

    def walk(*_: Any, **__: Any) -> Any:
        raise AssertionError("walked over the modules")

    monkeypatch.setattr(torch.nn.Module, "named_modules", walk)
    made.handle.load(made.folders["a"], "d")
    made.handle.activate(Stack("d", "b"))
    made.handle.activate("c")
    monkeypatch.undo()
    assert sum(len(m._forward_hooks) for m in made.base.modules()) == hooks


def test_dtypes_follow_the_site(lab: Build) -> None:
    made = lab("llama")
    expected = made.under(Stack("a", "b")).float()
    made.handle.activate(Stack("a", "b"))
    for dtype, limit in [(torch.float32, 1e-4), (torch.bfloat16, 0.5), (torch.float64, 0.5)]:
        made.base.to(dtype)
        found = logits(made.base, made.inputs)
        assert found.dtype == dtype and apart(found.float(), expected) <= limit
        assert {step.leaf.tensors["A"].dtype for step in made.handle.engine.routing.active.steps} == {dtype}
        with torch.autocast("cpu", torch.bfloat16):
            logits(made.base, made.inputs)


def test_plugin_errors_name_the_method() -> None:
    with pytest.raises(MethodNotFoundError, match="lroa"):
        adapt(model_of("bert")).add("lroa", "x")
    with pytest.raises((AdapterError, HubcliError), match="has no module 'scorer'"):
        adapt(model_of("bert")).add("lora", "x", head="scorer")
