"""Parallel over the upper layers alone: the layers below run once, and every child gets what it gets alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertForMultipleChoice

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Parallel, Stack
from hubcli.testing import apart, inputs_of, output, tiny

from .frozen import frozen, under

UPPER: dict[str, list[str]] = {
    "bert": ["layer.1.attention.self.query", "layer.1.output.dense"],
    "distilbert": ["layer.1.attention.q_lin", "layer.1.ffn.lin2"],
    "mpnet": ["layer.1.attention.attn.q", "layer.1.output.dense"],
    "vit": ["layers.1.attention.q_proj", "layers.1.mlp.fc2"],
    "gpt2": ["h.1.attn.c_attn"],
    "llama": ["layers.1.self_attn.q_proj"],
}
WHOLE = ("gpt2", "llama")  # families whose batch is repeated at the entrance
EXPR = Parallel("a", None, Stack("b", "a"))


def made(family: str) -> Adapted:
    lora = ("lora", {"r": 2, "target_modules": UPPER[family]})
    return frozen(tiny(family), lora, lora, first_seed=0)


def rows_seen(module: nn.Module) -> list[int]:
    seen: list[int] = []
    module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args or tuple(kwargs.values()))[0].shape[0]), with_kwargs=True
    )
    return seen


def layers_of(handle: Adapted) -> list[nn.Module]:
    path = handle.structure.transformer_layers()[0].path.rpartition(".")[0]
    return list(handle.structure.modules[path].children())


@pytest.mark.parametrize("family", UPPER)
def test_children_are_as_alone(family: str) -> None:
    handle, inputs = made(family), inputs_of(family)
    expected = [under(handle, inputs, expr) for expr in EXPR.children]
    lower, upper = (rows_seen(layer) for layer in layers_of(handle)[:2])
    found = under(handle, inputs, EXPR)
    assert apart(found, torch.cat(expected)) < 1e-10
    assert (lower, upper) == ([9 if family in WHOLE else 3], [9])
    assert apart(expected[0], expected[1]) > 1e-3


def test_a_batch_of_one_and_a_mask() -> None:
    handle, inputs = made("bert"), inputs_of("bert")
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["attention_mask"][0, 4:] = 0
    for some in (slice(0, 1), slice(0, 3)):
        given = {name: tensor[some] for name, tensor in inputs.items()}
        parts = [under(handle, given, expr) for expr in EXPR.children]
        assert apart(under(handle, given, EXPR), torch.cat(parts)) < 1e-10


@pytest.mark.parametrize("more", [{"output_hidden_states": True}, {"labels": torch.zeros(3, dtype=torch.long)}])
def test_what_asks_for_more_repeats_from_the_start(more: dict[str, Any]) -> None:
    handle, inputs = made("bert"), inputs_of("bert")
    lower = rows_seen(layers_of(handle)[0])
    with handle.using(EXPR), torch.no_grad():
        out = handle.model(**inputs, **more)
        expected = output(handle.model, inputs)
    assert lower == [9, 3]
    assert apart(out.logits, expected) < 1e-6
    assert all(hidden.shape[0] == 9 for hidden in out.hidden_states or ())


def test_gradients_repeat_from_the_start() -> None:
    handle, inputs = made("bert"), inputs_of("bert")
    handle.trainable("a")
    lower = rows_seen(layers_of(handle)[0])
    with handle.using(EXPR):
        handle.model(**inputs).logits.sum().backward()
    assert lower == [9]


def test_detach_takes_the_hooks_off() -> None:
    handle = made("bert")
    with handle.using(EXPR):
        pass
    handle.detach()
    assert not any(module._forward_pre_hooks for module in handle.model.modules())


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "vit"])
def test_bottlenecks_at_the_end_of_a_layer_repeat_there(family: str) -> None:
    bottleneck = ("bottleneck", {"reduction_factor": 2, "leave_out": [0]})
    handle, inputs = frozen(tiny(family), bottleneck, bottleneck, first_seed=0), inputs_of(family)
    layers = layers_of(handle)
    seen = rows_seen(layers[1])
    parts = [under(handle, inputs, expr) for expr in EXPR.children]
    found = under(handle, inputs, EXPR)
    assert apart(found, torch.cat(parts)) < 1e-10
    assert seen == [3, 3, 3, 9 if family == "vit" else 3]
    assert apart(parts[0], parts[2]) > 1e-3


def test_choices_of_one_question_repeat_from_the_start() -> None:
    config = tiny("bert").config
    torch.manual_seed(0)
    handle = adapt(BertForMultipleChoice(config).double().eval())
    for name in "ab":
        handle.add("lora", name, {"r": 2, "target_modules": UPPER["bert"]}, head=None)
        for parameter in handle.trainable(name):
            parameter.data.normal_(std=0.3)
    handle.trainable([])
    ids = torch.randint(0, config.vocab_size, (2, 3, 7))
    parts = []
    with torch.no_grad():
        for name in "ab":
            with handle.using(name):
                parts.append(handle.model(ids).logits)
        with handle.using(Parallel("a", "b")):
            assert apart(handle.model(ids).logits, torch.cat(parts)) < 1e-6
    assert apart(parts[0], parts[1]) > 1e-3


def test_a_switch_that_is_set_later_counts() -> None:
    handle, inputs = made("bert"), inputs_of("bert")
    handle.activate(EXPR)
    output(handle.model, inputs)
    handle.model.config.output_hidden_states = True
    with torch.no_grad():
        assert {hidden.shape[0] for hidden in handle.model(**inputs).hidden_states} == {9}


def test_fuse_takes_its_hooks_off_too() -> None:
    handle, inputs = made("bert"), inputs_of("bert")
    handle.activate(EXPR)
    expected = output(handle.model, inputs)
    handle.activate("a")
    handle.fuse()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in handle.model.modules())
    handle.unfuse()
    handle.activate(EXPR)
    assert apart(output(handle.model, inputs), expected) == 0
