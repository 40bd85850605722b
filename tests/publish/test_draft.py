"""A folder becomes a draft: what is published of it, what the entry says, and that it can be installed and read by others."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from hubcli import api
from hubcli.errors import HubcliError, PublishError
from hubcli.index.entries import check_entry
from hubcli.manifest import BaseModel
from hubcli.publishing.into_folder import IntoFolder
from tests.publish import drafts
from tests.publish.drafts import BASE_ID, NAME, drafted
from tests.support.adapters import IndexFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """base/, lora/ (its config names the base's id) and here/ (its config names the base's folder)."""
    folder = tmp_path_factory.mktemp("made")
    base = drafts.base(folder / "base")
    drafts.lora(base, folder / "lora")
    drafts.lora(base, folder / "here", stated=None)
    yield folder


@pytest.fixture
def base(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny base, to be had by its id."""
    drafts.cached(made / "base", monkeypatch, made / "cache")
    return made / "base"


def test_a_peft_lora_becomes_a_draft(base: Path, made: Path) -> None:
    found = drafted(made / "lora", repo="acme/reviews")
    assert [file.path for file in found.files] == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    release = found.release
    assert (release.method, release.task, release.license) == ("lora", "text-classification", "mit")
    assert release.base is not None and (release.base.id, release.base.architecture) == (BASE_ID, "BertModel")
    assert release.base.weights_sha256 and release.base.revision == drafts.COMMIT
    assert release.head is not None and release.head.modules == ("classifier",)
    document = found.entry(found.published("acme/reviews", "a" * 40, "2026-01-02T03:04:05Z")).to_json()
    checked = check_entry(json.dumps(document).encode(), name=NAME, where="entry")
    assert checked.faults == () == checked.unknown


def test_the_same_folder_gives_the_same_bytes(base: Path, made: Path) -> None:
    assert drafted(made / "lora") == drafted(made / "lora")


def test_what_is_out_keeps_its_base_though_that_goes_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts.cached(made / "base", monkeypatch, tmp_path / "cache")
    first = drafted(made / "lora")
    repo = tmp_path / "cache" / f"models--{BASE_ID.replace('/', '--')}"
    shutil.copytree(repo / "snapshots" / drafts.COMMIT, repo / "snapshots" / ("d" * 40))
    (repo / "refs" / "main").write_text("d" * 40)
    moved = drafted(made / "lora").release.base
    assert moved is not None and moved.revision == "d" * 40, "the next release stands on what is there by then"
    assert drafted(made / "lora", released=first.release.base) == first
    other = BaseModel(BASE_ID, drafts.COMMIT, weights_sha256="0" * 64)
    with pytest.raises(PublishError) as refused:
        drafted(made / "lora", released=other)
    assert refused.value.id == "E_BASE_MISMATCH", "what it names is compared all the same"


def test_a_folder_of_this_machine_is_no_base(made: Path, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="the id of a model on a hub, found a folder") as error:
        drafted(made / "here")
    assert "base (--base)" in (error.value.hint or "")
    found = drafted(made / "here", base=BASE_ID)
    folder = drafts.written(found, tmp_path / "out")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE_ID
    assert not [file for file in folder.iterdir() if str(made).encode() in file.read_bytes()]


def test_peft_reads_the_drafted_folder(base: Path, made: Path, tmp_path: Path) -> None:
    folder = drafts.written(drafted(made / "here", base=BASE_ID), tmp_path / "out")
    inputs = {"input_ids": torch.tensor([[1, 8, 9, 2]])}
    logits = []
    for place in (made / "here", folder):
        torch.manual_seed(0)
        bare = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        logits.append(PeftModel.from_pretrained(bare, place).eval()(**inputs).logits)
    assert torch.equal(*logits)


def test_what_is_drafted_installs_and_answers(base: Path, made: Path, tmp_path: Path) -> None:
    index = drafts.indexed(drafted(made / "lora"), tmp_path / "index")
    api.index_add("drafts", str(index))
    done = api.install(f"drafts:{NAME}")
    assert not done["failed"] and done["installed"][0]["name"] == NAME
    texts = ["a good film", "a bad book"]
    answers = [api.load_adapter(ref).predict(texts) for ref in (f"drafts:{NAME}", str(made / "lora"))]
    assert [(a.label, a.score) for a in answers[0]] == [(a.label, a.score) for a in answers[1]]


GOLDENS = Path(__file__).parents[1] / "fixtures" / "adapterhub" / "bert"
GOLD_ID = "acme/gold"


@pytest.mark.parametrize("name", ["seq_bn", "par_bn", "phm", "lora", "prefix_tuning", "sst_with_head"])
def test_an_adapter_of_adapterhubs_becomes_a_draft(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PublishError, match="found a pickle") as error:
        drafted(GOLDENS / "adapters" / name, base=GOLD_ID)
    assert error.value.id == "E_FORMAT_UNSAFE" and "hubcli convert" in str(error.value.hint)
    drafts.cached(GOLDENS / "base", monkeypatch, tmp_path / "cache", GOLD_ID)
    api.convert(GOLDENS / "adapters" / name, to="adapterhub", out=tmp_path / "safe")
    for file in (tmp_path / "safe").glob("*_config.json"):
        drafts.edit(file, model_name=GOLD_ID)
    found = drafted(tmp_path / "safe")
    assert found.release.base is not None and found.release.base.id == GOLD_ID
    api.index_add("drafts", str(drafts.indexed(found, tmp_path / "index")))
    handle = api.load_adapter(f"drafts:{NAME}")
    assert handle.active == NAME and handle.adapters[NAME].method == found.release.method


@pytest.mark.parametrize(
    ("method", "config"), [("bottleneck", {"reduction_factor": 4}), ("lora", {"r": 2, "use_dora": True})]
)
def test_an_adapter_in_hubclis_own_format_becomes_a_draft(method: str, config: Any, base: Path, tmp_path: Path) -> None:
    handle = api.adapt(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval())
    handle.add(method, "own", config)
    handle.save("own", tmp_path / "own", "hubcli")
    found = drafted(tmp_path / "own", base=BASE_ID)
    assert json.loads(found.files[2].data or b"")["base"]["id"] == BASE_ID
    assert (found.release.method, found.release.task) == (method, "text-classification")
    api.index_add("drafts", str(drafts.indexed(found, tmp_path / "index")))
    inputs = {"input_ids": torch.tensor([[1, 8, 9, 2]])}
    with torch.no_grad():
        handle.activate("own")
        assert torch.equal(handle(**inputs).logits, api.load_adapter(f"drafts:{NAME}")(**inputs).logits)


def test_a_fusion_requires_what_it_works_over(base: Path, tmp_path: Path) -> None:
    handle = api.adapt(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2).eval())
    index = IndexFolder(tmp_path / "index")
    for name, seed in (("acme/films", 1), ("acme/books", 2)):
        torch.manual_seed(seed)
        handle.add("bottleneck", name, {"reduction_factor": 4}, head=None)
        handle.save(name, tmp_path / name.replace("/", "-"), "hubcli")
        part = drafted(tmp_path / name.replace("/", "-"), name=name, base=BASE_ID, task="text-classification")
        drafts.indexed(part, index.folder)
    handle.add("fusion", "mixed", {"of": ["acme/films", "acme/books"]})
    handle.save("mixed", tmp_path / "mixed", "hubcli")
    options = {"name": "acme/mixed", "base": BASE_ID, "task": "text-classification"}
    with pytest.raises(PublishError, match="requires") as error:
        drafted(tmp_path / "mixed", **options)
    assert error.value.id == "E_NOT_FOUND"
    there = drafted(tmp_path / "mixed", **options, place=IntoFolder(index.folder))
    api.index_add("drafts", str(index.folder))
    found = drafted(tmp_path / "mixed", **options)
    assert found == there, "the index it goes to is asked, configured or not"
    with pytest.raises(PublishError, match="no version \\^9"):
        drafted(tmp_path / "mixed", **options, requires={"acme/films": "^9", "acme/books": "^1"})
    for names in (["acme/films"], ["acme/films", "acme/mixed"], ["acme/films", "acme/books", "acme/mixed"]):
        with pytest.raises(PublishError, match="expected 2, for acme/films, acme/books, found"):
            drafted(tmp_path / "mixed", **options, requires=dict.fromkeys(names, "^1"))
    turned = drafted(tmp_path / "mixed", **options, requires={"acme/books": "^1", "acme/films": "^1"})
    assert [*turned.release.requires] == ["acme/films", "acme/books"], "as it was trained over them"
    assert found.kind == "fusion" and found.release.requires == {"acme/films": "^1.0.0", "acme/books": "^1.0.0"}
    drafts.indexed(found, index.folder)
    done = api.install("drafts:acme/mixed")
    assert not done["failed"] and {row["name"] for row in done["installed"]} == {
        "acme/mixed",
        "acme/films",
        "acme/books",
    }
    (code,) = re.findall(r"```python\n(.*?)```", (found.files[0].data or b"").decode(), re.DOTALL)
    exec(compile(code, "card", "exec"), {})


FIELDS = {
    "adapter_config.json": ("base_model_name_or_path", "revision", "task_type", "modules_to_save", "peft_type", "target_modules", "r"),
    "manifest.json": ("base", "method", "config", "heads", "labels", "added_head", "origin", "others", "task", "kind"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "key"), [(file, key) for file, keys in FIELDS.items() for key in keys])
def test_a_config_that_anyone_may_have_written(file: str, key: str, base: Path, made: Path, tmp_path: Path) -> None:
    if file == "manifest.json":
        handle = api.adapt(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2))
        handle.add("bottleneck", "own", {"reduction_factor": 4})
        handle.save("own", tmp_path / "one", "hubcli")
    else:
        shutil.copytree(made / "lora", tmp_path / "one")
    before = (tmp_path / "one" / file).read_text()
    for value in (
        7,
        "",
        "x",
        [],
        [[]],
        {"a": [1]},
        {"id": 3},
        {"id": BASE_ID, "revision": 4},
        True,
        "\u202e",
        "/home/ann/x",
    ):
        (tmp_path / "one" / file).write_text(before)
        drafts.edit(tmp_path / "one" / file, **{key: value})
        with contextlib.suppress(HubcliError):
            found = drafted(tmp_path / "one", **({"base": BASE_ID} if file == "manifest.json" else {}))
            assert found.release.base is not None and found.release.base.id == BASE_ID
