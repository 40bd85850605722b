"""search and index on the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli
from tests.support.hostile_server import Hostile, reply


def test_search_prints_lines_to_paste(index: IndexFolder) -> None:
    document = hubcli("search", "called", "--json").document
    assert {hit["name"] for hit in document["hits"]} == {"acme/one", "acme/two"}
    line = next(line for line in hubcli("search", "called", "two").out.splitlines() if "acme/two" in line)
    command = line.split("  ")[0].split()
    assert hubcli(*command[1:]).code == 0


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["--method", "lora"], {"acme/one", "acme/two"}),
        (["--method", "nope"], set()),
        (["--task", "feature-extraction"], {"acme/one", "acme/two"}),
        (["--language", "de"], set()),
        (["--license", "apache-2.0", "--limit", "1"], {"acme/one"}),
        (["--base", "acme/tiny-bert"], {"acme/one", "acme/two"}),
        (["--base", "acme/other"], set()),
    ],
)
def test_filters(index: IndexFolder, filters: list[str], names: set[str]) -> None:
    found = {hit["name"] for hit in hubcli("search", "called", *filters, "--json").document["hits"]}
    assert found == names or ("--limit" in filters and len(found) == 1)


@pytest.mark.parametrize(
    "query", ["nothinglikethis", '"', "a* OR b:", "'; DROP TABLE entry; --", "ü" * 50, "NEAR(", "-x"]
)
def test_no_hit_and_hostile_queries_are_exit_0(index: IndexFolder, query: str) -> None:
    answer = hubcli("search", "--json", "--", query)
    assert answer.code == 0
    assert hubcli("install", "acme/one").code == 0


@pytest.mark.parametrize("query", ["films", "Films", "acme/films"])
@pytest.mark.parametrize("limit", [1, 5])
def test_what_is_called_so_comes_first_and_what_is_not_shown_is_said(
    index: IndexFolder, query: str, limit: int
) -> None:
    document = index.add("acme/films")
    document["description"] = "; ".join(["nothing else"] * 15)
    index.write("acme/films", document)
    for number in range(20):
        document = index.add(f"acme/films-of-films-{number}")
        document["description"] = "films of acme films"
        index.write(document["name"], document)
    hits = hubcli("search", query, "--json", "--limit", str(limit)).document["hits"]
    assert hits[0]["name"] == "acme/films" and len(hits) == limit
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    all_of_them = len(hubcli("search", query, "--json", "--limit", "99").document["hits"])
    said = f"showing {limit} of {all_of_them}: --limit {all_of_them} shows them"
    assert all_of_them > 20 and said in hubcli("search", query, "--limit", str(limit)).err
    assert "showing" not in hubcli("search", query, "--limit", str(all_of_them)).err


def test_index_life(tmp_path: Path, home: Path) -> None:
    folder = IndexFolder(tmp_path / "i")
    folder.add("team/x")
    site = tmp_path / "site"
    first = hubcli("index", "build", str(folder.folder), "--out", str(site), "--json").document
    assert first["entries"] == 1
    before = {p.name: p.read_bytes() for p in site.rglob("*") if p.is_file()}
    assert hubcli("index", "build", str(folder.folder), "--out", str(site), "--json").document == first
    assert {p.name: p.read_bytes() for p in site.rglob("*") if p.is_file()} == before, (
        "the same input gives the same bytes"
    )
    assert hubcli("index", "add", "team", str(folder.folder), "--scope", "team/*", "--dry-run").code == 0
    assert [i["name"] for i in hubcli("index", "list", "--json").document["indexes"]] == ["bundled"]
    assert hubcli("index", "add", "team", str(folder.folder), "--scope", "team/*").code == 0
    rows = hubcli("index", "list", "--json").document["indexes"]
    assert (rows[0]["name"], rows[0]["entries"], rows[0]["scopes"]) == ("team", 1, ["team/*"])
    assert hubcli("index", "update", "--json").code == 0
    folder.add("team/y")
    updated = hubcli("index", "update", "team", "--json").document["indexes"]
    assert [(i["entries"], i["changed"]) for i in updated] == [(2, True)]
    assert hubcli("index", "remove", "team").code == 0
    assert hubcli("info", "team/x").code == 3


def test_precedence_the_first_index_that_has_the_name_wins(tmp_path: Path, home: Path) -> None:
    for name, version in (("private", "0.1.0"), ("public", "9.0.0")):
        folder = IndexFolder(tmp_path / name)
        folder.add("acme/secret", version)
        assert hubcli("index", "add", name, str(folder.folder)).code == 0
    assert hubcli("info", "acme/secret", "--json").document["version"] == "0.1.0"
    assert hubcli("info", "public:acme/secret", "--json").document["version"] == "9.0.0"


def test_an_index_that_does_not_answer_is_asked_only_where_it_must(index: IndexFolder, home: Path) -> None:
    assert hubcli("index", "add", "far", "http://127.0.0.1:9/").code == 0
    found = hubcli("search", "called", "--json")
    assert {hit["name"] for hit in found.document["hits"]} == {"acme/one", "acme/two"}
    assert "index far was not searched" in found.err
    (row,) = hubcli("index", "update", "acme", "--json").document["indexes"]
    assert row["entries"] == 2
    planned = hubcli("index", "update", "far", "--dry-run", "--json").document["indexes"]
    assert planned == [{"name": "far", "changed": False, "entries": None, "snapshot": None}]
    assert hubcli("index", "update", "--dry-run").out.splitlines()[0] == "acme: would ask (2 entries)"
    assert hubcli("index", "update", "far", "--json").code == 7


def test_what_is_no_index_is_not_added(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = hubcli("index", "add", "no", str(tmp_path / "nothere"), "--json")
    assert (answer.code, answer.document["error"]["id"]) == (3, "E_NOT_FOUND")
    assert "index 'no' is not added" in answer.document["error"]["message"]
    for url in ("http://127.0.0.1:9/", "hf:datasets/acme/index"):
        warned = hubcli("index", "add", "far", url, "--dry-run")
        assert warned.code == 0 and "was not looked at: the network is off (HF_HUB_OFFLINE)" in warned.err
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with Hostile(lambda request, send: send(reply(404))) as server:
        answer = hubcli("index", "add", "far", server.url)
        assert answer.code == 3 and "index 'far' is not added" in answer.err and "hint: is the address" in answer.err
    assert not (home / "config.toml").exists()


def test_the_scope_of_an_index_is_not_dropped_by_adding_it_again(index: IndexFolder, home: Path) -> None:
    assert hubcli("index", "add", "ours", str(index.folder), "--scope", "acme/*").code == 0
    answer = hubcli("index", "add", "ours", str(index.folder))
    assert answer.code == 2 and "hint: take it off the list first: hubcli index remove ours" in answer.err
    assert hubcli("index", "add", "ours", str(index.folder), "--scope", "acme/*").code == 0
    rows = hubcli("index", "list", "--json").document["indexes"]
    assert [i["scopes"] for i in rows if i["name"] == "ours"] == [["acme/*"]]


def test_an_index_that_went_away_is_named_in_the_hint(tmp_path: Path, home: Path) -> None:
    (tmp_path / "gone").mkdir()
    assert hubcli("index", "add", "team", str(tmp_path / "gone")).code == 0
    (tmp_path / "gone").rmdir()
    answer = hubcli("search", "praise")
    assert answer.code == 3 and answer.err.endswith("hubcli index remove team\n")


def test_a_checkout_without_a_commit_is_told_what_to_do(tmp_path: Path, home: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    answer = hubcli("index", "check", str(tmp_path), "--against", "HEAD")
    assert answer.code == 3 and "has no commit yet" in answer.err and "git commit --allow-empty" in answer.err


def test_a_mirror_of_nothing_gets_a_hint(tmp_path: Path, home: Path) -> None:
    answer = hubcli("mirror", str(tmp_path / "m"))
    assert answer.code == 2 and "hint: for example: hubcli mirror" in answer.err
