"""A chat template in a file of its own, as transformers writes one: published within the tokenizer's config, or said to be lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from hubcli.errors import PublishError
from hubcli.own_tokenizers import brought
from hubcli.publishing.draft import DraftFile
from tests.publish import drafts
from tests.publish.drafts import drafted
from tests.support import trainable

TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}é"
TALK = [{"role": "user", "content": "two hours"}]
FILE, CONFIG = "chat_template.jinja", "tokenizer_config.json"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = drafts.base(tmp_path / "base")
    drafts.cached(base, monkeypatch, tmp_path / "cache")
    return drafts.lora(base, tmp_path / "lora")


@pytest.fixture
def spoken(folder: Path) -> PreTrainedTokenizerFast:
    """The adapter's own tokenizer, as transformers saves it."""
    made = PreTrainedTokenizerFast.from_pretrained(trainable.base(folder.parent / "other", "bert"))
    made.chat_template, made.model_max_length = TEMPLATE, int(1e30)  # as transformers writes "no limit"
    made.save_pretrained(folder)
    assert (folder / FILE).is_file() and "chat_template" not in json.loads((folder / CONFIG).read_text())
    return made


def published(folder: Path, tmp_path: Path) -> tuple[dict[str, DraftFile], Path, list[str]]:
    found = drafted(folder)
    return {file.path: file for file in found.files}, drafts.written(found, tmp_path / "out"), list(found.notes)


@pytest.mark.parametrize("case", ["beside the config", "no config", "another in the config"])
def test_it_reads_as_it_did(folder: Path, tmp_path: Path, spoken: PreTrainedTokenizerFast, case: str) -> None:
    if case == "no config":
        (folder / CONFIG).unlink()
    elif case == "another in the config":
        drafts.edit(folder / CONFIG, chat_template="{{ messages }}")
    files, out, notes = published(folder, tmp_path)
    assert FILE not in files and files[CONFIG].role == "tokenizer"
    before = PreTrainedTokenizerFast.from_pretrained(folder)
    after = PreTrainedTokenizerFast.from_pretrained(out)
    said = after.apply_chat_template(TALK, tokenize=False)
    assert said == before.apply_chat_template(TALK, tokenize=False) == spoken.apply_chat_template(TALK, tokenize=False)
    assert (after.model_max_length, after.pad_token) == (before.model_max_length, before.pad_token)
    own = brought(out, "films", None)
    assert own is not None and own.config["chat_template"] == TEMPLATE
    assert any(note.startswith("changed: ") and FILE in note for note in notes)
    assert not any("leaves behind" in note for note in notes)


def test_a_draft_is_installed_with_it(
    folder: Path, tmp_path: Path, spoken: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubcli import api

    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "home"))
    api.index_add("drafts", str(drafts.indexed(drafted(folder), tmp_path / "index")))
    (done,) = api.install("drafts:acme/reviews")["installed"]
    assert json.loads((Path(done["path"]) / CONFIG).read_text())["chat_template"] == TEMPLATE


def test_without_a_tokenizer_it_is_lost_and_said(folder: Path, tmp_path: Path) -> None:
    (folder / FILE).write_text(TEMPLATE)
    files, _, notes = published(folder, tmp_path)
    assert not {FILE, CONFIG} & files.keys()
    assert any(FILE in note and "lost" in note for note in notes)


@pytest.mark.parametrize(("raw", "id"), [(b"\xff", "E_JSON_TEXT"), (b"x" * (1 << 21), "E_JSON_SIZE")])
def test_what_is_no_text_is_refused(
    folder: Path, tmp_path: Path, spoken: PreTrainedTokenizerFast, raw: bytes, id: str
) -> None:
    (folder / FILE).write_bytes(raw)
    with pytest.raises(PublishError, match=FILE) as refused:
        drafted(folder)
    assert refused.value.id == id
