"""A folder becomes a draft: what is published of it, what the entry says, and that it can be installed and read by others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from hubcli import api
from hubcli.errors import PublishError
from hubcli.index.entries import check_entry
from tests.publish import drafts
from tests.publish.drafts import BASE_ID, NAME, drafted


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


def test_a_folder_of_this_machine_is_no_base(made: Path, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="the id of a model on a hub, found a folder") as error:
        drafted(made / "here")
    assert "base=" in (error.value.hint or "")
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
