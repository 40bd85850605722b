"""What files may hold: formats, weights, configs, and what a method's plugin says of them."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import EntryError
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.manifest import FileSpec
from hubcli.store import Store
from hubcli.store.content import check_bytes
from tests.store.faulty import refused
from tests.store.samples import CONFIG, FILES, WEIGHTS, Shelf, ToyPlugins, safetensors


def zipped(prefix: bytes = b"") -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return prefix + buffer.getvalue()


class Canary:
    """Unpickling this makes a file."""

    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


DISGUISED = {
    "pickle 2": pickle.dumps(Canary(), 2),
    "pickle 4": pickle.dumps(Canary(), 4),
    "pickle 0": pickle.dumps(Canary(), 0),
    "truncated pickle": pickle.dumps(Canary(), 4)[:20],
    "zip": zipped(),
    "zip with a prefix": zipped(b"\x00" * 40),
    "zip behind tensors": zipped(WEIGHTS),
    "zip in a tensor": safetensors({"w": ("U8", [len(zipped())], zipped())}),
    "7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 40,
    "numpy": b"\x93NUMPY\x01\x00" + b"\0" * 40,
    "elf": b"\x7fELF" + b"\0" * 40,
    "gzip": b"\x1f\x8b\x08" + b"\0" * 40,
}


@pytest.mark.parametrize("body", DISGUISED.values(), ids=DISGUISED)
def test_row_18_what_is_no_safetensors_is_refused_and_not_run(
    shelf: Shelf, store: Store, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(shelf.resolved(FILES | {"adapter_model.safetensors": body}), store, "E_FORMAT_UNSAFE")
    assert not (tmp_path / "canary").exists()


SUFFIXES = [
    (f"x{s}", "E_FORMAT_UNSAFE")
    for s in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".joblib", ".npy", ".txt", ".zip", ".h5", "")
]
SUFFIXES += [(f"x{s}", "E_REMOTE_CODE") for s in (".py", ".so", ".dll", ".ipynb", ".PY")]


@pytest.mark.parametrize(("name", "id"), SUFFIXES)
@pytest.mark.parametrize("role", ["weights", "config", "tokenizer", "card", "license", "head", "code"])
def test_rows_18_and_25_files_on_no_list_are_refused_before_they_are_fetched(
    shelf: Shelf, store: Store, name: str, id: str, role: str
) -> None:
    resolved = shelf.resolved()
    files = (*resolved.release.files, FileSpec(name, 5, "0" * 64, role))
    refused(dataclasses.replace(resolved, release=dataclasses.replace(resolved.release, files=files)), store, id)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"a\0b", zipped(), b"MZ\x90"], ids=["not UTF-8", "NUL", "zip", "program"]
)
def test_text_files_hold_text(shelf: Shelf, store: Store, body: bytes) -> None:
    refused(shelf.resolved(FILES | {"LICENSE": body}), store, "E_FORMAT_UNSAFE")


NONFINITE = {
    "F32 nan": ("F32", struct.pack("<2f", 1.0, float("nan"))),
    "F32 inf": ("F32", struct.pack("<2f", float("-inf"), 1.0)),
    "F16 nan": ("F16", struct.pack("<2e", 1.0, float("nan"))),
    "BF16 inf": ("BF16", b"\x80\x3f\x80\x7f"),
    "F64 nan": ("F64", struct.pack("<2d", 1.0, float("nan"))),
}


@pytest.mark.parametrize(("dtype", "raw"), NONFINITE.values(), ids=NONFINITE)
def test_row_23_weights_that_are_no_numbers_are_refused(shelf: Shelf, store: Store, dtype: str, raw: bytes) -> None:
    body = safetensors({"fine": ("F32", [1], struct.pack("<f", 3e38)), "bad": (dtype, [2], raw)})
    error = refused(shelf.resolved(FILES | {"adapter_model.safetensors": body}), store, "E_WEIGHTS_NONFINITE")
    assert "bad" in error.message


CONFIGS: dict[str, tuple[Any, str]] = {
    "megatron_core": ({"megatron_core": "evil"}, "E_CONFIG_KEY"),
    "parent_library": ({"parent_library": "evil"}, "E_CONFIG_KEY"),
    "tokenizer elsewhere": ({"tokenizer_name_or_path": "evil/repo"}, "E_CONFIG_KEY"),
    "other base": ({"base_model_name_or_path": "evil/repo"}, "E_BASE_MISMATCH"),
    "hostile regex": ({"target_modules": "(a+)+$"}, "E_CONFIG_KEY"),
    "long regex": ({"target_modules": "a" * 5000}, "E_CONFIG_KEY"),
    "deep regex": ({"target_modules": "(" * 30 + "a" + ")" * 30}, "E_CONFIG_KEY"),
    "base is a number": ({"base_model_name_or_path": 7}, "E_CONFIG_KEY"),
    "remote code": ({"trust_remote_code": True}, "E_REMOTE_CODE"),
    "auto_map below": ({"config": {"auto_map": {"AutoModel": "evil.Model"}}}, "E_REMOTE_CODE"),
}


@pytest.mark.parametrize(("change", "id"), CONFIGS.values(), ids=CONFIGS)
def test_row_24_keys_of_a_config_that_would_import_or_fetch_are_refused(
    shelf: Shelf, store: Store, change: dict[str, Any], id: str
) -> None:
    refused(shelf.resolved(FILES | {"adapter_config.json": json.dumps(CONFIG | change).encode()}), store, id)


def test_row_24_auto_mapping_is_ignored_with_a_note_and_nothing_is_imported(
    shelf: Shelf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_package.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    mapping = {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil_package"}}
    said: list[str] = []
    resolved = shelf.resolved(FILES | {"adapter_config.json": json.dumps(CONFIG | mapping).encode()})
    assert install_resolved(resolved, store, Sources(), warn=said.append).changed
    assert ["auto_mapping" in line for line in said] == [True]
    assert "evil_package" not in sys.modules


def test_a_base_mismatch_can_be_insisted_on(shelf: Shelf, store: Store) -> None:
    body = json.dumps(CONFIG | {"base_model_name_or_path": "other/base"}).encode()
    said: list[str] = []
    resolved = shelf.resolved(FILES | {"adapter_config.json": body})
    assert install_resolved(resolved, store, Sources(), allow_base_mismatch=True, warn=said.append).changed
    assert "other/base" in said[0]


BAD_JSON = {
    "twice": (b'{"r": 1, "r": 2}', "E_JSON_DUPKEY"),
    "NaN": (b'{"r": NaN}', "E_JSON_NUMBER"),
    "no JSON": (b"{", "E_JSON_SYNTAX"),
    "no object": (b"[]", "E_CONFIG_KEY"),
}


@pytest.mark.parametrize(("body", "id"), BAD_JSON.values(), ids=BAD_JSON)
def test_a_config_is_parsed_strictly(shelf: Shelf, store: Store, body: bytes, id: str) -> None:
    refused(shelf.resolved(FILES | {"adapter_config.json": body}), store, id)


def test_the_plugins_schema_and_check_judge_before_anything_appears(
    shelf: Shelf, store: Store, toy: ToyPlugins
) -> None:
    toy.schema = {"type": "object", "properties": {"r": {"maximum": 1}}}
    assert "r" in refused(shelf.resolved(), store, "E_CONFIG_KEY").message
    toy.schema, toy.check = {"type": "object"}, f"{__name__}:rank_is_wrong"
    assert "(2, 3)" in refused(shelf.resolved(), store, "E_RANK").message
    toy.check = f"{__name__}:broken_check"
    refused(shelf.resolved(), store, "E_PLUGIN")


def rank_is_wrong(config: dict[str, Any], tensors: dict[str, Any]) -> list[tuple[str, str]]:
    return [("E_RANK", f"r is {config['r']}, found {tensors}")]


def broken_check(config: dict[str, Any], tensors: dict[str, Any]) -> list[tuple[str, str]]:
    raise SystemExit(3)


def test_an_unknown_method_is_named_before_anything_is_fetched(shelf: Shelf, store: Store) -> None:
    refused(shelf.resolved(method="nosuch"), store, "E_METHOD")


def test_a_tokenizer_has_words_of_any_characters_and_no_limit_in_31_digits() -> None:
    """As those of multilingual bases do; anything else that a person may be shown has neither."""
    words = {"model": {"type": "WordLevel", "vocab": {"\u200b": 0, "\u202e": 1, "\x7f": 2, "\u0000": 3, "\ufeff": 4}}}
    config = {"model_max_length": int(1e30)}
    for document in (words, config):
        for ascii_ in (True, False):
            raw = json.dumps(document, ensure_ascii=ascii_).encode()
            assert check_bytes(FileSpec("tokenizer.json", len(raw), "0" * 64, "tokenizer"), BytesIO(raw)) is None
            with pytest.raises(EntryError, match=r"character|digits"):
                check_bytes(FileSpec("adapter_config.json", len(raw), "0" * 64, "config"), BytesIO(raw))
    lone = b'{"vocab": {"\\ud800": 0}}'
    with pytest.raises(EntryError, match="character"):
        check_bytes(FileSpec("tokenizer.json", len(lone), "0" * 64, "tokenizer"), BytesIO(lone))
