"""Installing from files at hand: what appears, what is refused, and that nothing of a refused adapter stays."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import HubcliError
from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved, repair
from hubcli.manifest import FileSpec, Installed, Record
from hubcli.store import Store
from tests.store.samples import CONFIG, FILES, WEIGHTS, Shelf, ToyPlugins, everything_under, safetensors, sha


def refused(resolved: Any, store: Store, id: str, **options: Any) -> HubcliError:
    """Installing fails with this id, and the store has no file that was not there."""
    before = everything_under(store.path)
    with pytest.raises(HubcliError) as caught:
        install_resolved(resolved, store, Sources(), **options)
    assert caught.value.id == id, caught.value.message
    after = {
        p: d
        for p, d in everything_under(store.path).items()
        if d is not None and not p.endswith((".lock", "CACHEDIR.TAG"))
    }
    assert after == {p: d for p, d in before.items() if p in after}
    return caught.value


def test_an_installed_adapter_is_whole_read_only_and_recorded(shelf: Shelf, store: Store) -> None:
    done = install_resolved(shelf.resolved(), store, Sources())
    assert done.changed
    folder = Path(done.path)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".hubcli.json"} == FILES
    assert not any(p.stat().st_mode & 0o222 for p in folder.iterdir())
    assert {p.name for p in store.layout.blobs.glob("??/*")} == {sha(data) for data in FILES.values()}
    assert all((store.layout.blob(sha(data))).samefile(folder / name) for name, data in FILES.items())
    assert store.verify(done).ok
    assert store.installed() == [dataclasses.replace(done, changed=False)]
    assert Record.from_json(json.loads((folder / ".hubcli.json").read_text())["record"]) == done.record


def test_installing_again_changes_nothing_and_reads_no_source(shelf: Shelf, store: Store) -> None:
    resolved = shelf.resolved()
    install_resolved(resolved, store, Sources())
    before = everything_under(store.path)
    again = install_resolved(dataclasses.replace(resolved, file_roots=()), store, Sources())
    assert not again.changed and everything_under(store.path) == before


def test_a_dry_run_writes_nothing(shelf: Shelf, store: Store) -> None:
    planned = install_resolved(shelf.resolved(), store, Sources(), dry_run=True)
    assert planned.changed and not store.path.exists()


def test_versions_live_side_by_side_and_share_what_is_equal(shelf: Shelf, store: Store) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        install_resolved(shelf.resolved(FILES | {"README.md": version.encode()}, version=version), store, Sources())
    found = {text: store.find("test/demo", text) for text in ("", "^1.0", "1.0.0", ">=2.0.0-rc.0", "^3")}
    assert {k: v and v.record.version for k, v in found.items()} == {
        "": "1.1.0", "^1.0": "1.1.0", "1.0.0": "1.0.0", ">=2.0.0-rc.0": "2.0.0-rc.1", "^3": None,
    }  # fmt: skip
    assert store.layout.blob(sha(WEIGHTS)).stat().st_nlink == 4


def test_content_comes_out_of_the_stores_own_blobs(shelf: Shelf, store: Store) -> None:
    resolved = shelf.resolved()
    store.remove(install_resolved(resolved, store, Sources()))
    assert install_resolved(dataclasses.replace(resolved, file_roots=()), store, Sources()).changed


def test_a_wrong_source_is_named_and_the_next_one_serves(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    resolved = shelf.resolved()
    bad = Shelf(tmp_path / "bad")
    bad.put(WEIGHTS[:-1] + b"x", sha(WEIGHTS))
    said: list[str] = []
    roots = (str(bad.folder), *resolved.file_roots)
    done = install_resolved(dataclasses.replace(resolved, file_roots=roots), store, Sources(), warn=said.append)
    assert store.verify(done).ok and [str(bad.folder) in line for line in said] == [True]


BODIES = {
    "13 flipped": (WEIGHTS[:-1] + b"x", "E_HASH"),
    "14 short": (WEIGHTS[:-1], "E_SIZE"),
    "14 long": (WEIGHTS + b"x", "E_SIZE"),
    "14 empty": (b"", "E_SIZE"),
}


@pytest.mark.parametrize(("body", "id"), BODIES.values(), ids=BODIES)
def test_wrong_bytes_leave_nothing(shelf: Shelf, store: Store, body: bytes, id: str) -> None:
    resolved = shelf.resolved()
    shelf.put(body, sha(WEIGHTS))
    refused(resolved, store, id)


def test_row_14_an_endless_source_is_cut_off_at_the_stated_size(store: Store) -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield b"x" * 100

    with store.staging() as staging, pytest.raises(HubcliError) as caught:
        staging.receive(FileSpec("a.md", 1000, "", "card"), endless())
    assert caught.value.id == "E_SIZE" and given == 11


UNSAFE_PATHS = [
    "../../x",
    "/etc/x",
    "a/../../x",
    "C:\\x",
    "\\\\srv\\x",
    "a\\..\\b",
    "~",
    "",
    ".",
    "x.",
    "x ",
    "a\0b",
    "x" * 300,
    "~/x.json",
]
OTHER_PATHS = ["nul.json", "aux/x.json", ".hubcli.json", ".HUBCLI.json", ".hubcli.json/x.json", "README.MD"]


@pytest.mark.parametrize("path", UNSAFE_PATHS + OTHER_PATHS, ids=ascii)
def test_row_1_a_hostile_path_creates_nothing(shelf: Shelf, store: Store, path: str, tmp_path: Path) -> None:
    resolved = shelf.resolved()
    hostile = FileSpec(path, len(FILES["README.md"]), sha(FILES["README.md"]), "card")
    files = (*resolved.release.files, hostile)
    resolved = dataclasses.replace(resolved, release=dataclasses.replace(resolved.release, files=files))
    before = everything_under(tmp_path)
    refused(resolved, store, "E_PATH_UNSAFE")
    assert everything_under(tmp_path) == before and not store.path.exists()


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


def test_row_24_auto_mapping_is_ignored_with_a_note(shelf: Shelf, store: Store) -> None:
    mapping = {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil_package"}}
    said: list[str] = []
    resolved = shelf.resolved(FILES | {"adapter_config.json": json.dumps(CONFIG | mapping).encode()})
    assert install_resolved(resolved, store, Sources(), warn=said.append).changed
    assert ["auto_mapping" in line for line in said] == [True]


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


@pytest.mark.parametrize("damage", ["edited", "missing", "record", "extra"])
def test_row_49_damage_is_listed_and_repaired(shelf: Shelf, store: Store, damage: str) -> None:
    resolved = shelf.resolved()
    done = install_resolved(resolved, store, Sources())
    folder = Path(done.path)
    weights = folder / "adapter_model.safetensors"
    if damage == "edited":
        weights.chmod(0o644)
        weights.write_bytes(WEIGHTS[:-1] + b"x")
    elif damage == "missing":
        weights.unlink()
    elif damage == "record":
        (folder / ".hubcli.json").chmod(0o644)
        (folder / ".hubcli.json").write_text("{}")
    else:
        (folder / "evil.py").write_text("")
    item: Any = store.installed()[0] if damage != "record" else store.broken()[0]
    found = store.verify(item)
    expected = {"edited": "modified", "missing": "missing", "record": "unverifiable", "extra": "extra"}[damage]
    assert found.status == expected
    if damage == "edited":
        assert sha(WEIGHTS) in str(found.problems[0]) and "adapter_model.safetensors" in str(found.problems[0])
    assert repair(item, store, Sources(), resolved).ok
    assert store.verify(store.installed()[0]).ok and {p.name for p in folder.iterdir()} == {*FILES, ".hubcli.json"}


def test_repair_never_takes_other_files_than_were_installed(installed: Installed, shelf: Shelf, store: Store) -> None:
    path = Path(installed.path) / "README.md"
    path.unlink()
    other = shelf.resolved(FILES | {"README.md": b"# other\n"})
    assert repair(installed, store, Sources(), other).ok
    assert path.read_bytes() == FILES["README.md"]


def test_row_11_a_version_never_changes_its_files(installed: Installed, shelf: Shelf, store: Store) -> None:
    refused(shelf.resolved(FILES | {"README.md": b"# other\n"}), store, "E_IMMUTABLE")
    assert store.verify(installed).ok
