"""An index in a dataset repository of a hub, read through the project's own server (THREATS 2, 16, 38, 57)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.config import IndexConfig, hub_index
from hubcli.errors import ContentError, EntryError, HubcliError, NotFoundError, OfflineError, UsageError
from hubcli.hub import transport
from hubcli.index import hub_source
from hubcli.index.build import build_site
from hubcli.index.catalog import Catalog
from hubcli.index.sources import META_LIMIT, FolderSource
from tests.registry.entrydocs import dump, entry, release, write, yank
from tests.support.adapters import IndexFolder
from tests.support.hostile_server import Hostile, Request, Send, reply
from tests.support.hub_server import LiveHub, allow_loopback

URL = "hf:datasets/acme/index"
TOKEN = "hub-token-for-tests"
COMMIT = "a1" * 20


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    defaults = transport.HubHttp.__init__.__kwdefaults__ | {"sleep": lambda _: None}
    monkeypatch.setattr(transport.HubHttp.__init__, "__kwdefaults__", defaults)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub", token=TOKEN, page_size=7) as live:
        monkeypatch.setenv("HF_ENDPOINT", live.url)
        yield live


def put(hub: LiveHub, folder: Path, **options: Any) -> str:
    commit = hub.import_folder("acme/index", folder, repo_type="dataset", **options)
    hub.log.clear()
    return commit


def catalog(url: str = URL, **options: Any) -> Catalog:
    return Catalog(IndexConfig("acme", url), refresh=True, **options)


def resolved(hub: LiveHub) -> list[str]:
    """The files that were asked for since the last look."""
    found = [r.path.partition("/resolve/")[2].partition("/")[2] for r in hub.log if "/resolve/" in r.path]
    hub.log.clear()
    return sorted(found)


def test_a_repository_reads_as_its_folder(hub: LiveHub, tmp_path: Path) -> None:
    names = [f"group-{n // 4}/entry-{n}" for n in range(20)]
    folder = write(tmp_path / "index", *(entry(name) for name in names))
    (folder / "_index.json").write_text('{"endpoint": "https://hub.acme.example"}')
    (folder / "README.md").write_text("# our index")
    IndexFolder(folder).put({"x": b"weights"})
    commit = put(hub, folder)
    read = catalog()
    _, snapshot = FolderSource(folder).changed("") or ("", None)
    assert snapshot is not None
    assert {name: read.lookup(name) for name in names} == dict(snapshot.entries)
    assert read.endpoint == "https://hub.acme.example" and len(read.view) == 20
    assert read.file_roots == (f"{hub.url}/datasets/acme/index/resolve/{commit}/_files",)
    assert sum("/tree/" in r.path for r in hub.log) > 3, "the listing has pages"
    assert resolved(hub) == sorted(["_index.json", *(f"{name}.json" for name in names)])


def test_what_is_unchanged_is_not_fetched_again(hub: LiveHub, tmp_path: Path) -> None:
    folder = write(tmp_path / "index", *(entry(f"acme/entry-{n}") for n in range(5)))
    put(hub, folder)
    assert catalog().update() and len(resolved(hub)) == 5
    assert not catalog().update()
    assert [r.path for r in hub.log] == ["/api/datasets/acme/index/revision/main?expand=sha"], (
        "one request when unchanged"
    )
    write(folder, entry("acme/entry-2", release(yanked=yank())), entry("acme/more"))
    (folder / "acme/entry-4.json").unlink()
    put(hub, folder)
    now = catalog()
    assert now.update() and resolved(hub) == ["acme/entry-2.json", "acme/more.json"]
    assert now.lookup("acme/entry-2") == dump(entry("acme/entry-2", release(yanked=yank())))
    assert now.lookup("acme/entry-4") is None and len(now.view) == 5
    hub.log.clear()
    offline = catalog(offline="HUBCLI_OFFLINE")
    assert offline.has("acme/more") and not hub.log
    with pytest.raises(OfflineError, match="never fetched"):
        _ = catalog(f"{URL}@other", offline="HUBCLI_OFFLINE").view


def test_a_damaged_cache_is_fetched_again(hub: LiveHub, tmp_path: Path) -> None:
    folder = write(tmp_path / "index", entry("acme/one"), entry("acme/two"))
    put(hub, folder)
    first = catalog()
    first.update()
    kept = first.folder / hub_source.CACHE
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    write(folder, entry("acme/three"))
    other = json.dumps([rows[0][0], "{}"]) + "\n" + json.dumps(rows[1])
    for damage, lost in ((other, 1), ("no JSON", 2), ('{"a": 1}\n', 2), ("3\n", 2), ("[1]", 2)):
        kept.write_text(damage)
        write(folder, entry("acme/three", description=damage))
        put(hub, folder)
        read = catalog()
        assert read.update() and read.lookup("acme/one") == dump(entry("acme/one")), damage
        assert len(resolved(hub)) == lost + 1, damage


def test_many_entries_come_by_the_site(hub: LiveHub, tmp_path: Path) -> None:
    """A site that lies beside them saves requests, and decides nothing: here it is one yank behind."""
    documents = [entry(f"acme/entry-{n}") for n in range(30)]
    folder = write(tmp_path / "index", *documents)
    build_site(folder, tmp_path / "site")
    for name in ("index.json", "entries.jsonl.gz"):
        (tmp_path / "site" / name).rename(folder / name)
    write(folder, entry("acme/entry-3", release(yanked=yank())))
    put(hub, folder)
    read = catalog()
    assert len(read.view) == 30 and resolved(hub) == ["acme/entry-3.json", "entries.jsonl.gz", "index.json"]
    assert b"wrong labels" in (read.lookup("acme/entry-3") or b"")
    (folder / "entries.jsonl.gz").write_bytes(b"no gzip")
    write(folder, *(entry(f"acme/other-{n}") for n in range(20)))
    put(hub, folder)
    assert read.update() and len(read.view) == 50


def test_a_site_of_settings_beyond_measure_is_not_asked_for(hub: LiveHub, tmp_path: Path) -> None:
    """They would be read whole. The entries beside it come one by one, as without a site; alone it is no index."""
    index = write(tmp_path / "index", *(entry(f"acme/entry-{n}") for n in range(20)))
    for folder in (index, tmp_path / "alone"):
        folder.mkdir(exist_ok=True)
        (folder / "index.json").write_bytes(b" " * (META_LIMIT + 1))
        (folder / "entries.jsonl.gz").write_bytes(b"")
    put(hub, index)
    assert len(catalog().view) == 20 and len(resolved(hub)) == 20
    put(hub, tmp_path / "alone")
    with pytest.raises(EntryError, match=r"index\.json: expected at most 65,536 bytes, found 65,537") as caught:
        _ = catalog().view
    assert caught.value.id == "E_JSON_SIZE" and not resolved(hub)


def test_a_site_alone_is_an_index(hub: LiveHub, tmp_path: Path) -> None:
    index = IndexFolder(tmp_path / "index")
    index.add("acme/demo")
    build_site(index.folder, tmp_path / "site", endpoint="https://hub.acme.example")
    commit = put(hub, tmp_path / "site")
    read = catalog()
    assert read.has("acme/demo") and read.endpoint == "https://hub.acme.example"
    assert read.snapshot_sha256 == json.loads((tmp_path / "site/index.json").read_text())["snapshot"]
    assert read.file_roots == (f"{hub.url}/datasets/acme/index/resolve/{commit}/_files",)


def test_a_branch_a_tag_and_a_commit(hub: LiveHub, tmp_path: Path) -> None:
    folder = write(tmp_path / "index", entry("acme/one"))
    first = put(hub, folder, tag="v1")
    write(folder, entry("acme/two"))
    put(hub, folder)
    write(folder, entry("acme/three"))
    put(hub, folder, revision="next/one")
    counts = {"": 2, "@v1": 1, f"@{first}": 1, "@next/one": 3, "@main": 2}
    assert {at: len(catalog(URL + at).view) for at in counts} == counts
    with pytest.raises(NotFoundError, match="acme/index at nosuch"):
        _ = catalog(f"{URL}@nosuch").view


def test_install_from_a_private_index(hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries and files of a private repository, by the token that is bound to it or the person's own."""
    index = IndexFolder(tmp_path / "index")
    index.add("acme/demo")
    put(hub, index.folder, private=True)
    monkeypatch.setenv("TEAM_TOKEN", TOKEN)
    api.index_add("acme", URL, token_env="TEAM_TOKEN", unseen=True)
    assert api.index_list()["indexes"][0] | {"entries": 0, "snapshot": ""} == {
        "name": "acme", "url": URL, "scopes": [], "token_env": "TEAM_TOKEN", "entries": 0, "snapshot": "",
    }  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "not-this-one")
    (row,) = api.install("acme/demo")["installed"]
    assert row["changed"] and api.verify("acme/demo")["ok"]
    Path(tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("adapters.toml").write_text('[adapters]\n"acme/demo" = "^1.0"\n')
    api.lock()
    lock = Path("adapters.lock").read_text()
    assert URL in lock and TOKEN not in lock
    monkeypatch.delenv("TEAM_TOKEN")
    with pytest.raises(HubcliError) as caught:
        api.index_update("acme")
    assert caught.value.id == "E_DENIED", "a token that is bound and not set is no reason to send another"
    api.index_remove("acme")
    api.index_add("acme", URL, unseen=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    api.uninstall("acme/demo")
    assert api.index_update("acme")["indexes"][0]["entries"] == 1
    assert api.install("acme/demo")["installed"][0]["changed"]
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "another home"))
    assert api.sync(frozen=True)["installed"][0]["changed"], "the lock alone says where the files are"


def test_another_hub_is_another_index(hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(hub, write(tmp_path / "index", entry("acme/one")))
    assert catalog().update()
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    with pytest.raises(OfflineError):
        _ = catalog(offline="HUBCLI_OFFLINE").view


@pytest.mark.parametrize(
    "url",
    ["hf:acme/index", "hf:datasets/acme", "hf:datasets/acme/../x", "hf:datasets/acme/index@", "hf:datasets/acme/i@a b",
     "hf:datasets/acme/index@a..b", "hf:models/acme/index", "hf:datasets/acme/index?x", "hf:datasets/a/b/c", "hf:"],
)  # fmt: skip
def test_a_place_that_is_none(url: str) -> None:
    assert hub_index(url) is None
    with pytest.raises(UsageError, match="hf:datasets/ORG/NAME"):
        api.index_add("acme", url)


TREE = [{"type": "file", "path": "acme/demo.json", "size": 4, "oid": "0" * 40}]
FILE = {"type": "file", "path": "x/y.json", "size": 4, "oid": "0" * 40}
SHA = json.dumps({"sha": COMMIT}).encode()
Refused = tuple[type[HubcliError], str]


def told(
    sha: bytes = SHA, tree: Any = TREE, file: bytes = b"{}\n\n", **headers: str
) -> Callable[[Request, Send], None]:
    def answer(request: Request, send: Send) -> None:
        if "/revision/" in request.path:
            return send(reply(200, sha))
        if "/tree/" in request.path:
            return send(reply(200, tree if isinstance(tree, bytes) else json.dumps(tree).encode(), **headers))
        return send(reply(200, file, X_Repo_Commit=headers.get("X_Repo_Commit", COMMIT)))

    return answer


HOSTILE: dict[str, tuple[Callable[[Request, Send], None], str]] = {
    "no commit": (told(sha=b'{"sha": "main"}'), "E_BAD_HEADER"),
    "a path as commit": (told(sha=b'{"sha": "../../../../x"}'), "E_BAD_HEADER"),
    "no JSON": (told(sha=b"{"), "E_JSON_SYNTAX"),
    "a giant": (told(sha=b" " * (2 << 20)), "E_SIZE"),
    "deep": (told(tree=b"[" * 200_000), "E_JSON_SYNTAX"),
    "no list": (told(tree={"a": 1}), "E_SCHEMA"),
    "no object": (told(tree=["x"]), "E_SCHEMA"),
    "no size": (told(tree=[{**FILE, "size": None}]), "E_SCHEMA"),
    "a negative size": (told(tree=[{**FILE, "size": -1}]), "E_SCHEMA"),
    "a truth as size": (told(tree=[{**FILE, "size": True}]), "E_SCHEMA"),
    "no hash": (told(tree=[{**FILE, "oid": "x"}]), "E_SCHEMA"),
    "no path": (told(tree=[{**FILE, "path": 3}]), "E_SCHEMA"),
    "other bytes": (told(), "E_HASH"),
    "more bytes": (told(file=b"{}" * 100), "E_SIZE"),
    "another commit": (told(X_Repo_Commit="b2" * 20), "E_COMMIT"),
    "pages without end": (told(Link='<http://x/?cursor=a>; rel="next"'), "E_SCHEMA"),
    "bytes beyond measure": (told(tree=[{**FILE, "path": f"a/b{n}.json", "size": 200_000} for n in range(3000)]), "E_SCHEMA"),
    "settings beyond measure": (told(tree=[{**FILE, "path": "_index.json", "size": 1 << 30}]), "E_JSON_SIZE"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_hub(case: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    answer, id = HOSTILE[case]
    monkeypatch.setattr("hubcli.index.hub_tree.MAX_FILES", 20 if case == "pages without end" else 5000)
    with Hostile(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises((EntryError, ContentError)) as caught:
            _ = catalog().view
    assert caught.value.id == id, caught.value.message
    assert not list(home.rglob("state.json"))


def test_where_a_page_points_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def answer(request: Request, send: Send) -> None:
        seen.append(request.path)
        more = (
            {}
            if "cursor=" in request.path
            else {"Link": '<http://127.0.0.1:9/evil?cursor=a%26limit%3D1&x=y>; rel="next"'}
        )
        told(tree=[], **more)(request, send)

    with Hostile(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert len(catalog().view) == 0
    assert seen[-1] == f"/api/datasets/acme/index/tree/{COMMIT}?recursive=true&cursor=a%26limit%3D1"
