"""An adapter with a tokenizer of its own, on a real base whose own reads texts otherwise."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hubcli import Average, BatchSplit, Parallel, Stack, adapt, install, load_adapter
from hubcli.adapted import Adapted
from hubcli.api import convert, fuse, index_add, merge, verify
from hubcli.bases import load_base
from hubcli.errors import AdapterError, EntryError, HubcliError, UnsupportedError
from hubcli.manifest import BaseModel
from hubcli.method import HubcliWarning
from hubcli.packaged_bases import hubcli_find_base_model
from tests.support.adapters import IndexFolder, entry, release
from tests.support.cli import hubcli

pytestmark = pytest.mark.filterwarnings("ignore")
REACTIONS = "rxnmapper/albert_heads_8_uspto_all_1310k"
GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "smiles" / "tokens.json").read_text("utf-8"))["texts"]
TEXTS = [text for text, _ in GOLDEN[:40]]
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the SMILES tokenizer, and a home whose base reads letters instead; adapters a, b without a tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBCLI_HOME", str(folder / "home"))
        base = hubcli_find_base_model(REACTIONS, None)
        assert base is not None
        (folder / "tokenizer").mkdir()
        for name in FILES:
            shutil.copyfile(base / name, folder / "tokenizer" / name)
        letters(base)
        for seed, name in enumerate("ab"):
            trained(seed, name, folder / name)
    yield folder


def letters(folder: Path) -> None:
    """Another tokenizer with the same special tokens: one token a letter."""
    said = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = {**{t: i for t, i in said["model"]["vocab"].items() if i < 15}, **{chr(33 + i): 15 + i for i in range(90)}}
    other = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    other.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    other.save(str(folder / "tokenizer.json"))


def trained(seed: int, name: str, folder: Path) -> None:
    """An adapter with numbers in it, and a head of two classes."""
    model, tokenizer, own = load_base(BaseModel(REACTIONS), "text-classification", ("no", "yes"))
    handle = adapt(model, tokenizer=tokenizer)
    handle.base = own
    torch.manual_seed(seed)
    handle.add("lora", name, {"r": 2, "target_modules": ["query", "value"]})
    with torch.no_grad():
        for parameter in handle.trainable(name):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    handle.save(name, folder)


@pytest.fixture
def folders(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Adapters of one test's own: a and b with the SMILES tokenizer, `plain` (b) without one, `other` (a) with the letters."""
    monkeypatch.setenv("HUBCLI_HOME", str(made / "home"))
    found = {"a": made / "a", "b": made / "b", "plain": made / "b", "other": made / "a"}
    for name, source in found.items():
        shutil.copytree(source, tmp_path / name)
        if name in ("a", "b"):
            shutil.copytree(made / "tokenizer", tmp_path / name, dirs_exist_ok=True)
    base = hubcli_find_base_model(REACTIONS, None)
    assert base is not None
    for name in FILES:
        shutil.copyfile(base / name, tmp_path / "other" / name)
    return {name: tmp_path / name for name in found}


def scores(handle: Adapted, texts: list[str]) -> list[tuple[str, float]]:
    """What the model says of the ids that rxnmapper's own class made, one text at a time."""
    found = []
    for ids in (dict(GOLDEN)[text] for text in texts):
        with torch.no_grad():
            p = handle.model(input_ids=torch.tensor([ids])).logits[0].softmax(-1)
        found.append((("no", "yes")[int(p.argmax())], float(p.max())))
    return found


def agree(handle: Adapted, texts: list[str]) -> None:
    expected = scores(handle, texts)
    answers = handle.predict(texts)
    assert [answer.label for answer in answers] == [label for label, _ in expected]
    assert max(abs(answer.score - score) for answer, (_, score) in zip(answers, expected, strict=True)) < 1e-5
    piped = handle.pipeline()(texts)
    assert max(abs(row["score"] - score) for row, (_, score) in zip(piped, expected, strict=True)) < 1e-5


def ids_of(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text, _ in GOLDEN]


def test_a_folder_answers_with_its_own(folders: dict[str, Path]) -> None:
    handle = load_adapter(str(folders["a"]))
    assert ids_of(handle.tokenizer) == [ids for _, ids in GOLDEN] != ids_of(handle.base_tokenizer)
    assert (handle.tokenizer.model_max_length, handle.tokenizer.pad_token_id) == (512, 0)
    agree(handle, TEXTS)
    with handle.using(None):
        assert handle.tokenizer is handle.base_tokenizer, "the bare base reads as the base does"
    row = json.loads(hubcli("run", str(folders["a"]), TEXTS[0], "--json").out)["predictions"][0]
    label, score = scores(handle, TEXTS[:1])[0]
    assert row["label"] == label and abs(row["score"] - score) < 1e-5


def test_an_index_entry_brings_it(folders: dict[str, Path], tmp_path: Path, home: Path, made: Path) -> None:
    shutil.copytree(made / "home" / "cache", home / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBCLI_HOME", str(home))
        files = {path.name: path.read_bytes() for path in folders["a"].iterdir()}
        document = release(files, base={"id": REACTIONS}, task="text-classification", method_config={},
                           head={"labels": ["no", "yes"], "modules": ["classifier"]})  # fmt: skip
        for file in document["files"]:
            roles = {**dict.fromkeys(FILES, "tokenizer"), "labels.json": "config"}
            file["role"] = roles.get(file["path"], file["role"])
        index = IndexFolder(tmp_path / "index")
        index.put(files)
        index.write("chem/likely", entry("chem/likely", [document]))
        index_add("acme", str(index.folder))
        row = install("chem/likely")["installed"][0]
        assert {Path(row["path"], name).read_bytes() for name in FILES} == {files[name] for name in FILES}
        assert {file["sha256"] for file in row["files"]} >= {hashlib.sha256(files[name]).hexdigest() for name in FILES}
        assert verify("chem/likely")["ok"]
        handle = load_adapter("chem/likely")
        assert ids_of(handle.tokenizer) == [ids for _, ids in GOLDEN]
        agree(handle, TEXTS[:8])


def test_on_the_persons_own_model(folders: dict[str, Path]) -> None:
    model, letters, _ = load_base(BaseModel(REACTIONS), "text-classification", ("no", "yes"))
    handle = load_adapter(str(folders["a"]), model)
    assert ids_of(handle.tokenizer) == [ids for _, ids in GOLDEN]
    assert adapt(model, tokenizer=letters) is handle and ids_of(handle.tokenizer) == [ids for _, ids in GOLDEN]
    handle.activate(None)
    assert handle.tokenizer is letters


@pytest.mark.parametrize("block", [Stack, Average, Parallel, lambda a, b: BatchSplit(a, b, sizes=[1, 1])])
def test_children_that_agree(block: Any, folders: dict[str, Path]) -> None:
    config = folders["b"] / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "padding_side": "left"}))
    tokenizer = Tokenizer.from_file(str(folders["b"] / "tokenizer.json"))
    tokenizer.enable_truncation(8)  # as a training leaves it behind
    tokenizer.save(str(folders["b"] / "tokenizer.json"))
    handle = load_adapter(block(str(folders["a"]), str(folders["b"])))
    assert ids_of(handle.tokenizer) == [ids for _, ids in GOLDEN]
    alone = load_adapter(str(folders["b"]))
    assert ids_of(alone.tokenizer) == [ids for _, ids in GOLDEN], "what a training cut at is no matter of the tokenizer"


REFUSED = {
    "two that differ": (("a", "other"), "'a' and 'other' bring different tokenizers"),
    "one and the base's": (
        ("a", "plain"),
        "'a' brings a tokenizer of its own, and 'plain' was trained with the base's",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_children_that_differ_are_named(case: str, folders: dict[str, Path], tmp_path: Path) -> None:
    names, message = REFUSED[case]
    expr = Average(*(str(folders[name]) for name in names))
    with pytest.raises(UnsupportedError, match=message):
        load_adapter(expr)
    with pytest.raises(UnsupportedError, match=message):
        merge(expr, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    handle = load_adapter(str(folders[names[0]]))
    handle.load(folders[names[1]])
    with handle.using(Average(*names)), pytest.raises(UnsupportedError, match=message):
        handle.predict(TEXTS[:1])
    agree(handle, TEXTS[:2])


def test_the_bases_own_beside_none(folders: dict[str, Path]) -> None:
    handle = load_adapter(Average(str(folders["other"]), str(folders["plain"])))
    assert handle.tokenizer is handle.base_tokenizer


def test_it_goes_where_the_adapter_goes(folders: dict[str, Path], tmp_path: Path) -> None:
    own = {name: (folders["a"] / name).read_bytes() for name in FILES}
    handle = load_adapter(str(folders["a"]))
    saved = handle.save("a", tmp_path / "saved", "hubcli")
    merge(Average(str(folders["a"]), str(folders["b"])), tmp_path / "merged", how="svd", rank=4)
    convert(str(folders["a"]), to="hubcli", out=tmp_path / "converted")
    for folder in (saved, tmp_path / "merged", tmp_path / "converted"):
        assert {name: (folder / name).read_bytes() for name in FILES} == own
        agree(load_adapter(str(folder)), TEXTS[:2])
    fuse(str(folders["a"]), tmp_path / "fused")
    assert ids_of(AutoTokenizer.from_pretrained(tmp_path / "fused")) == [ids for _, ids in GOLDEN]
    handle.load(folders["plain"])
    assert not list(handle.save("plain", tmp_path / "without").glob("*token*"))


def test_a_tokenizer_that_is_given_is_saved(folders: dict[str, Path], made: Path, tmp_path: Path) -> None:
    given = AutoTokenizer.from_pretrained(made / "tokenizer")
    given(TEXTS, truncation=True, max_length=4)
    given.chat_template = "{{ messages[0].content }}"
    handle = load_adapter(str(folders["plain"]))
    handle.save("plain", tmp_path / "with", tokenizer=given)
    assert len(Tokenizer.from_file(str(tmp_path / "with" / "tokenizer.json")).encode(TEXTS[0]).ids) > 4, (
        "it cuts nothing"
    )
    again = load_adapter(str(tmp_path / "with"))
    assert ids_of(again.tokenizer) == [ids for _, ids in GOLDEN]
    plain = PreTrainedTokenizerFast.from_pretrained(tmp_path / "with")
    assert ids_of(plain) == [ids for _, ids in GOLDEN] and plain.model_max_length == 512
    agree(again, TEXTS[:2])
    assert again.tokenizer.apply_chat_template([{"role": "user", "content": "CC"}], tokenize=False) == "CC"
    given.save_pretrained(tmp_path / "with")  # transformers' way: the template in a file of its own
    assert load_adapter(str(tmp_path / "with")).tokenizer.chat_template == given.chat_template
    with pytest.raises(UnsupportedError, match=r"a str can't be written as tokenizer\.json"):
        handle.save("plain", tmp_path / "no", tokenizer="[UNK]")


ENDLESS = int(1e30)  # what transformers says where nothing limits a text; 31 digits


def test_one_that_reads_texts_of_any_length(folders: dict[str, Path], made: Path, tmp_path: Path) -> None:
    changed(folders["a"] / "tokenizer_config.json", model_max_length=ENDLESS)
    handle = load_adapter(str(folders["a"]))
    assert handle.tokenizer.model_max_length == ENDLESS
    agree(handle, TEXTS[:2])
    given = AutoTokenizer.from_pretrained(made / "tokenizer", model_max_length=ENDLESS)
    handle.save("a", tmp_path / "with", tokenizer=given)
    assert "model_max_length" not in json.loads((tmp_path / "with" / "tokenizer_config.json").read_text("utf-8"))
    assert load_adapter(str(tmp_path / "with")).tokenizer.model_max_length == ENDLESS


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **values}), encoding="utf-8")


BAD: dict[str, tuple[type[HubcliError], str, str, dict[str, Any]]] = {
    "no tokenizer": (AdapterError, r"tokenizer\.json can't be read", "tokenizer.json", {"model": {"type": "none"}}),
    "a token it has not": (AdapterError, "pad_token is no token of its", "tokenizer_config.json", {"pad_token": "<nil>"}),
    "a side that is none": (AdapterError, "padding_side: unexpected 'up'", "tokenizer_config.json", {"padding_side": "up"}),
    "a number of a book": (EntryError, "at most 40 digits", "tokenizer_config.json", {"model_max_length": 10**41}),
    "more tokens than places": (
        UnsupportedError,
        "its tokenizer has 601 tokens, this model embeds 591",
        "tokenizer.json",
        {"added_tokens": [{"id": 600, "content": "<new>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_that_can_not_be_used_is_refused(case: str, folders: dict[str, Path]) -> None:
    error, message, file, values = BAD[case]
    if case == "more tokens than places":
        vocab = json.loads((folders["a"] / file).read_text("utf-8"))["model"]
        vocab["vocab"]["<new>"] = 600
        changed(folders["a"] / file, model=vocab)
    else:
        changed(folders["a"] / file, **values)
    with pytest.raises(error, match=message):
        load_adapter(str(folders["a"]))


def test_code_in_its_config_is_ignored_and_noted(folders: dict[str, Path]) -> None:
    (folders["a"] / "evil.py").write_text("raise SystemExit('run')\n")
    changed(
        folders["a"] / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="Evil"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", HubcliWarning)
        handle = load_adapter(str(folders["a"]))
    assert any("auto_map is ignored" in note for note in handle.adapters["a"].notes)
    assert ids_of(handle.tokenizer) == [ids for _, ids in GOLDEN]
