"""torch.export: every method in every block as one file that runs without hubcli and gives the hooked model's outputs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file
from torch import Tensor

from hubcli.adapted import Adapted, adapt
from hubcli.composition import Average, Parallel, Stack
from hubcli.exports import pt2

from .exported import BLOCKS, FIXED, of_bert, randomised, run_apart, shapes_of, texts, with_two, written
from .methods import KNOWN
from .models import FAMILIES, apart, inputs_of, model_of

pytestmark = pytest.mark.filterwarnings("ignore")
FIXTURES = Path(__file__).parents[1] / "fixtures" / "adapterhub" / "bert"
LIMIT = 1e-5
CASES = [(method, block) for method in KNOWN for block in BLOCKS if (method, block) != ("prefix", "fuse")]
FAST = {("lora", "stack"), ("bottleneck", "batchsplit"), ("prefix", "average")}


def marked(cases: list[tuple[str, str]]) -> list[Any]:
    return [pytest.param(*case, marks=[] if case in FAST else [pytest.mark.slow]) for case in cases]


def hooked(handle: Adapted, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        out = handle(**inputs).logits
    return {f"logits_{i}": part for i, part in enumerate(out)} if isinstance(out, list) else {"logits": out}


@pytest.mark.parametrize(("method", "block"), marked(CASES))
def test_a_file_gives_the_hooked_outputs_at_other_sizes(method: str, block: str, tmp_path: Path) -> None:
    handle, file = of_bert(method, block), tmp_path / "made.pt2"
    bare = handle.model(**texts(3, 7)).logits.detach()
    handle.activate(BLOCKS[block])
    report = written(handle, "pt2", file)
    rows, length = FIXED.get(block, (None, None))
    assert report["inputs"][0]["axes"] == [rows or "batch", length or "sequence"]
    assert report["size"] == file.stat().st_size and report["difference"] <= LIMIT
    program = pt2.opened(file)
    for shape in shapes_of(block):
        inputs = texts(*shape)
        expected, found = hooked(handle, inputs), program(inputs)
        assert set(expected) == set(found) == {output["name"] for output in report["outputs"]}
        assert max(apart(expected[name], found[name]) for name in expected) <= LIMIT
    assert apart(next(iter(program(texts(3, 7)).values())), bare) > 1e-3, "the composition has no effect"


FAMILY_CASES = [
    (family, method)
    for family in FAMILIES
    for method in ("lora", "prefix", "bitfit")
    if (family, method) not in {("llama", "bitfit"), ("t5", "bitfit")}
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), FAMILY_CASES)
def test_other_families(family: str, method: str, tmp_path: Path) -> None:
    config = {"r": 2, "target_modules": FAMILIES[family][3]} if method == "lora" else KNOWN[method].config
    handle = with_two(model_of(family, torch.float32), config, method)
    handle.activate(Stack("a", "b"))
    report = written(handle, "pt2", tmp_path / "made.pt2")
    program = pt2.opened(tmp_path / "made.pt2")
    for rows, length in ((1, 3), (4, 11)):
        given = {k: v.float() if v.is_floating_point() else v for k, v in inputs_of(family, rows, length).items()}
        if "token_type_ids" in [value["name"] for value in report["inputs"]]:
            given["token_type_ids"] = torch.zeros_like(given["input_ids"])
        assert apart(program(given)["logits"], hooked(handle, given)["logits"]) <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama"])
def test_a_prefix_that_moves_positions(family: str, tmp_path: Path) -> None:
    """peft's prefixes count as tokens before the text: so many positions fewer are left."""
    from peft import PrefixTuningConfig, get_peft_model

    base = model_of(family, torch.float32)
    torch.manual_seed(1)
    config = PrefixTuningConfig(task_type=FAMILIES[family][2], num_virtual_tokens=3)
    get_peft_model(copy.deepcopy(base), config).save_pretrained(tmp_path / "p")
    handle = adapt(base)
    handle.load(tmp_path / "p", "a")
    handle.activate("a")
    names = [value["name"] for value in written(handle, "pt2", tmp_path / "made.pt2")["inputs"]]
    program = pt2.opened(tmp_path / "made.pt2")
    for shape in ((1, 3), (4, 29)):
        given = {name: tensor for name, tensor in texts(*shape).items() if name in names}
        assert apart(program(given)["logits"], hooked(handle, given)["logits"]) <= LIMIT


@pytest.mark.slow
def test_methods_mixed_under_rows_and_a_process_without_hubcli(tmp_path: Path) -> None:
    handle = adapt(model_of("bert", torch.float32))
    for name, method in zip("abcd", KNOWN, strict=True):
        handle.add(method, name, KNOWN[method].config, head="auto" if name in "ab" else None)
    randomised(handle, *"abcd")
    handle.activate(rows=[Stack("a", "b"), "c", None, Average("a", "d"), "d"])
    report = written(handle, "pt2", tmp_path / "made.pt2")
    assert report["inputs"][0]["axes"] == [5, "sequence"] and "mix" not in report["expression"]
    inputs = [texts(5, 4), texts(5, 13)]
    for given, found in zip(inputs, run_apart(tmp_path / "made.pt2", tmp_path, inputs), strict=True):
        assert apart(found["logits"], hooked(handle, given)["logits"]) <= LIMIT


@pytest.mark.slow
def test_heads_of_other_widths_answer_beside_each_other(tmp_path: Path) -> None:
    """AdapterHub's added heads: three labels and the model's own two, a list under Parallel."""
    base = tf.BertForSequenceClassification.from_pretrained(FIXTURES / "base").eval()
    handle = adapt(base)
    handle.load(FIXTURES / "adapters" / "sst_with_head", "sst")
    handle.add("lora", "own", {"r": 2, "target_modules": ["query"]}, head="auto")
    randomised(handle, "own")
    given = load_file(FIXTURES / "inputs.safetensors")
    given["token_type_ids"] = torch.zeros_like(given["input_ids"])
    for expr, labels in ((Parallel("sst", "own"), [3, 2]), ("sst", [3])):
        handle.activate(expr)
        report = written(handle, "pt2", tmp_path / "made.pt2", force=True)
        assert [len(output["labels"]) for output in report["outputs"]] == labels
        assert report["outputs"][0]["labels"] == ["negative", "neutral", "positive"]
        found = pt2.opened(tmp_path / "made.pt2")(given)
        assert all(apart(tensor, found[name]) <= LIMIT for name, tensor in hooked(handle, given).items())


@pytest.mark.slow
def test_a_head_that_reads_the_pooler_or_every_token(tmp_path: Path) -> None:
    handle = adapt(tf.BertModel.from_pretrained(FIXTURES / "base").eval())
    for name in ("tag", "span", "multi"):
        handle.load(FIXTURES / "adapters" / name, name)
        handle.activate(name)
        report = written(handle, "pt2", tmp_path / f"{name}.pt2")
        assert report["difference"] <= LIMIT and "logits" in {output["name"] for output in report["outputs"]}


def test_a_file_holds_what_is_used_and_no_path(tmp_path: Path) -> None:
    handle, used, unused = of_bert("lora"), [], []
    handle.activate("a")
    written(handle, "pt2", tmp_path / "made.pt2")
    for name, kept in (("a", used), ("b", unused), ("c", unused)):
        adapter = handle.engine.adapters[name]
        kept += [tensor.detach().numpy().tobytes() for tensors in adapter.sites.values() for tensor in tensors.values()]
    data = (tmp_path / "made.pt2").read_bytes()
    assert all(weights in data for weights in used)
    assert not any(weights in data for weights in unused)
    for text in (str(Path(tf.__file__).parent), str(Path.cwd()), str(tmp_path), ".py", "hubcli"):
        assert text.encode() not in data, text


@pytest.mark.slow
@pytest.mark.parametrize("method", KNOWN)
def test_what_is_fused_is_exported_as_it_is(method: str, tmp_path: Path) -> None:
    """After `fuse` the model has no hook; the file is that of an ordinary model."""
    handle = of_bert(method)
    handle.activate(Stack("a", "b"))
    expected = hooked(handle, texts(2, 9))["logits"]
    handle.fuse()
    report = written(handle, "pt2", tmp_path / "made.pt2")
    assert report["expression"] == "stack(a, b)"
    assert apart(pt2.opened(tmp_path / "made.pt2")(texts(2, 9))["logits"], expected) <= LIMIT
    handle.unfuse()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    handle = with_two(model_of("bert", dtype), KNOWN["lora"].config, "lora")
    handle.activate("a")
    report = written(handle, "pt2", tmp_path / "made.pt2")
    assert report["outputs"][0]["dtype"] == str(dtype).removeprefix("torch.")
    assert report["difference"] <= {torch.float64: 1e-12}.get(dtype, 1e-2)


@pytest.mark.slow
def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    handle = of_bert("lora")
    handle.activate("a")
    handle.model.train()
    before, hooks = hooked_eval(handle), len(handle.engine.live)
    written(handle, "pt2", tmp_path / "made.pt2")
    assert handle.model.training and len(handle.engine.live) == hooks and not handle.engine.entrance.running
    assert torch.equal(before, hooked_eval(handle))


def hooked_eval(handle: Adapted) -> Tensor:
    training = handle.model.training
    handle.model.eval()
    found = hooked(handle, texts(2, 5))["logits"]
    handle.model.train(training)
    return found
