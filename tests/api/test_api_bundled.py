"""sentiment/bert-lora from install to answers, against plain peft and against weights folded by hand."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from hubcli import Average, Stack, adapt, load_adapter
from hubcli.adapted import Adapted
from hubcli.errors import ActiveError
from hubcli.method import HubcliWarning
from tests.api.bundled import REF, TEXTS, Oracle, agree, answers, apart, classifier, tokenizer
from tests.support.cli import hubcli

LIMIT = 1e-5


@pytest.fixture(scope="module")
def ready(shared_home: Path) -> Adapted:
    """The bundled adapter on the base that hubcli finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBCLI_HOME", str(shared_home))
        return load_adapter(REF)


@pytest.fixture(scope="module")
def expected(oracle: Oracle) -> list[tuple[str, float]]:
    return answers(oracle.logits(oracle.first))


def test_answers_are_those_of_peft(ready: Adapted, oracle: Oracle, expected: list[tuple[str, float]]) -> None:
    assert apart(oracle.logits(ready.model), oracle.logits(oracle.first)) <= LIMIT
    found = ready.predict(TEXTS)
    assert [p.text for p in found] == TEXTS
    agree(found, expected)
    assert {label for label, _ in expected} == {"negative", "positive"}


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batches_change_nothing(batch_size: int, ready: Adapted, expected: list[tuple[str, float]]) -> None:
    agree(ready.predict(TEXTS, batch_size=batch_size), expected)


def test_the_pipeline_says_the_same(ready: Adapted, expected: list[tuple[str, float]]) -> None:
    agree(ready.pipeline()(TEXTS), expected)


def state(model: Any) -> tuple[Any, ...]:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return type(model), list(model.state_dict()), [p.requires_grad for p in model.parameters()], hooks


@pytest.mark.parametrize("way", ["load_adapter", "adapt"])
def test_the_persons_own_model(way: str, installed: Path, oracle: Oracle) -> None:
    model = classifier(3)
    before, bare = state(model), oracle.logits(model)
    handle = load_adapter(REF, model) if way == "load_adapter" else adapt(model, tokenizer=tokenizer())
    if way == "adapt":
        assert handle.load(REF) == REF and handle.active is None
        assert torch.equal(oracle.logits(model), bare), "loaded is not active"
        handle.activate(REF)
    assert handle.model is model and adapt(model) is handle and handle.active == REF
    assert (type(model), list(model.state_dict())) == before[:2]
    assert apart(oracle.logits(model), oracle.logits(oracle.first)) <= LIMIT
    with handle.using(None):
        assert torch.equal(oracle.logits(model), bare)
    with pytest.raises(ActiveError, match="is in use"):
        handle.detach(REF)
    handle.detach()
    assert state(model) == before and torch.equal(oracle.logits(model), bare)


COMPOSED: dict[str, tuple[Any, tuple[float, float], tuple[float, float]]] = {
    "average": (lambda a, b: Average(a, b, weights=[0.7, 0.3]), (0.7, 0.3), (0.7, 0.3)),
    "stack": (Stack, (1, 1), (0, 1)),
    "stack, the other way": (lambda a, b: Stack(b, a), (1, 1), (1, 0)),
    "nested": (lambda a, b: Stack(a, Average(a, b)), (1.5, 0.5), (0.5, 0.5)),
}


@pytest.mark.parametrize("case", COMPOSED)
def test_compositions_are_folded_weights(case: str, installed: Path, second: Path, oracle: Oracle) -> None:
    build, deltas, heads = COMPOSED[case]
    composed = build(REF, str(second))
    logits = oracle.folded(deltas, heads)
    handle = load_adapter(composed)
    assert set(handle.adapters) == {REF, "other"}
    assert apart(oracle.logits(handle.model), logits) <= LIMIT
    said = hubcli("run", str(composed), *TEXTS, "--json")
    assert said.code == 0, said.err
    agree(said.document["predictions"], answers(logits))


def test_each_row_its_own(installed: Path, second: Path, oracle: Oracle) -> None:
    handle = load_adapter(Stack(REF, str(second)))
    bare = oracle.logits(handle.model)
    alone: dict[str | None, Any] = {}
    for name in (REF, "other", None):
        with handle.using(name):
            alone[name] = oracle.logits(handle.model)
    assert apart(alone[REF], oracle.logits(oracle.first)) <= LIMIT
    assert apart(alone["other"], oracle.logits(oracle.second)) <= LIMIT
    rows = [(REF, "other", None)[i % 3] for i in range(len(TEXTS))]
    with handle.using(rows=rows):
        mixed = oracle.logits(handle.model)
    assert apart(mixed, torch.stack([alone[name][i] for i, name in enumerate(rows)])) <= LIMIT
    agree(handle.predict(TEXTS, rows=[REF] * len(TEXTS)), answers(alone[REF]))
    assert torch.equal(oracle.logits(handle.model), bare)


def test_the_command_line_says_the_same(
    installed: Path, tmp_path: Path, expected: list[tuple[str, float]], ready: Adapted
) -> None:
    python = [(p.label, p.score) for p in ready.predict(TEXTS)]
    file = tmp_path / "reviews.txt"
    file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    ways: dict[str, tuple[tuple[str, ...], bytes]] = {
        "arguments": (tuple(TEXTS), b""),
        "--file": (("--file", str(file)), b""),
        "stdin": (("-",), file.read_bytes()),
        "one by one": (("--file", str(file), "--batch-size", "1"), b""),
        "by five": (("--file", str(file), "--batch-size", "5"), b""),
    }
    for way, (arguments, stdin) in ways.items():
        said = hubcli("run", REF, *arguments, "--json", stdin=stdin)
        assert said.code == 0, f"{way}: {said.err}"
        rows = said.document["predictions"]
        assert [row["text"].strip() for row in rows] == [text.strip() for text in TEXTS], way
        agree(rows, expected)
        agree(rows, python, 0 if way == "arguments" else 1e-6)
    told = hubcli("run", REF, *TEXTS[:2])
    assert [line.split(maxsplit=2)[::2] for line in told.out.splitlines()] == [
        ["positive", TEXTS[0]],
        ["negative", TEXTS[1]],
    ]


def test_a_missing_adapter_is_installed_first(home: Path) -> None:
    assert not home.exists()
    assert load_adapter(REF).predict("a gripping film")[0].label == "positive"
    assert hubcli("list", "--json").document["adapters"][0]["name"] == REF


def test_threads_that_use_one_handle_get_their_own(installed: Path, second: Path, oracle: Oracle) -> None:
    handle = load_adapter(Stack(REF, str(second)))
    wanted = {REF: oracle.logits(oracle.first), "other": oracle.logits(oracle.second)}
    inside, wrong = threading.Barrier(2, timeout=30), []

    def use(name: str) -> None:
        for _ in range(3):
            with handle.using(name):
                inside.wait()
                found = oracle.logits(handle.model)
                inside.wait()
            if apart(found, wanted[name]) > LIMIT:
                wrong.append(name)

    threads = [threading.Thread(target=use, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert handle.active == Stack(REF, "other")


def test_a_text_longer_than_the_model_reads_is_named(ready: Adapted) -> None:
    with pytest.warns(HubcliWarning, match="cut to 512 tokens, the most the model reads: text 2$"):
        ready.predict(["short", "good " * 3000])
    with warnings.catch_warnings():
        warnings.simplefilter("error", HubcliWarning)
        ready.predict(["short", "good " * 300])


def test_an_empty_line_keeps_its_row(installed: Path) -> None:
    answer = hubcli("run", REF, "-", "--json", stdin=b"first\n\nthird\n")
    assert [row["text"] for row in answer.document["predictions"]] == ["first", "", "third"]


@pytest.mark.parametrize("damage", ["flipped byte", "missing file"])
def test_row_49_damaged_weights_do_not_answer(home: Path, damage: str) -> None:
    (done,) = hubcli("install", REF, "--json").document["installed"]
    weights = Path(done["path"]) / "adapter_model.safetensors"
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data) if damage == "flipped byte" else weights.unlink()
    answer = hubcli("run", REF, "x", "--json")
    assert answer.code == 4
    assert "--repair" in answer.document["error"]["hint"]
    assert hubcli("verify", "--repair").out.startswith("repaired, now ok: sentiment/bert-lora")
