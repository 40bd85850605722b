"""Heads that adapters bring to a model without a module for them, against AdapterHub's own outputs and the parts run apart."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from hubcli.adapted import adapt
from hubcli.added_heads import loss_of
from hubcli.composition import Average, BatchSplit, Fuse, Parallel, Split, Stack
from hubcli.errors import UnsupportedError

from .goldens import BARE, BERT, GOLDENS, HEADS, INPUTS, LABELS, TEXTS, handle, logits, rival, tokenizer
from .models import apart

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("family", [family for family in BARE if (GOLDENS / family).is_dir()])
def test_logits_are_adapterhubs(family: str) -> None:
    here = GOLDENS / family
    given = adapt(BARE[family].from_pretrained(here / "base").eval())
    name = given.load(here / "adapters" / "sst_with_head")
    inputs, expected = load_file(here / "inputs.safetensors"), load_file(here / "outputs.safetensors")["logits(sst)"]
    assert apart(logits(given, name, **inputs), expected) <= 1e-5
    assert given.adapters[name].added_head == "classification" and given.labels_of(name) == LABELS["sst"]
    with torch.no_grad():
        assert "logits" not in given.model(**inputs)


@pytest.mark.parametrize("name", ["tag", "multi", "span"])
def test_every_kind_and_its_loss_are_adapterhubs(name: str) -> None:
    given = handle(name)
    keys = ("start_positions", "end_positions") if name == "span" else ("labels",)
    with torch.no_grad():
        out = given(**INPUTS, **{key: HEADS[f"{key}({name})"] for key in keys}, expr=name)
    assert apart(out.logits, HEADS[name]) <= 1e-5
    assert apart(out.loss, HEADS[f"loss({name})"][0]) <= 1e-5
    assert given.labels_of(name) == LABELS[name]
    if name == "span":
        assert torch.equal(torch.stack([out.start_logits, out.end_logits], -1), out.logits)


def test_compositions(tmp_path: Path) -> None:
    given = handle("sst", "tag")
    other = rival(given, tmp_path)
    given.add("bitfit", "bare", head=None)
    alone = {name: logits(given, name) for name in ("sst", other)}
    assert apart(*alone.values()) > 0.1
    stack = logits(given, Stack(other, "sst", "bare"))
    with torch.no_grad(), given.using(Stack(other, "sst")):
        states = given.model(**INPUTS)[0][:, 0]
    assert apart(stack, given.engine.adapters["sst"].added(states)) <= 1e-6  # type: ignore[misc]
    mean = logits(given, Average("sst", other, "bare", weights=[0.3, 0.1, 0.6]))
    with torch.no_grad(), given.using(Average("sst", other, "bare", weights=[0.3, 0.1, 0.6])):
        states = given.model(**INPUTS)[0][:, 0]
    parts = [given.engine.adapters[name].added(states) for name in ("sst", other)]  # type: ignore[misc]
    assert apart(mean, parts[0] * 0.75 + parts[1] * 0.25) <= 1e-6
    split = logits(given, BatchSplit("sst", other, sizes=[1, 3]))
    assert apart(split, torch.cat([alone["sst"][:1], alone[other][1:]])) <= 1e-6
    rows = logits(given, rows=[other, "sst", "sst", other])
    assert apart(rows, torch.stack([alone[n][i] for i, n in enumerate([other, "sst", "sst", other])])) <= 1e-6
    side = logits(given, Parallel("sst", Stack("bare", other), "tag", None))
    assert apart(side[0], alone["sst"]) <= 1e-6 and apart(side[1], alone[other]) <= 1e-6
    assert apart(side[2], HEADS["tag"]) <= 1e-5 and side[3] is None


def test_a_split_along_the_sequence(tmp_path: Path) -> None:
    given = handle("sst", "tag")
    other = rival(given, tmp_path)
    heads = {name: given.engine.adapters[name].added for name in (other, "tag")}
    found = logits(given, Split(other, "sst", sizes=[5, 6]))
    with torch.no_grad(), given.using(Split(other, "sst", sizes=[5, 6])):
        first = given.model(**INPUTS)[0][:, 0]
    assert apart(found, heads[other](first)) <= 1e-6  # type: ignore[misc]
    assert apart(logits(given, Split(other, "sst", sizes=[0, 11])), logits(given, "sst")) <= 1e-6
    with torch.no_grad(), given.using(Split("tag", "tag", sizes=[5, 6])):
        states = given.model(**INPUTS)[0]
    tokens = logits(given, Split("tag", "tag", sizes=[5, 6]))
    assert apart(tokens, heads["tag"](states)) <= 1e-6  # type: ignore[misc]
    with pytest.raises(UnsupportedError, match="don't fit into one tensor"):
        logits(given, Split(other, "tag", sizes=[5, 6]))


def test_narrower_heads_are_padded(tmp_path: Path) -> None:
    given = handle("sst")
    two = rival(given, tmp_path, "two", num_labels=2)
    rows = logits(given, rows=["sst", two, "sst", two])
    assert rows.shape == (4, 3) and torch.isinf(rows[[1, 3], 2]).all() and torch.isfinite(rows[[0, 2]]).all()
    assert [part.shape[-1] for part in logits(given, Parallel("sst", two))] == [3, 2]
    assert given.labels_of(two) == ("LABEL_0", "LABEL_1")


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    given = handle("sst", "tag")
    two = rival(given, tmp_path, "two", num_labels=2)
    given.add("bitfit", "bare", head=None)
    for other in ("tag", two):
        with pytest.raises(UnsupportedError, match="different kinds or labels"):
            given.activate(Average("sst", other))
    with pytest.raises(UnsupportedError, match="add up to 0"):
        given.activate(Average("sst", "bare", weights=[0, 1]))
    with pytest.raises(UnsupportedError, match="has no head"):
        logits(given, rows=["sst", "bare", None, "sst"])
    with pytest.raises(UnsupportedError, match="return_dict"):
        given(**INPUTS, return_dict=False, expr="sst")
    with pytest.raises(UnsupportedError, match="no one loss"):
        given(**INPUTS, labels=torch.zeros(4, dtype=torch.long), rows=["sst", "sst", two, two])
    with pytest.raises(UnsupportedError, match="learns from start_positions and end_positions"):
        handle("span")(**INPUTS, labels=torch.zeros(4, dtype=torch.long), expr="span")
    assert given.active is None and not hasattr(given(**INPUTS), "logits")


def test_beside_a_head_of_the_models_own(tmp_path: Path) -> None:
    """The adapter's head answers for the adapter; the model's own for whoever brings none; `model(...)` stays the model's."""
    given = handle("sst", made=tf.BertForSequenceClassification)
    given.add("lora", "low", {"r": 2})
    with torch.no_grad():
        for parameter in given.trainable("low"):
            parameter.add_(torch.randn_like(parameter))
        given.trainable([])
        own, low = given.model(**INPUTS).logits, logits(given, "low")
    expected = load_file(BERT / "outputs.safetensors")["logits(sst)"]
    assert apart(logits(given, "sst"), expected) <= 1e-5 and torch.equal(logits(given), own)
    with torch.no_grad(), given.using("sst"):
        assert given.model(**INPUTS).logits.shape == own.shape
    rows = logits(given, rows=["sst", None, "low", "sst"])
    assert apart(rows[[0, 3]], expected[[0, 3]]) <= 1e-5
    assert apart(rows[1, :2], own[1]) <= 1e-6 and apart(rows[2, :2], low[2]) <= 1e-6 and torch.isinf(rows[1:3, 2]).all()
    assert [part.shape for part in logits(given, Parallel("sst", "low"))] == [(4, 3), (4, 2)]
    assert logits(given, Stack("low", "sst")).shape == (4, 3) and logits(given, Stack("sst", "low")).shape == (4, 2)
    with pytest.raises(UnsupportedError, match="in the model's own head"):
        given.activate(Average("sst", "low"))
    copied = copy.deepcopy(given.model).hubcli_residents.handle
    assert torch.equal(logits(copied, "sst"), logits(given, "sst"))
    given.detach()
    with torch.no_grad():
        assert torch.equal(given.model(**INPUTS).logits, own) and not given.model.bert._forward_hooks


def test_the_last_token_that_is_no_padding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tf.GPT2Config(n_embd=48, n_layer=1, n_head=2, n_positions=16, vocab_size=120, pad_token_id=0)
    given = adapt(tf.GPT2Model(config).eval())
    source = handle("sst").engine.adapters["sst"]
    from hubcli.added_heads import made_head

    tensors = dict(source.added.named_parameters())  # type: ignore[union-attr]
    for name, scale in (("a", 1.0), ("b", -2.0)):
        given.add("bitfit", name, head=None)
        scaled = {key: tensor * scale for key, tensor in tensors.items()}
        given.engine.adapters[name].added = made_head(source.added.config, scaled, given.model, "here")  # type: ignore[union-attr]
    one, other = (given.engine.adapters[name].added for name in "ab")
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0], [5, 0, 0, 0]])
    found = logits(given, "a", input_ids=ids)
    with torch.no_grad():
        states = given.model(ids)[0]
    last = torch.stack([states[0, 3], states[1, 1], states[2, 0]])
    assert apart(found, one(last)) <= 1e-6  # type: ignore[misc]
    split = logits(given, Split("a", "b", sizes=[1, 3]), input_ids=ids)
    assert apart(split, torch.cat([other(last[:2]), one(last[2:])])) <= 1e-6  # type: ignore[misc]


def test_a_fuse_asks_whose_head_answers(tmp_path: Path) -> None:
    given = handle("sst")
    other = rival(given, tmp_path)
    given.add("fusion", "mix", {"of": ["sst", other]}, head=None)
    with pytest.raises(UnsupportedError, match="nothing says whose answers"):
        given.activate(Fuse("sst", other, by="mix"))
    given.head = other
    found = logits(given, Fuse("sst", other, by="mix"))
    with torch.no_grad(), given.using(Fuse("sst", other, by="mix")):
        states = given.model(**INPUTS)[0][:, 0]
    assert apart(found, given.engine.adapters[other].added(states)) <= 1e-6  # type: ignore[misc]
    assert given.labels_of(Fuse("sst", other, by="mix")) == LABELS["sst"]


def test_training_moves_the_head_alone_with_its_adapter() -> None:
    given = handle("sst")
    parameters = given.trainable("sst")
    head = given.engine.adapters["sst"].added
    assert head is not None and all(any(p is q for q in parameters) for p in head.parameters())
    optimizer, first = torch.optim.SGD(parameters, lr=0.5), None
    for _ in range(5):
        loss = given(**INPUTS, labels=torch.tensor([0, 1, 2, 0]), expr="sst").loss
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first * 0.9
    assert all(p.grad is None for n, p in given.model.named_parameters() if "hubcli_residents" not in n)
    assert not any("added" in key for key in given.model.state_dict())
    given.model.to(torch.bfloat16)
    assert logits(given, "sst").dtype == torch.bfloat16


def test_losses_of_numbers() -> None:
    class Regression:
        kind, exclusive, config = "classification", True, {"num_labels": 1}

    given = loss_of(Regression(), torch.tensor([[1.0], [3.0]]), {"labels": torch.tensor([0, 1])}, None)  # type: ignore[arg-type]
    assert given.item() == pytest.approx(2.5)


def test_predictions(tmp_path: Path) -> None:
    given = handle("sst", "multi", "tag")
    given.tokenizer = tokenizer()
    two = rival(given, tmp_path, "two", num_labels=2)
    expected = []
    for name, squash in (("sst", torch.softmax), ("multi", lambda t, _: t.sigmoid()), (two, torch.softmax)):
        for text in TEXTS:
            scores = squash(logits(given, name, **given.tokenizer(text, return_tensors="pt"))[0], -1)
            label = (*LABELS.get(name, ("LABEL_0", "LABEL_1")),)[int(scores.argmax())]
            expected.append((text, label, pytest.approx(float(scores.max()), abs=1e-5)))
    found = given.predict(TEXTS, expr=Parallel("sst", "multi", two), batch_size=2)
    assert [(p.text, p.label, p.score) for p in found] == expected
    mixed = given.predict(TEXTS, rows=["multi", two, "sst"])
    assert [(p.text, p.label, p.score) for p in mixed] == [expected[3], expected[7], expected[2]]
    words = given.predict(TEXTS[0], expr="tag")[0]
    places = logits(given, "tag", **given.tokenizer(TEXTS[0], return_tensors="pt"))[0].argmax(-1)
    labels = [LABELS["tag"][i] for i in places]
    assert [w["entity"] for w in words] == [label for label in labels if label != "O"]
    with pytest.raises(UnsupportedError, match="heads for text-classification and for token-classification"):
        given.predict(TEXTS, rows=["sst", "tag", "sst"])
    with pytest.raises(UnsupportedError, match="no head that predicts"):
        given.predict(TEXTS)
