"""Files that are something else: pickles, headers, weights, configs and code (rows 18 to 25)."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubcli import api, pickles
from hubcli.cli.adapters import install as install_command
from tests.store.samples import safetensors
from tests.store.test_safetensors import BAD, LENIENT
from tests.support.adapters import IndexFolder, lora_files
from tests.support.hub_server import LiveHub
from tests.threats.doors import Door, Outcome, threat
from tests.threats.payloads import FILES, WEIGHTS
from tests.threats.pickles import NAMES, payload

Refused = Callable[..., Outcome]
CONFIG = "adapter_config.json"


class Canary:
    """Unpickling this makes a file."""

    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


def zipped(prefix: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Canary()))
    return prefix + buffer.getvalue()


DISGUISED = {
    "pickle 4": pickle.dumps(Canary(), 4),
    "pickle 0": pickle.dumps(Canary(), 0),
    "truncated pickle": pickle.dumps(Canary(), 4)[:20],
    "zip": zipped(),
    "zip with a prefix": zipped(b"\0" * 40),
    "zip behind tensors": zipped(FILES[WEIGHTS]),
    "zip inside a tensor": safetensors({"a": ("U8", [len(zipped())], zipped())}),
    "7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 40,
    "numpy object": b"\x93NUMPY\x01\x00" + b"\0" * 40,
}


@threat(18, DISGUISED)
def test_a_pickle_called_safetensors(door: Door, case: bytes, index: IndexFolder, refused: Refused) -> None:
    index.add("acme/demo", files=FILES | {WEIGHTS: case})
    refused(door, "E_FORMAT_UNSAFE", 6, "install", "acme/demo")
    assert not Path("canary").exists()


@threat(18, [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".joblib", ".npy"])
def test_a_format_on_no_list(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    """By its name alone, whatever it holds: nothing is fetched."""
    index.add("acme/demo", files=FILES | {f"more{case}": b"harmless"})
    refused(door, "E_FORMAT_UNSAFE", 6, "install", "acme/demo")


def on_hub(folder: Path, files: dict[str, bytes]) -> LiveHub:
    """A hub with the repository acme/demo."""
    hub, source = LiveHub(folder / "hub"), folder / "source"
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    hub.import_folder("acme/demo", source)
    return hub


@threat(18)
def test_a_repository_with_a_pickle_alone(
    door: Door, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {CONFIG: FILES[CONFIG], "adapter_model.bin": pickle.dumps(Canary())}
    with on_hub(tmp_path, files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        refused(door, "E_FORMAT_UNSAFE", 6, "install", "hf:acme/demo")
        assert not hub.seen(within=".bin")


def said(outcome: Outcome) -> str:
    """The words of the error itself, without what was said on the way."""
    return "\n".join(line for line in outcome.text.splitlines() if "is a pickle: read" not in line)


@threat(18, list(NAMES))
def test_a_pickle_that_a_person_lets_in(
    door: Door, case: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a hub with --convert-bin: it is fetched, nothing of it is run, nothing of it stays."""
    with on_hub(tmp_path, {CONFIG: FILES[CONFIG], "adapter_model.bin": payload(case)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        outcome = refused(door, "E_FORMAT_UNSAFE", 6, "install", "hf:acme/demo", convert_bin=True)
        assert hub.seen("GET", "adapter_model.bin") and "adapter_model.bin" in outcome.text
        assert NAMES[case] in said(outcome) and "weights_only" not in said(outcome)
    assert not Path("canary").exists()


@threat(18, list(NAMES))
def test_a_pickle_in_a_folder_that_a_person_names(door: Door, case: str, tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / CONFIG).write_bytes(FILES[CONFIG])
    (folder / "adapter_model.bin").write_bytes(payload(case))
    outcome = refused(door, "E_FORMAT_UNSAFE", 6, "convert", str(folder), to="hubcli", out=str(tmp_path / "out"))
    assert NAMES[case] in said(outcome)
    assert not Path("canary").exists()


@threat(18)
def test_a_pickle_that_never_ends(
    door: Door, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that reads it is ended with it. Here it is stopped, so that it can't be done in no time."""
    monkeypatch.setattr(pickles, "SECONDS", 0)
    before = pickles.CHILD._running()
    os.kill(before.pid, signal.SIGSTOP)
    with on_hub(tmp_path, {CONFIG: FILES[CONFIG], "adapter_model.bin": payload("no tensor")}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        outcome = refused(door, "E_FORMAT_UNSAFE", 6, "install", "hf:acme/demo", convert_bin=True)
    assert "within 0 seconds" in outcome.text
    assert pickles.CHILD.process is None and before.returncode is not None


def headers(row: int) -> dict[str, tuple[bytes, str]]:
    """The payloads of a row, with the id each is refused with."""
    table = {name.partition(" ")[2]: case for name, case in (BAD | LENIENT).items() if name.startswith(f"{row} ")}
    return table | ({"no object": (table["no object"][0], "E_FORMAT_UNSAFE")} if "no object" in table else {})


def bad_weights(door: Door, case: tuple[bytes, str], index: IndexFolder, refused: Refused) -> None:
    index.add("acme/demo", files=FILES | {WEIGHTS: case[0]})
    start = time.process_time()
    outcome = refused(door, case[1], 6 if case[1] == "E_FORMAT_UNSAFE" else 4, "install", "acme/demo")
    assert time.process_time() - start < 1.5
    assert WEIGHTS in outcome.text


@threat(19, headers(19))
def test_a_header_of_a_wrong_length(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    bad_weights(door, case, index, refused)


@threat(20, headers(20))
def test_a_header_that_is_too_much(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    bad_weights(door, case, index, refused)


@threat(21, headers(21))
def test_tensors_that_lie_about_their_bytes(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    bad_weights(door, case, index, refused)


@threat(22, headers(22))
def test_what_the_library_lets_pass(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    bad_weights(door, case, index, refused)


def other_modules(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same tensors, for modules that the config does not name."""
    return files | {WEIGHTS: files[WEIGHTS].replace(b"query", b"other")}


NAN = FILES | {WEIGHTS: FILES[WEIGHTS][:-4] + struct.pack("<f", float("nan"))}
RANK = lora_files(r=3) | {CONFIG: lora_files(r=2)[CONFIG]}
WRONG = {
    "NaN": (NAN, "E_WEIGHTS_NONFINITE", 4),
    "infinity": (FILES | {WEIGHTS: FILES[WEIGHTS][:-4] + struct.pack("<f", float("inf"))}, "E_WEIGHTS_NONFINITE", 4),
    "another rank": (RANK, "E_RANK", 4),
    "no target": (other_modules(FILES), "E_WEIGHTS", 4),
    "another base": (lora_files(base_model_name_or_path="acme/other"), "E_BASE_MISMATCH", 6),
}


@threat(23, WRONG)
def test_weights_that_do_not_fit(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    files, id, code = case
    index.add("acme/demo", files=files)
    refused(door, id, code, "install", "acme/demo")


KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "megatron_core": ({"megatron_core": "evil_package"}, "E_CONFIG_KEY"),
    "parent_library": ({"parent_library": "evil_package"}, "E_CONFIG_KEY"),
    "tokenizer elsewhere": ({"tokenizer_name_or_path": "evil/repo"}, "E_CONFIG_KEY"),
    "base elsewhere": ({"base_model_name_or_path": "evil/repo"}, "E_BASE_MISMATCH"),
    "hostile regex": ({"target_modules": "(a+)+$"}, "E_CONFIG_KEY"),
    "long regex": ({"target_modules": "a" * 5000}, "E_CONFIG_KEY"),
    "deep regex": ({"target_modules": "(" * 30 + "a" + ")" * 30}, "E_CONFIG_KEY"),
}


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that makes a file when it is imported; returns the file's path."""
    package = tmp_path / "site" / "evil_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(package.parent))
    return tmp_path / "imported"


@threat(24, KEYS)
def test_a_config_that_would_import_or_fetch(
    door: Door, case: Any, index: IndexFolder, refused: Refused, sentinel: Path
) -> None:
    change, id = case
    index.add("acme/demo", files=lora_files(**change))
    refused(door, id, 6, "install", "acme/demo")
    assert not sentinel.exists() and "evil_package" not in sys.modules


@threat(24)
def test_auto_mapping_is_ignored_with_a_note(door: Door, index: IndexFolder, sentinel: Path) -> None:
    mapping = {"base_model_class": "Evil", "parent_library": "evil_package"}
    index.add("acme/demo", files=lora_files(auto_mapping=mapping))
    outcome = door.install("acme/demo")
    assert outcome.code == 0 and "auto_mapping is ignored" in outcome.text
    assert not sentinel.exists() and "evil_package" not in sys.modules


@threat(25, ["handler.py", "kernel.so", "kernel.dll", "tour.ipynb", "chat_template.jinja"])
def test_a_release_with_code(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    index.add("acme/demo", files=FILES | {case: b"print('evil')"})
    refused(door, "E_REMOTE_CODE", 6, "install", "acme/demo")


@threat(25, {"auto_map": {"auto_map": {"AutoModel": "evil.Model"}}, "trust_remote_code": {"trust_remote_code": True}})
def test_a_config_that_asks_for_code(door: Door, case: dict[str, Any], index: IndexFolder, refused: Refused) -> None:
    index.add("acme/demo", files=lora_files(**case))
    refused(door, "E_REMOTE_CODE", 6, "install", "acme/demo")
    assert not [option.name for option in install_command.params if "code" in str(option.name)]


@threat(25)
def test_code_beside_an_adapter_stays_on_the_hub(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_hub(tmp_path, FILES | {"handler.py": b"evil", "kernel.so": b"evil"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        outcome = door.install("hf:acme/demo")
        assert outcome.code == 0 and not hub.seen(within="handler") and not hub.seen(within="kernel")
    (row,) = outcome.document["installed"]
    assert {file["path"] for file in row["files"]} == set(FILES) and api.verify()["ok"]
    assert json.loads((Path(row["path"]) / CONFIG).read_text())["peft_type"] == "LORA"
