"""Training: the same steps as peft's, gradients where they belong, and what a Trainer sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from hubcli.adapted import adapt
from hubcli.composition import Average, BatchSplit, Expr, Parallel, Split, Stack
from hubcli.errors import AdapterError, NotFoundError

from .models import apart, inputs_of, logits, model_of, peft_adapter

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dora": {"use_dora": True},
    "biases": {"lora_bias": True, "bias": "lora_only"},
    "dropout": {"lora_dropout": 0.3},
    "dora with dropout": {"use_dora": True, "lora_dropout": 0.3},
}


def steps(model: Any, parameters: list[torch.nn.Parameter], n: int = 12) -> None:
    torch.manual_seed(11)
    optimiser = torch.optim.AdamW(parameters, lr=0.02)
    labels = torch.tensor([0, 1, 1])
    for _ in range(n):
        loss = model(**inputs_of("bert", seed=3), labels=labels).loss
        torch.manual_seed(int(loss.item() * 1000) % 7)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("option", OPTIONS)
def test_twelve_steps_are_pefts(option: str, tmp_path: Path) -> None:
    config = {"r": 3, "target_modules": ["query", "value"], **OPTIONS[option]}
    base = model_of("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    peft_adapter(base, tmp_path / "start", "SEQ_CLS", **config)
    tuned = PeftModel.from_pretrained(
        model_of("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        tmp_path / "start", is_trainable=True, autocast_adapter_dtype=False,
    ).train()  # fmt: skip
    steps(tuned, [p for p in tuned.parameters() if p.requires_grad])
    tuned.save_pretrained(tmp_path / "theirs")
    handle = adapt(base)
    handle.load(tmp_path / "start", "a")
    handle.activate("a")
    base.train()
    steps(base, handle.trainable("a"))
    handle.save("a", tmp_path / "ours")
    files = [load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("start", "theirs", "ours")]
    start, theirs, ours = files
    assert set(theirs) == set(ours)
    assert max(apart(ours[key], start[key]) for key in ours) > 0.05
    assert max(apart(ours[key], theirs[key]) for key in ours) <= 1e-8


def test_a_fresh_adapter_starts_at_zero_and_moves(tmp_path: Path) -> None:
    base = model_of("bert", torch.float32)
    before = logits(base, inputs_of("bert"))
    handle = adapt(base)
    assert handle.add("lora", "new", {"r": 2}) == "new"
    handle.activate("new")
    assert torch.equal(logits(base, inputs_of("bert")), before)
    parameters = handle.trainable("new")
    frozen = {n: p.detach().clone() for n, p in base.named_parameters() if not p.requires_grad}
    base.train()
    steps(base, parameters, 5)
    base.eval()
    after = logits(base, inputs_of("bert"))
    assert apart(after, before) > 1e-3
    for name, parameter in base.named_parameters():
        if name in frozen:
            assert parameter.grad is None and torch.equal(parameter, frozen[name]), name
    handle.save("new", tmp_path)
    config = handle.adapters["new"].config
    assert config["modules_to_save"] == ["classifier"] and config["target_modules"] == ["query", "value"]
    handle.detach()
    assert torch.equal(logits(base, inputs_of("bert")), before)
    again = PeftModel.from_pretrained(base, tmp_path).eval()
    assert apart(logits(again, inputs_of("bert")), after) <= 1e-6


@pytest.mark.parametrize(
    "expr",
    [
        Stack("frozen", "trains"),
        Average("frozen", "trains", weights=[0.5, 0.3]),
        BatchSplit("frozen", "trains", sizes=[1, 2]),
        Split("trains", "frozen", sizes=[3, 4]),
        Parallel("frozen", "trains"),
        Stack("frozen", Average("trains", None)),
    ],
    ids=str,
)
def test_gradients_flow_to_what_trains_and_nowhere_else(expr: Expr, tmp_path: Path) -> None:
    base = model_of("bert")
    for seed, name in enumerate(("frozen", "trains")):
        peft_adapter(base, tmp_path / name, "SEQ_CLS", seed, r=2, target_modules=["query"])
    handle = adapt(base)
    handle.load(tmp_path / "frozen")
    handle.load(tmp_path / "trains")
    handle.activate(expr)
    parameters = handle.trainable(["trains"])
    base(**inputs_of("bert")).logits.sum().backward()
    mine = {id(p) for p in parameters}
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    assert all(p.grad is None for p in base.parameters() if id(p) not in mine)
    with pytest.raises(NotFoundError):
        handle.trainable("nobody")


def test_an_optimiser_sees_the_plan_change(tmp_path: Path) -> None:
    """A merged copy of a frozen adapter must not outlive the moment it begins to train."""
    base = model_of("bert")
    for seed, name in enumerate("ab"):
        peft_adapter(base, tmp_path / name, "", seed, r=2, target_modules=["query"])
    handle = adapt(base)
    handle.load(tmp_path / "a")
    handle.load(tmp_path / "b")
    handle.activate(Stack("a", "b"))
    before = logits(base, inputs_of("bert"))
    with torch.no_grad():
        for parameter in handle.trainable("b"):
            parameter.mul_(3)
    assert apart(logits(base, inputs_of("bert")), before) > 1e-3
    assert {p.dtype for p in handle.trainable("a")} == {torch.float64}
    base.to(torch.bfloat16)
    assert apart(logits(base, inputs_of("bert")).double(), before) > 1e-3


def test_checkpointing_recomputes_under_the_forwards_own_program(tmp_path: Path) -> None:
    def build() -> Any:
        base = model_of("bert")
        handle = adapt(base)
        for seed, name in enumerate("ab"):
            if not (tmp_path / name).exists():
                peft_adapter(base, tmp_path / name, "", seed, r=2, target_modules=["query"])
            handle.load(tmp_path / name)
        return base, handle, handle.trainable(["a", "b"])

    def gradients(parameters: Any) -> torch.Tensor:
        return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])

    base, handle, parameters = build()
    handle.activate("a")
    base(**inputs_of("bert")).logits.sum().backward()
    expected = gradients(parameters)
    base, handle, parameters = build()
    base.gradient_checkpointing_enable()
    base.train()
    for module in base.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    handle.activate("a")
    loss = base(**inputs_of("bert")).logits.sum()
    handle.activate("b")
    loss.backward()
    assert apart(gradients(parameters), expected) <= 1e-9
    one = base(**inputs_of("bert")).logits.sum()
    handle.activate("a")
    other = base(**inputs_of("bert")).logits.sum()
    with pytest.raises(AdapterError, match="checkpointing"):
        (one + other).backward()
    base(**inputs_of("bert")).logits.sum().backward()


@pytest.mark.slow
def test_the_trainer_trains_it(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    base = model_of("bert", torch.float32)
    handle = adapt(base)
    handle.add("lora", "new", {"r": 2})
    handle.activate("new")
    handle.trainable("new")
    before = {n: p.detach().clone() for n, p in base.named_parameters()}
    rows = [{"input_ids": torch.randint(3, 60, (6,)), "labels": i % 2} for i in range(8)]
    arguments = TrainingArguments(
        tmp_path,
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=0.05,
        report_to=[],
        use_cpu=True,
        save_steps=3,
    )
    Trainer(base, arguments, train_dataset=rows).train()
    moved = {n for n, p in base.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in base.named_parameters() if p.requires_grad} and moved
    assert all("hubcli_residents" in name for name in moved)
    saved = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    assert sorted(saved) == sorted(model_of("bert").state_dict())
