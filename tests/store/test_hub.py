"""Pulling from a live hub, through its real client; and sources that need none."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubcli import api
from hubcli.errors import HubcliError
from hubcli.hub import transport
from hubcli.hub.resolve import resolve_hub
from hubcli.hub.sources import MemorySource, Sources
from hubcli.installer import install_resolved
from hubcli.lockfile import read_lock
from hubcli.refs import parse_ref
from hubcli.store import Store
from tests.store.faulty import COMMIT
from tests.store.samples import CONFIG, FILES, WEIGHTS, Shelf, safetensors, sha
from tests.support.hostile_server import Hostile, reply
from tests.support.hub_server import LiveHub

pytestmark = pytest.mark.usefixtures("online")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub") as hub:
        yield hub


def repo(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_an_index_release_takes_one_get_a_file(live: LiveHub, shelf: Shelf, store: Store, tmp_path: Path) -> None:
    commit = live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    done = install_resolved(shelf.at_hub(live.url, commit=commit), store, Sources())
    assert store.verify(done).ok
    assert sorted(r.method for r in live.log) == ["GET"] * len(FILES)
    assert sorted(live.seen()) == sorted(f"/acme/demo/resolve/{commit}/{name}" for name in FILES)


def test_a_peft_repository_installs_without_an_entry(live: LiveHub, store: Store, tmp_path: Path) -> None:
    config = CONFIG | {"modules_to_save": ["classifier"], "task_type": "SEQ_CLS", "revision": "b" * 40}
    head = safetensors({"base_model.model.classifier.weight": ("F32", [1], b"\0\0\0\0")})
    files = FILES | {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": head,
        "LICENSE": b"MIT\n",
        "handler.py": b"evil",
        "tokenizer.json": b"{}",
        "adapter_model.bin": b"\x80\x04evil",
        "training_args.bin": b"\x80\x04",
    }
    commit = live.import_folder("acme/demo", repo(tmp_path / "src", files), tag="v1")
    resolved = resolve_hub(parse_ref("hf:acme/demo@v1"), endpoint=live.url)
    done = install_resolved(resolved, store, Sources())
    kept = {"README.md", "adapter_config.json", "adapter_model.safetensors", "LICENSE"}
    release = done.record.release
    assert (done.record.name, done.record.version, release.hub and release.hub.commit) == (
        "hf:acme/demo",
        commit,
        commit,
    )
    assert {f.path: f.sha256 for f in release.files} == {name: sha(files[name]) for name in kept}
    assert release.head and release.head.modules == ("classifier",)
    assert (release.method, release.task, release.base and release.base.id) == (
        "toy",
        "text-classification",
        "acme/tiny",
    )
    assert release.base and release.base.revision == "b" * 40
    assert len(live.log) <= len(kept) + 1
    assert not live.seen(within=".py") and not live.seen(within=".bin") and not live.seen(within="tokenizer")
    assert (
        store.find("hf:acme/demo", "v1")
        == store.find("hf:acme/demo", commit[:10])
        == dataclasses.replace(done, changed=False)
    )
    assert (
        store.verify(done).ok
        and not install_resolved(resolve_hub(parse_ref("hf:acme/demo"), endpoint=live.url), store, Sources()).changed
    )


def test_a_tokenizer_comes_along_where_token_embeddings_were_trained(live: LiveHub, tmp_path: Path) -> None:
    config = CONFIG | {"modules_to_save": ["embed_tokens"]}
    files = FILES | {
        "adapter_config.json": json.dumps(config).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"x",
    }
    live.import_folder("acme/demo", repo(tmp_path / "src", files))
    release = resolve_hub(parse_ref("hf:acme/demo"), endpoint=live.url).release
    assert {f.path for f in release.files if f.role == "tokenizer"} == {"tokenizer.json"}


REPOS: dict[str, tuple[dict[str, bytes], str, str]] = {
    "pickle alone": (
        {"adapter_config.json": json.dumps(CONFIG).encode(), "adapter_model.bin": b"\x80"},
        "E_FORMAT_UNSAFE",
        "adapter_model.bin",
    ),
    "no adapter": ({"config.json": b"{}"}, "E_NOT_FOUND", "adapter_config.json"),
    "no weights": ({"adapter_config.json": json.dumps(CONFIG).encode()}, "E_NOT_FOUND", "adapter_model.safetensors"),
    "unknown method": ({"adapter_config.json": b'{"peft_type": "XYZ"}'}, "E_METHOD", "XYZ"),
    "needs code": (
        {"adapter_config.json": json.dumps(CONFIG | {"auto_map": {"a": "b.C"}}).encode()},
        "E_REMOTE_CODE",
        "auto_map",
    ),
    "key twice": ({"adapter_config.json": b'{"r": 1, "r": 2}'}, "E_JSON_DUPKEY", "r"),
}


@pytest.mark.parametrize(("files", "id", "names"), REPOS.values(), ids=REPOS)
def test_repositories_that_are_refused(
    live: LiveHub, tmp_path: Path, files: dict[str, bytes], id: str, names: str
) -> None:
    live.import_folder("acme/demo", repo(tmp_path / "src", files))
    with pytest.raises(HubcliError) as caught:
        resolve_hub(parse_ref("hf:acme/demo"), endpoint=live.url)
    assert caught.value.id == id and names in caught.value.message
    assert not [p for p in live.seen(within="/resolve/") if "adapter_config.json" not in p]


def test_a_dry_run_of_lock_installs_nothing_and_lock_pins_every_hash(
    live: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    monkeypatch.setenv("HF_ENDPOINT", live.url)
    (tmp_path / "adapters.toml").write_text('[adapters]\n"hf:acme/demo" = "main"\n')
    planned = api.lock(tmp_path, dry_run=True)
    assert (planned["changed"], planned["adapters"]) == (True, [{"name": "hf:acme/demo", "version": commit}])
    assert api.list()["adapters"] == []
    assert not (tmp_path / "adapters.lock").exists()
    api.lock(tmp_path)
    (pinned,) = read_lock(tmp_path).adapters
    assert {f.path: f.sha256 for f in pinned.release.files} == {path: sha(data) for path, data in FILES.items()}
    assert api.lock(tmp_path, upgrade=True, dry_run=True)["changed"] is False


def test_a_lock_says_which_hub_and_no_other_hubs_token_goes_there(
    live: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    monkeypatch.setenv("HF_ENDPOINT", live.url + "/")
    (tmp_path / "adapters.toml").write_text('[adapters]\n"hf:acme/demo" = "main"\n')
    api.lock(tmp_path)
    assert [item.endpoint for item in read_lock(tmp_path).adapters] == [live.url]
    live.log.clear()
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "another home"))
    MemorySource._seen.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_person_secret")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert [row["changed"] for row in api.sync(tmp_path)["installed"]] == [True]
    assert live.seen("GET", "/resolve/") and not any("authorization" in one.headers for one in live.log)
    (installed,), _ = Store(tmp_path / "another home").scan()
    assert installed.record.endpoint == live.url


def test_the_public_hub_is_not_written_down(live: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    monkeypatch.setenv("HF_ENDPOINT", live.url)
    monkeypatch.setattr(transport, "DEFAULT_ENDPOINT", live.url)
    assert resolve_hub(parse_ref("hf:acme/demo")).endpoint is None


@pytest.mark.parametrize("token, says", [(None, "set HF_TOKEN, or log in: hf auth login"), ("wrong", "HF_TOKEN")])
def test_a_private_repository_says_how_to_show_the_token(
    monkeypatch: pytest.MonkeyPatch, token: str | None, says: str
) -> None:
    with Hostile(lambda request, send: send(reply(401))) as private:
        with pytest.raises(HubcliError) as caught:
            resolve_hub(parse_ref("hf:acme/priv"), endpoint=private.url, token=token)
        assert "index add" in str(caught.value.hint), "a hub of another's"
        monkeypatch.setenv("HF_ENDPOINT", private.url)
        with pytest.raises(HubcliError) as caught:
            resolve_hub(parse_ref("hf:acme/priv"), token=token)
    error = caught.value
    assert error.id == "E_DENIED" and says in str(error.hint) and "index add" not in str(error.hint)


@pytest.mark.parametrize("ref", ["hf:acme/nosuch", "hf:acme/demo@nosuch"])
def test_what_the_hub_has_not_is_not_found(live: LiveHub, tmp_path: Path, ref: str) -> None:
    live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    with pytest.raises(HubcliError) as caught:
        resolve_hub(parse_ref(ref), endpoint=live.url)
    assert caught.value.id in ("E_NOT_FOUND", "E_DENIED") and "acme/" in caught.value.message


def test_row_17_a_repository_that_is_gone_still_installs_by_hash_from_a_mirror(shelf: Shelf, store: Store) -> None:
    with Hostile(lambda request, send: send(reply(404))) as server:
        for data in FILES.values():
            shelf.put(data)
        resolved = shelf.at_hub(server.url, commit=COMMIT)
        done = install_resolved(resolved, store, Sources(mirrors=(str(shelf.folder),)))
        assert store.verify(done).ok and not server.requests


def test_the_hugging_face_cache_serves_without_a_request(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = cache / "models--acme--demo"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / sha(WEIGHTS)).write_bytes(WEIGHTS)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("README.md", "adapter_config.json"):
        (snapshot / name).write_bytes(FILES[name])
    done = install_resolved(
        shelf.at_hub("http://127.0.0.1:9", commit=COMMIT), store, Sources(cache=cache, offline=True)
    )
    assert store.verify(done).ok


def test_offline_names_its_switch_and_local_sources_still_serve(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBCLI_OFFLINE", "1")
    resolved = shelf.at_hub("http://127.0.0.1:9", commit=COMMIT)
    with pytest.raises(HubcliError) as caught:
        install_resolved(resolved, store, Sources())
    assert caught.value.id == "E_OFFLINE" and "HUBCLI_OFFLINE" in str(caught.value.hint) + caught.value.message
    with pytest.raises(HubcliError) as caught:
        resolve_hub(parse_ref("hf:acme/demo"), endpoint="http://127.0.0.1:9")
    assert caught.value.id == "E_OFFLINE"
    for data in FILES.values():
        shelf.put(data)
    assert install_resolved(dataclasses.replace(resolved, file_roots=(str(shelf.folder),)), store, Sources()).changed


def test_files_at_hand_need_no_hub_client(shelf: Shelf, home: Path) -> None:
    """Installing from a folder imports neither huggingface_hub nor an HTTP client, jsonschema or filelock."""
    shelf.resolved()
    script = (
        "import sys, json, tests.store.samples as c, hubcli.plugins\n"
        "hubcli.plugins.plugins = lambda: c.ToyPlugins()\n"
        "from hubcli.installer import install_resolved\n"
        "from hubcli.hub.sources import Sources\nfrom hubcli.store import Store\nfrom pathlib import Path\n"
        f"shelf = c.Shelf(Path({str(shelf.folder)!r}))\n"
        f"assert install_resolved(shelf.resolved(), Store(Path({str(home)!r})), Sources()).changed\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"huggingface_hub", "httpx2", "filelock", "torch", "numpy", "transformers"}
