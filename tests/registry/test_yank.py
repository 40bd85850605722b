"""yank and deprecate: one key changes, the rest stays to the byte, and what resolves then is what the help says (THREATS 39)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from hubcli import api
from hubcli.errors import EntryError, HubcliError, NotFoundError, RaceError, UsageError, YankedError
from hubcli.index.check import check_folder
from hubcli.index.state import folder_state
from tests.registry.checkout import checkout, git
from tests.registry.entrydocs import entry, release, write, yank
from tests.support.adapters import IndexFolder
from tests.support.cli import hubcli
from tests.support.hub_server import LiveHub, allow_loopback

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1")
TOKEN = "hub-token-for-tests"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A configured index folder with acme/films in four versions and acme/books."""
    folder = write(
        tmp_path / "index",
        entry("acme/films", *(release(version) for version in VERSIONS), description="Größe – 0.90"),
        entry("acme/books"),
    )
    api.index_add("acme", str(folder))
    return folder


def document(folder: Path, name: str = "acme/films") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_bytes())
    return found


def test_one_key_of_one_release_changes(index: Path) -> None:
    before, raw = document(index), (index / "acme/films.json").read_bytes()
    report = api.yank("acme/films@1.2.0", reason="wrong labels", replacement="acme/films@1.1.0", index=index)
    assert report["changed"] and report["index"]["file"] == str(index / "acme/films.json")
    now = document(index)
    told = now["releases"][2].pop("yanked")
    assert (told["reason"], told["replacement"]) == ("wrong labels", "acme/films@1.1.0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["date"])
    before["releases"][2].pop("yanked")
    assert now == before, "nothing else"
    other = [line for line in (index / "acme/films.json").read_text().splitlines() if "yanked" not in line]
    assert len(set(other) - set(raw.decode().splitlines())) <= 5, "the lines of the rest are what they were"
    assert api.yank("acme/films@1.2.0", undo=True, index=index)["changed"]
    assert (index / "acme/films.json").read_bytes() == raw


def test_again_changes_nothing(index: Path) -> None:
    first = api.yank("acme/films@1.2.0", reason="wrong labels", index=index)
    raw = (index / "acme/films.json").read_bytes()
    again = api.yank("acme/films@=1.2.0", reason="wrong labels", index=index)
    assert again == {**first, "changed": False} and (index / "acme/films.json").read_bytes() == raw
    other = api.yank("acme/films@1.2.0", reason="worse", index=index, dry_run=True)
    assert not other["changed"] and other["releases"][0]["yanked"]["reason"] == "worse"
    assert (index / "acme/films.json").read_bytes() == raw
    assert api.yank("acme/books@1.0.0", undo=True, index=index)["changed"] is False


@pytest.mark.parametrize(
    ("ref", "options", "error", "said"),
    [
        ("acme/films", {"reason": "x"}, UsageError, "expected one version"),
        ("acme/films@1.2", {"reason": "x"}, UsageError, "expected one version"),
        ("acme/films@^1.2.0", {"reason": "x"}, UsageError, "expected one version"),
        ("acme:acme/films@1.2.0", {"reason": "x"}, UsageError, "expected group/name@VERSION"),
        ("hf:acme/films", {"reason": "x"}, UsageError, "expected group/name@VERSION"),
        ("acme/films@1.2.0", {}, UsageError, "needs a reason"),
        ("acme/films@1.2.0", {"undo": True, "reason": "x"}, UsageError, "--undo"),
        ("acme/films@9.0.0", {"reason": "x"}, NotFoundError, "there are: 1.0.0, 1.1.0, 1.2.0, 2.0.0-rc.1"),
        ("acme/film@1.2.0", {"reason": "x"}, NotFoundError, "did you mean 'acme/films'"),
        ("acme/films@1.2.0", {"reason": "two\nlines"}, HubcliError, "one line"),
        ("acme/films@1.2.0", {"reason": "\x1b[31mred"}, HubcliError, "not allowed"),
        ("acme/films@1.2.0", {"reason": "x" * 501}, HubcliError, "at most 500"),
        ("acme/films@1.2.0", {"reason": "x", "replacement": "acme/films@1.2.0"}, UsageError, "its own replacement"),
        ("acme/films@1.2.0", {"reason": "x", "replacement": "acme/films@3.0.0"}, NotFoundError, "no version 3.0.0"),
        ("acme/films@1.2.0", {"reason": "x", "replacement": "acme/bookz"}, NotFoundError, "'acme/books'"),
        ("acme/films@1.2.0", {"reason": "x", "index": "nosuch"}, NotFoundError, "does not exist"),
        ("acme/films@1.2.0", {"reason": "x", "index": "bundled"}, UsageError, "only be read"),
    ],
)
def test_what_is_refused_changes_nothing(
    index: Path, ref: str, options: dict[str, Any], error: type[HubcliError], said: str
) -> None:
    before = folder_state(index)
    with pytest.raises(error) as caught:
        api.yank(ref, **{"index": index, **options})
    assert said in f"{caught.value.message} {caught.value.cause} {caught.value.hint}"
    assert folder_state(index) == before


def test_a_replacement_that_is_yanked_is_none(index: Path) -> None:
    api.yank("acme/films@1.1.0", reason="wrong labels", index=index)
    with pytest.raises(UsageError, match="is yanked itself"):
        api.yank("acme/films@1.2.0", reason="x", replacement="acme/films@1.1.0", index=index)


def test_what_is_published_in_between_stays(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hubcli.index import edit as editing

    now, real = document(index), editing.edit
    now["releases"].append(release("2.0.0"))

    def meanwhile(*args: Any, **more: Any) -> Any:
        """The first edit is overtaken by a publication."""
        made = real(*args, **more)
        monkeypatch.setattr(editing, "edit", real)
        write(index, now)
        return made

    monkeypatch.setattr(editing, "edit", meanwhile)
    assert api.yank("acme/films@1.2.0", reason="wrong labels", index=index)["changed"]
    found = {one["version"]: bool(one["yanked"]) for one in document(index)["releases"]}
    assert found == {v: v == "1.2.0" for v in (*VERSIONS, "2.0.0")}


def test_one_that_others_always_overtake_is_told(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hubcli.index import edit as editing

    now, real = document(index), editing.edit

    def meanwhile(*args: Any, **more: Any) -> Any:
        made = real(*args, **more)
        now["description"] += "."
        write(index, now)
        return made

    monkeypatch.setattr(editing, "edit", meanwhile)
    with pytest.raises(RaceError, match="changed by others"):
        api.yank("acme/films@1.2.0", reason="wrong labels", index=index)
    assert not any(one["yanked"] for one in document(index)["releases"])


@pytest.mark.parametrize("link", ["acme", "acme/films.json"])
def test_what_lies_behind_a_link_is_not_edited(index: Path, tmp_path: Path, link: str) -> None:
    (index / link).rename(tmp_path / "moved")
    (index / link).symlink_to(tmp_path / "moved")
    raw = (index / "acme/films.json").read_bytes()
    with pytest.raises(EntryError, match=link) as refused:
        api.yank("acme/films@1.2.0", reason="wrong labels", index=index)
    assert refused.value.id == "E_PATH_UNSAFE" and (index / "acme/films.json").read_bytes() == raw


@pytest.mark.parametrize("of", ["folder", "git"])
def test_a_replacement_in_another_entry_is_looked_at_too(index: Path, tmp_path: Path, of: str) -> None:
    if of == "git":
        index = checkout(tmp_path / "repo", entry("acme/films"), entry("acme/other"))
        write(index, entry("acme/books"))  # not committed: an edit reads what lies there
    call = {"reason": "x", "index": index}
    ref = "acme/films@1.0.0"
    before = folder_state(index)
    with pytest.raises(NotFoundError, match=r"acme/books has no version 9\.9\.9"):
        api.yank(ref, replacement="acme/books@9.9.9", **call)
    assert folder_state(index) == before
    assert api.yank(ref, replacement="acme/books@1.0.0", **call, dry_run=True)["releases"][0]["yanked"]["replacement"]
    api.deprecate("acme/books@1.0.0", reason="x", status="quarantined", index=index)
    with pytest.raises(UsageError, match="is quarantined itself"):
        api.yank(ref, replacement="acme/books", **call)
    api.yank("acme/books@1.0.0", **call)
    for replacement in ("acme/books@1.0.0", "acme/books"):
        with pytest.raises(UsageError, match="is yanked itself"):
            api.yank(ref, replacement=replacement, **call)
    assert document(index)["releases"][0].get("yanked") is None


def test_a_faulty_entry_is_left_alone(index: Path) -> None:
    write(index, entry("acme/books", release(flavour="new")))
    raw = (index / "acme/books.json").read_bytes()
    with pytest.raises(HubcliError, match="flavour"):
        api.yank("acme/books@1.0.0", reason="x", index=index)
    assert (index / "acme/books.json").read_bytes() == raw


@pytest.mark.parametrize(
    ("ref", "changed"),
    [("acme/films", VERSIONS), ("acme/films@1.1.0", ("1.1.0",)), ("acme/films@^1.1", ("1.1.0", "1.2.0")), ("acme/books", ("1.0.0",))],
)  # fmt: skip
@pytest.mark.parametrize("status", ["deprecated", "archived", "quarantined"])
def test_a_status_of_some_releases_or_of_all(index: Path, ref: str, changed: tuple[str, ...], status: str) -> None:
    name = ref.partition("@")[0]
    raw = (index / f"{name}.json").read_bytes()
    report = api.deprecate(ref, status=status, reason="old data", index="acme")
    assert tuple(row["version"] for row in report["releases"]) == changed
    now = {r["version"]: (r["status"], r.get("status_reason")) for r in document(index, name)["releases"]}
    assert now == {v: (status, "old data") if v in changed else ("active", None) for v in now}
    assert not api.deprecate(ref, status=status, reason="old data", index="acme")["changed"]
    assert not check_folder(index, against=folder_state(write(index.parent / "old", json.loads(raw)))).faults[1:]
    assert api.deprecate(ref, status="active", index="acme")["changed"]
    back = document(index, name)
    for one in back["releases"]:
        assert one.pop("status_reason", None) is None
    assert back == json.loads(raw)


def test_a_status_needs_a_reason(index: Path) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        api.deprecate("acme/films", index=index)
    with pytest.raises(UsageError, match="--status"):
        api.deprecate("acme/films", status="gone", reason="x", index=index)


def rows_of_the_help() -> dict[str, str]:
    """The table of `yank --help`: what is asked for → what it says."""
    text = hubcli("yank", "--help").out.partition("yanked:")[2].partition("The release and its files")[0]
    return dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in text.strip().splitlines())  # type: ignore[misc]


def test_the_help_says_what_happens(index: Path) -> None:
    told = rows_of_the_help()
    api.yank("acme/films@1.2.0", reason="trained on the test set", index=index)
    asked = {row: said for row, said in told.items() if row.startswith("acme/")}
    assert len(asked) == 4 and len(told) == 7
    for ref, said in asked.items():
        if said.startswith("refused"):
            with pytest.raises(YankedError) as caught:
                api.resolve(ref)
            assert (caught.value.id, caught.value.exit_code) == ("E_YANKED", 6)
        else:
            found = api.resolve(ref)
            assert (found.version, bool(found.warnings)) == (said.split(",")[0], "warning" in said)


def test_the_help_says_what_happens_to_what_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = rows_of_the_help()
    folder = IndexFolder(tmp_path / "index")
    folder.add("acme/films", *VERSIONS)
    api.index_add("acme", str(folder.folder))
    monkeypatch.chdir(tmp_path)
    Path("adapters.toml").write_text('[adapters]\n"acme/films" = "^1.0"\n')
    api.lock()
    api.yank("acme/films@1.2.0", reason="trained on the test set", index="acme")
    said: list[str] = []
    (row,) = api.sync(warn=said.append)["installed"]
    assert told["sync, 1.2.0 locked"] == "1.2.0, with a warning" and row["version"] == "1.2.0"
    assert any("trained on the test set" in line for line in said)
    api.lock(upgrade=True)
    assert f'version = "{told["lock --upgrade"]}"' in Path("adapters.lock").read_text()
    assert told["installed 1.2.0"] == "stays, and runs, with a warning" and api.verify("acme/films@1.2.0")["ok"]


def test_in_a_checkout_the_commit_is_left_to_a_person(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "a repo", entry("acme/films", *(release(v) for v in VERSIONS)), under="our index")
    answer = hubcli("yank", "acme/films@1.2.0", "--reason", "it's wrong", "--index", str(folder))
    assert answer.code == 0 and "is yanked since" in answer.out
    line = answer.out.splitlines()[-1].removeprefix("next: ")
    assert git(folder, "status", "--porcelain").endswith('acme/films.json"')
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@x")
    assert subprocess.run(line, shell=True, check=False, capture_output=True, cwd=tmp_path).returncode == 0
    assert (
        git(folder, "status", "--porcelain") == ""
        and git(folder, "log", "-1", "--format=%s") == "Yank acme/films 1.2.0"
    )
    assert api.index_check(folder, against="main")["ok"]
    again = hubcli("yank", "acme/films@1.2.0", "--reason", "it's wrong", "--index", str(folder), "--json").document
    assert not again["changed"] and again["index"]["next"] is None


def test_the_command_line_says_what_it_did(index: Path) -> None:
    dry = hubcli("deprecate", "acme/films@1.0.0", "--reason", "old", "--index", str(index), "--dry-run")
    assert dry.out == f"acme/films 1.0.0 is deprecated: old\nwould be written: {index / 'acme/films.json'}\n"
    done = hubcli("deprecate", "acme/films@1.0.0", "--reason", "old", "--json")
    assert done.document["changed"] and done.document["index"]["kind"] == "folder"
    assert "nothing to change" in hubcli("deprecate", "acme/films@1.0.0", "--reason", "old").out
    assert hubcli("yank", "acme/films@1.0.0", "--json").code == 2
    assert hubcli("yank", "acme/nosuch@1.0.0", "--reason", "x").code == 3


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    allow_loopback(monkeypatch)
    with LiveHub(tmp_path / "hub", token=TOKEN) as live:
        monkeypatch.setenv("HF_ENDPOINT", live.url)
        yield live


def test_on_the_hub_it_is_a_pull_request(hub: LiveHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = entry("acme/films", release("1.0.0"), release("1.1.0"))
    client = HfApi(endpoint=hub.url, token=TOKEN)
    client.create_repo("acme/index", repo_type="dataset")
    client.upload_folder(repo_id="acme/index", repo_type="dataset", folder_path=write(tmp_path / "i", old))
    where = "hf:datasets/acme/index"
    more = {**old, "description": "Something else.", "releases": [old["releases"][0], release("1.1.0", yanked=yank())]}
    client.upload_file(
        path_or_fileobj=json.dumps(more).encode(), path_in_repo="acme/films.json", repo_id="acme/index", repo_type="dataset",
        create_pr=True, commit_message="Yank acme/films 1.1.0",
    )  # fmt: skip
    with pytest.raises(HubcliError) as caught:
        api.yank("acme/films@1.1.0", reason="wrong labels", index=where)
    assert caught.value.id == "E_DENIED"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert (
        api.yank("acme/films@1.1.0", reason="wrong labels", index=where, dry_run=True)["index"]["pull_request"] is None
    )
    report = api.yank("acme/films@1.1.0", reason="wrong labels", index=where)
    page = report["index"]["pull_request"]
    assert report["changed"] and page.startswith(f"{hub.url}/datasets/acme/index/discussions/")
    again = api.yank("acme/films@1.1.0", reason="wrong labels", index=where)
    assert not again["changed"] and again["index"]["pull_request"] == page
    number = int(page.rpartition("/")[2])
    assert number == 2, "a pull request that is called so and holds more is not taken for it"
    api.index_add("acme", where)
    assert api.resolve("acme/films").version == "1.1.0"
    client.merge_pull_request("acme/index", number, repo_type="dataset")
    api.index_update("acme")
    assert api.resolve("acme/films").version == "1.0.0"
    assert not api.yank("acme/films@1.1.0", reason="wrong labels", index="acme")["changed"]
