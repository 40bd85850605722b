"""What stands against publishing. The oracle is the installer: what it refuses a draft refuses too, with the same id."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import HubcliError, PublishError
from hubcli.manifest import Entry
from hubcli.publishing import documents
from tests.publish import drafts
from tests.publish.drafts import BASE_ID, drafted, edit
from tests.support import trainable
from tests.support.adapters import IndexFolder, entry, release, safetensors_bytes

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("made")
    drafts.lora(drafts.base(folder / "base"), folder / "lora")
    yield folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LoRA that nothing stands against; its base can be had by its id."""
    drafts.cached(made / "base", monkeypatch, made / "cache")
    copy = tmp_path / "lora"
    copy.mkdir()
    for file in (made / "lora").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def installed(folder: Path, tmp_path: Path) -> dict[str, Any] | None:
    """The error of installing a folder's files from an index that lists all of them; None where they are installed."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    index = IndexFolder(tmp_path / "index")
    index.put(files)
    base = {"id": BASE_ID, "revision": None, "architecture": None, "weights_sha256": None, "quantization": None}
    document = release(files, base=base, task="text-classification")
    for file in document["files"]:
        file["role"] = "config" if file["path"].endswith(".json") else file["role"]
    index.write("acme/reviews", entry("acme/reviews", [document]))
    api.index_add("tried", str(index.folder))
    try:
        api.install("tried:acme/reviews")
    except HubcliError as error:
        return {"id": error.id}
    return None


def tensors(folder: Path, change: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]) -> None:
    """Rewrite the weights with another header and other bytes."""
    raw = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = change(json.loads(raw[8 : 8 + length]), raw[8 + length :])
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data)


def renamed(header: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    name = next(name for name in header if name != "__metadata__")
    return {**{k: v for k, v in header.items() if k != name}, f"../{name}": header[name]}, data


def raw(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def config(**values: Any) -> Change:
    return lambda folder: edit(folder / CONFIG, **values)


PICKLED = pickle.dumps({"a": 1})
REFUSED: dict[str, tuple[Change, str]] = {
    "pickle-as-weights": (raw(WEIGHTS, PICKLED), "E_FORMAT_UNSAFE"),
    "pickle": (raw("more.bin", PICKLED), "E_FORMAT_UNSAFE"),
    "pickle-pt": (raw("more.pt", PICKLED), "E_FORMAT_UNSAFE"),
    "archive": (raw("more.zip", b"PK\x03\x04"), "E_FORMAT_UNSAFE"),
    "unknown": (raw("more.xyz", b"x"), "E_FORMAT_UNSAFE"),
    "code": (raw("model.py", b"print(1)"), "E_REMOTE_CODE"),
    "notebook": (raw("demo.ipynb", b"{}"), "E_REMOTE_CODE"),
    "program": (raw("run.so", b"\x7fELF"), "E_REMOTE_CODE"),
    "nan": (lambda f: tensors(f, lambda h, d: (h, b"\x00\x00\xc0\x7f" + d[4:])), "E_WEIGHTS_NONFINITE"),
    "infinity": (lambda f: tensors(f, lambda h, d: (h, d[:-4] + b"\x00\x00\x80\xff")), "E_WEIGHTS_NONFINITE"),
    "cut": (lambda f: tensors(f, lambda h, d: (h, d[:-4])), "E_ST_LAYOUT"),
    "longer": (lambda f: tensors(f, lambda h, d: (h, d + b"\0" * 4)), "E_ST_LAYOUT"),
    "name": (lambda f: tensors(f, renamed), "E_ST_NAME"),
    "header": (raw(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), "E_ST_HEADER"),
    "other-shapes": (raw(WEIGHTS, safetensors_bytes({"base_model.model.x.lora_A.weight": (9, 3)}, 1.0)), "E_WEIGHTS"),
    "no-json": (raw(CONFIG, b'{"peft_type": '), "E_JSON_SYNTAX"),
    "duplicate": (raw(CONFIG, b'{"peft_type": "LORA", "peft_type": "LORA"}'), "E_JSON_DUPKEY"),
    "bad-labels": (raw("labels.json", b"{"), "E_JSON_SYNTAX"),
    "card-of-bytes": (raw(CARD, b"\xff\xfe\x00"), "E_FORMAT_UNSAFE"),
    "card-with-nul": (raw(CARD, b"# a\x00b"), "E_FORMAT_UNSAFE"),
    "remote-code": (config(trust_remote_code=True), "E_REMOTE_CODE"),
    "auto-map": (config(auto_map={"AutoModel": "x.y"}), "E_REMOTE_CODE"),
    "parent-library": (config(parent_library="os"), "E_CONFIG_KEY"),
    "megatron": (config(megatron_core="evil.core"), "E_CONFIG_KEY"),
    "pattern": (config(target_modules="((((((a+)+)+)+)+)+)+$"), "E_CONFIG_KEY"),
    "other-tokenizer": (config(tokenizer_name_or_path="evil/tokenizer"), "E_CONFIG_KEY"),
    "other-type": (config(r="8"), "E_CONFIG_KEY"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_install_refuses_is_not_drafted(case: str, folder: Path, tmp_path: Path) -> None:
    change, id = REFUSED[case]
    change(folder)
    assert installed(folder, tmp_path) == {"id": id}
    with pytest.raises(PublishError) as error:
        drafted(folder)
    assert error.value.id == id, error.value


KEPT: dict[str, Change] = {
    "as-it-is": lambda folder: None,
    "auto-mapping": config(auto_mapping={"base_model_class": "BertModel"}),
    "labels": raw("labels.json", b'["bad", "good"]'),
    "licence": raw("LICENSE", b"MIT"),
    "card": raw(CARD, b"# Reviews\n\nSays whether a review is good.\n"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_drafted_is_installed(case: str, folder: Path, tmp_path: Path) -> None:
    KEPT[case](folder)
    index = drafts.indexed(drafted(folder), tmp_path / "index")
    api.index_add("drafts", str(index))
    assert not api.install("drafts:acme/reviews")["failed"]
    assert not api.index_check(index)["faults"]


def test_what_a_training_leaves_is_left_out_and_said(folder: Path) -> None:
    left = ["optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth", "trainer_state.json", ".DS_Store"]
    for name in left:
        (folder / name).write_bytes(PICKLED)
    for name in ("checkpoint-10", ".git", "runs"):
        (folder / name).mkdir()
        (folder / name / "evil.py").write_text("raise SystemExit")
    (folder / "notes.txt").write_text("mine")
    found = drafted(folder)
    assert {file.path for file in found.files} == {CARD, CONFIG, WEIGHTS}
    for name in (*left, "checkpoint-10/", ".git/", "runs/", "notes.txt"):
        assert any(f"left out: {name}" in note for note in found.notes), name


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "linked-card"])
def test_only_plain_files(kind: str, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text("# outside")
    if kind == "link":
        (folder / WEIGHTS).rename(tmp_path / WEIGHTS)
        (folder / WEIGHTS).symlink_to(tmp_path / WEIGHTS)
    elif kind == "linked-card":
        (folder / CARD).symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(folder / "pipe.json")
    else:
        (folder / "other_adapter").mkdir()
    found = {"pipe": "found a device, a pipe", "folder": "found a folder"}.get(kind, "found a link")
    with pytest.raises(PublishError, match=found) as error:
        drafted(folder)
    assert error.value.id == "E_FORMAT_UNSAFE"


BEFORE = {"version": "1.0.0", "license": "mit", "published": "2026-01-02T03:04:05Z"}
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "name-of-one-part": ({"name": "reviews"}, "E_NAME_CHARSET", "group/name"),
    "name-cyrillic": ({"name": "аcme/reviews"}, "E_NAME_CHARSET", r"\\u0430cme"),
    "name-reserved": ({"name": "acme/con"}, "E_NAME_RESERVED", "Windows"),
    "name-long": ({"name": "acme/" + "x" * 65}, "E_NAME_CHARSET", "64"),
    "name-newline": ({"name": "acme/reviews\n"}, "E_NAME_CHARSET", "group/name"),
    "near": ({"known_names": ["acme/other", "acme/revievvs", "acme/rev-iews"]}, "E_NAME_COLLISION", "acme/revievvs"),
    "version": ({"version": "1.0"}, "E_SCHEMA", "SemVer"),
    "version-v": ({"version": "v1.0.0"}, "E_SCHEMA", "SemVer"),
    "version-there": ({"entry": BEFORE}, "E_IMMUTABLE", "beside 1.0.0"),
    "version-twin": ({"entry": BEFORE, "version": "1.0.0+b"}, "E_IMMUTABLE", "build metadata"),
    "licence-none": ({"license": None}, "E_PUBLISH", "expected a licence"),
    "licence-close": ({"license": "Apache 2.0"}, "E_PUBLISH", "as hubs call it"),
    "description": ({"description": ""}, "E_PUBLISH", "description"),
    "description-lines": ({"description": "a\nb"}, "E_SCHEMA", "one line"),
    "description-escape": ({"description": "a\x1b[31mb"}, "E_JSON_TEXT", "entry"),
    "authors": ({"authors": []}, "E_PUBLISH", "authors"),
    "language": ({"language": ["English"]}, "E_SCHEMA", "a language code"),
    "base-other": ({"base": "acme/huge-bert"}, "E_BASE_MISMATCH", "acme/tiny-bert"),
    "base-path": ({"base": "/models/bert"}, "E_PUBLISH", "on a hub"),
    "requires": ({"requires": {"a/b": "^1"}}, "E_PUBLISH", "works alone"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_person_says(case: str, folder: Path) -> None:
    said, id, text = WRONG[case]
    if "entry" in said:
        document = {**entry("acme/reviews", []), "releases": [said["entry"]]}
        said = {**said, "entry": Entry.from_json(document)}
    with pytest.raises(PublishError, match=text) as error:
        drafted(folder, **said)
    assert error.value.id == id, error.value


def test_a_licence_that_is_nearly_one(folder: Path) -> None:
    with pytest.raises(PublishError) as error:
        drafted(folder, license="Apache 2.0")
    assert error.value.hint == "did you mean 'apache-2.0'?"


def test_everything_is_said_at_once(folder: Path) -> None:
    (folder / "evil.py").write_text("")
    (folder / "more.pt").write_bytes(PICKLED)
    with pytest.raises(PublishError) as error:
        drafted(folder, name="acme/con", version="1", license="mitt", description=None, authors=())
    said = "\n".join(error.value.findings)
    for word in ("evil.py", "more.pt", "acme/con", "SemVer", "mitt", "description", "authors"):
        assert word in said, word
    assert error.value.message.count("things stand against it") == 1 and "did you mean 'mit'" in str(error.value.hint)


def test_the_base_has_to_be_there_and_the_one(folder: Path, made: Path) -> None:
    edit(folder / CONFIG, base_model_name_or_path="acme/nowhere")
    with pytest.raises(PublishError) as error:
        drafted(folder)
    assert error.value.id == "E_OFFLINE"
    found = drafted(folder, allow_unchecked_base=True)
    assert any("the base was not looked at" in note for note in found.notes)


def test_tensors_that_fit_another_base(folder: Path) -> None:
    edit(folder / CONFIG, target_modules=["query", "value", "key"])
    with pytest.raises(PublishError, match="the base does not fit"):
        drafted(folder)


def test_weights_other_than_those_it_was_made_on(folder: Path, made: Path, tmp_path: Path) -> None:
    other = trainable.base(tmp_path / "other", "bert", seed=5)
    edit(folder / CONFIG, base_model_name_or_path=str(other))
    with pytest.raises(PublishError) as error:
        drafted(folder, base=BASE_ID)
    assert error.value.id == "E_BASE_MISMATCH"


PLACES: dict[str, Change] = {
    "config": lambda folder: edit(folder / CONFIG, eva_config={"path": str(folder)}),
    "card": lambda folder: (folder / CARD).write_text(f"# x\n\nmade in {folder}\n"),
    "home": lambda folder: (folder / CARD).write_text(f"# x\n\nmade in {Path.home()}/models\n"),
    "weights": lambda folder: tensors(
        folder, lambda h, d: ({**h, "__metadata__": {"format": "pt", "trained_on": f"{Path.home()}/secret.csv"}}, d)
    ),
    "weights-json": lambda folder: tensors(
        folder, lambda h, d: ({**h, "__metadata__": {"args": json.dumps({"data": "/home/ann/x"})}}, d)
    ),
    "labels": lambda folder: (folder / "labels.json").write_text(json.dumps(["/home/ann/x", "b"])),
}


@pytest.mark.parametrize("case", PLACES)
def test_nothing_of_this_machine_goes_out(case: str, folder: Path) -> None:
    PLACES[case](folder)
    with pytest.raises(PublishError, match=r"nothing of this machine|refuses it"):
        drafted(folder)


NAMED: dict[str, tuple[str, str, bool]] = {
    "an address": ("/spam", "Code: https://github.com/acme/spam", False),
    "an address, further": ("/spam", "Code: https://github.com/acme/spam/tree", False),
    "a longer name": ("/data", "see /datasets/imdb and /data-2 and /data.csv", False),
    "a path of others": ("/model", "[base](https://hf.co/model) and ./model and ~/model", False),
    "itself": ("/spam", "made in /spam.", True),
    "a quote": ("/spam", 'cd "/spam"', True),
    "an option": ("/spam", "--out=/spam/x", True),
    "a link": ("/spam", "[x](/spam/x)", True),
    "a table": ("/spam", "|/spam|", True),
    "a file's address": ("/spam", "file:///spam/x", True),
    "a list of paths": ("/spam", "PATH=/bin:/spam", True),
    "home": ("/home/j\u00fcrgen/", "from /home/j\u00fcrgen/data", True),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_folder_is_named_where_a_path_begins_and_ends(case: str) -> None:
    place, text, named = NAMED[case]
    assert bool([*documents.leaks("README.md", text, {place: "the folder itself"})]) == named
    escaped = documents.texts(json.loads(json.dumps({"x": [text]})))
    assert bool([*documents.leaks("x.json", "\n".join(escaped), {place: "the folder itself"})]) == named


def test_a_vocabulary_is_no_list_of_places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "places", lambda folder: {"/data": "the folder itself", "/home/ann/": "home"})
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"/data": 1, "film": 2}}}))
    assert "tokenizer.json" in [file.path for file in drafted(folder).files]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"file": "/home/ann/vocab"}}))
    with pytest.raises(PublishError, match="nothing of this machine"):
        drafted(folder)
