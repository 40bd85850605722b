"""`hubcli publish` and `hubcli.publish` whole, but for the checks of the folder: kills, dry runs, compositions, pull requests."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd

import hubcli
from hubcli import api
from hubcli.errors import EntryError, HubcliError, NetworkError, PolicyError, UsageError
from tests.publish.hubs import TOKEN, Wire, api_of, publications, run
from tests.publish.pushed import NAME, checkout, git, listing, owners
from tests.support.adapters import IndexFolder, lora_files
from tests.support.cli import hubcli as command_line
from tests.support.cli import validator
from tests.support.hub_server import LiveHub

REPO, INDEX, DATASET = "acme/films-lora", "hf:datasets/acme/index", "acme/index"
BRANCH = "publish/acme/films-1.0.0"
ACCOUNT = "member"  # whose the token is, on the project's hub
POINTS = (
    "publish-before-create",
    "publish-after-create",
    "publish-before-commit",
    "publish-after-commit",
    "publish-before-tag",
    "publish-after-tag",
    "publish-before-index",
)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """An index in a git checkout."""
    return checkout(tmp_path / "ours", {"index/_owners.json": owners(other=["other"])}) / "index"


def on_hub(hub: LiveHub, **files: str) -> None:
    """An index that is a dataset repository."""
    api = api_of(hub)
    api.create_repo(DATASET, repo_type="dataset")
    for path, text in files.items():
        api.upload_file(
            path_or_fileobj=text.encode(), path_in_repo=path.replace("__", "."), repo_id=DATASET, repo_type="dataset"
        )


def published(folder: Path, index: Path | str | None, version: str = "1.0.0", **more: Any) -> Any:
    document = hubcli.publish(folder, repo=REPO, name=NAME, version=version, index=index, **more)
    validator("publish").validate(document)
    return document


# Cut off by a kill


@pytest.mark.slow
@pytest.mark.parametrize("where", ["git", "hub"])
def test_kill_9_at_each_step_and_again(
    hub: LiveHub, wire: Wire, folder: Path, ours: Path, tmp_path: Path, where: str
) -> None:
    points = (*POINTS, "publish-before-ref") if where == "git" else (POINTS[-1], "publish-after-index")
    if where == "hub":
        on_hub(hub, _owners__json=owners(other=["other"]))
    for number, point in enumerate(points):
        repo, version = f"acme/films-{number}", f"1.{number}.0"
        index = str(ours) if where == "git" else INDEX
        call = ["publish", str(folder), "--repo", repo, "--name", NAME, "--version", version, "--index", index]
        killed = run(hub, tmp_path / "home", *call, point=point)
        assert killed.returncode == -9, (point, killed.stderr)
        wire.seen.clear()
        again = run(hub, tmp_path / "home", *call, "--json")
        assert again.returncode == 0, (point, again.stderr)
        document = json.loads(again.stdout)
        commit, tag = document["commit"], f"v{version}"
        assert publications(hub, repo) == ([commit], {tag: commit}), point
        entry = _entry_of(hub, ours, document)
        assert [(r["version"], r["hub"]["commit"]) for r in entry["releases"]] == [(version, commit)], point
        assert document["changed"] == (point != "publish-after-index")


def _entry_of(hub: LiveHub, ours: Path, document: Any) -> Any:
    """What the branch or the one pull request of a release has."""
    if document["index"]["kind"] == "git":
        return json.loads(git(ours, "show", f"{document['index']['branch']}:index/{NAME}.json"))
    api, title = api_of(hub), f"Publish {NAME} {document['version']}"
    (found,) = [one for one in api.get_repo_discussions(DATASET, repo_type="dataset") if one.title == title]
    assert document["index"]["pull_request"].endswith(f"/{found.num}")
    file = api.hf_hub_download(DATASET, f"{NAME}.json", repo_type="dataset", revision=f"refs/pr/{found.num}")
    return json.loads(Path(file).read_text())


# Into an index on the hub


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_pull_request_is_made_once(hub: LiveHub, wire: Wire, folder: Path, how: str) -> None:
    on_hub(hub, _owners__json=owners(other=["other"]))
    wire.cut = (f"POST /api/datasets/{DATASET}/commit/", how)
    first = published(folder, INDEX)
    assert wire.cut is None and first["changed"] and first["index"]["pull_request"].endswith("/discussions/1")
    wire.seen.clear()
    again = published(folder, INDEX)
    assert not again["changed"] and not wire.writes
    assert again["index"]["pull_request"] == first["index"]["pull_request"]
    client = api_of(hub)
    assert len(list(client.get_repo_discussions(DATASET, repo_type="dataset"))) == 1
    client.merge_pull_request(DATASET, 1, repo_type="dataset")
    merged = published(folder, INDEX)
    assert not merged["changed"] and merged["index"]["pull_request"] is None
    owned = client.hf_hub_download(DATASET, "_owners.json", repo_type="dataset")
    assert json.loads(Path(owned).read_text())["groups"]["acme"] == ["hub:acme", f"user:{ACCOUNT}"]
    assert any(f"hub:acme and user:{ACCOUNT}" in note for note in first["notes"])
    api.index_add("ours", INDEX)
    (installed,) = api.install(NAME)["installed"]
    assert {file["sha256"] for file in installed["files"]} == {file["sha256"] for file in first["files"]}


def test_the_index_on_the_hub_moves_in_between(hub: LiveHub, wire: Wire, folder: Path) -> None:
    on_hub(hub, _owners__json=owners(acme=["acme"]))
    wire.when = f"POST /api/datasets/{DATASET}/commit/"
    client = api_of(hub)
    wire.meanwhile = lambda: client.upload_file(
        path_or_fileobj=b"x", path_in_repo="other.md", repo_id=DATASET, repo_type="dataset"
    )
    assert published(folder, INDEX)["changed"]
    assert len(list(client.get_repo_discussions(DATASET, repo_type="dataset"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_cut_at_any_request(hub: LiveHub, wire: Wire, folder: Path, start: int) -> None:
    """Every ninth request of a publication is cut off from `start` on, in turn before and after the hub has done it."""
    on_hub(hub, _owners__json=owners(acme=["acme"]))
    api.publish(folder, name=NAME, version="1.0.0", repo=REPO, index=INDEX)
    total = len(wire.seen)
    assert total > 25
    for number in range(start, total + 1, 9):
        version, repo = f"1.{number}.0", f"acme/films-{number}"
        call = {"name": NAME, "version": version, "repo": repo, "index": INDEX}
        wire.seen.clear()
        wire.cut = (number, ("before", "after")[number // 9 % 2])
        with contextlib.suppress(NetworkError):
            api.publish(folder, **call)
        assert wire.cut is None or number > total - 5, "the first of a process asks a little more"
        wire.cut = None
        done = api.publish(folder, **call)
        assert publications(hub, repo) == ([done["commit"]], {f"v{version}": done["commit"]}), number
        titles = [one.title for one in api_of(hub).get_repo_discussions(DATASET, repo_type="dataset")]
        assert titles.count(f"Publish {NAME} {version}") == 1, number


# Twice, and not at all


def test_twice_and_a_dry_run(hub: LiveHub, wire: Wire, folder: Path, ours: Path, tmp_path: Path) -> None:
    call = ("publish", str(folder), "--repo", REPO, "--name", NAME, "--version", "1.0.0", "--index", str(ours))
    before = (listing(ours.parent), listing(ours.parent / ".git"), listing(folder))
    dry = command_line(*call, "--dry-run", "--json", "--private")
    assert any("private" in note for note in dry.document["notes"]) and dry.document["plan"]["repo"]["private"]
    assert dry.code == 0 and wire.writes == [] and dry.document["plan"]["changes"] and not dry.document["changed"]
    assert dry.document["plan"]["index"]["target"].startswith(f"branch {BRANCH}")
    assert (listing(ours.parent), listing(ours.parent / ".git"), listing(folder)) == before
    assert not api_of(hub).repo_exists(REPO)
    first = command_line(*call)
    assert first.code == 0 and first.out.startswith(f"published {NAME} 1.0.0") and f"push origin {BRANCH}" in first.out
    wire.seen.clear()
    again = command_line(*call)
    assert again.code == 0 and "already published (verified)" in again.out and not wire.writes
    assert TOKEN not in first.out + first.err + again.out + again.err + dry.out
    dry = command_line(*call, "--dry-run", "--json")
    assert not dry.document["plan"]["changes"] and dry.document["plan"]["index"]["state"] == "waiting"


def test_the_next_version_joins_and_an_edit_is_refused(hub: LiveHub, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "plain"
    place.mkdir()
    published(folder, place)
    first = (place / f"{NAME}.json").read_bytes()
    (folder / "adapter_config.json").write_bytes(lora_files(r=2, lora_alpha=8)["adapter_config.json"])
    with pytest.raises(EntryError) as refused:
        published(folder, place)
    assert refused.value.id == "E_IMMUTABLE" and (place / f"{NAME}.json").read_bytes() == first
    published(folder, place, "1.1.0")
    document = json.loads((place / f"{NAME}.json").read_bytes())
    assert [release["version"] for release in document["releases"]] == ["1.0.0", "1.1.0"]
    assert (place / f"{NAME}.json").read_bytes().startswith(first[: first.rindex(b"]")].rstrip())


def test_a_version_that_only_the_index_has(hub: LiveHub, wire: Wire, folder: Path, tmp_path: Path) -> None:
    IndexFolder(tmp_path / "plain").add(NAME)
    with pytest.raises(EntryError) as refused:
        published(folder, tmp_path / "plain")
    assert refused.value.id == "E_IMMUTABLE" and not wire.writes


def test_ctrl_c_says_how_it_goes_on(hub: LiveHub, wire: Wire, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = ("publish", str(folder), "--repo", REPO, "--name", NAME, "--version", "1.0.0", "--no-index")

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hubcli.publishing.push.read_back", stop)
        stopped = command_line(*call)
    assert stopped.code == 130 and "publishes nothing twice" in stopped.err and publications(hub, REPO)[1] == {}
    done = command_line(*call, "--json")
    assert done.code == 0 and publications(hub, REPO) == (
        [done.document["commit"]],
        {"v1.0.0": done.document["commit"]},
    )


REFUSED: dict[str, tuple[dict[str, Any], type[HubcliError], str]] = {
    "no repository": ({"repo": None}, UsageError, "E_USAGE"),
    "no name of one": ({"repo": "films"}, UsageError, "E_USAGE"),
    "index and none": ({"no_index": True, "index": "."}, UsageError, "E_USAGE"),
    "an entry's name": ({"name": "Acme/Films"}, UsageError, "E_USAGE"),
    "a group of others": ({"name": "other/films"}, PolicyError, "E_OWNER"),
    "no token": ({"token": "hf_wrong"}, NetworkError, "E_DENIED"),
    "no index": ({"index": None}, UsageError, "E_USAGE"),
}


@pytest.mark.parametrize("case", REFUSED, ids=REFUSED)
def test_refused_before_anything_is_written(hub: LiveHub, wire: Wire, folder: Path, ours: Path, case: str) -> None:
    more, kind, id = REFUSED[case]
    arguments = {"repo": REPO, "name": NAME, "version": "1.0.0", "index": ours, **more}
    with pytest.raises(kind) as refused:
        api.publish(folder, **arguments)
    assert refused.value.id == id and not wire.writes, refused.value


# Compositions


def test_a_composition_is_published_with_its_parts(hub: LiveHub, ours: Path, tmp_path: Path, wire: Wire) -> None:
    made = IndexFolder(ours)
    made.add("acme/books")
    IndexFolder(tmp_path / "elsewhere").add("acme/films")
    git(ours, "add", "-A")
    git(ours, "commit", "-q", "-m", "books")
    api.index_add("elsewhere", str(tmp_path / "elsewhere"))
    call = {"name": "acme/reviews", "version": "1.0.0", "index": ours, "description": "Both.", "authors": ["Acme"]}
    expr = "average(acme/films, acme/books)"
    with pytest.raises(UsageError, match="no files"):
        api.publish(expr, **{**call, "repo": REPO})
    dry = api.publish(expr, **call, dry_run=True)
    assert dry["plan"]["index"]["state"] == "new" and any("elsewhere" in note for note in dry["notes"])
    done = api.publish(expr, **call)
    validator("publish").validate(done)
    assert done["kind"] == "composition" and done["changed"] and done["repo"] is None
    assert not api.publish(expr, **call)["changed"]
    made.add("acme/books", "1.0.0", "1.4.0")
    assert not api.publish(expr, **call)["changed"], "ranges follow the newest version only once"
    git(ours, "commit", "-qam", "more books")
    git(ours, "merge", "-q", done["index"]["branch"])
    assert not api.publish(expr, **call)["changed"]
    with pytest.raises(EntryError) as refused:
        api.publish("stack(acme/films, acme/books)", **call)
    assert refused.value.id == "E_IMMUTABLE"
    api.index_add("ours", str(ours))
    installed = {row["name"] for row in api.install("acme/reviews")["installed"]}
    assert installed == {"acme/reviews", "acme/films", "acme/books"} and not wire.writes


def test_a_stranger_who_opens_one_of_the_same_name_is_in_nobodys_way(hub: LiveHub, wire: Wire, folder: Path) -> None:
    on_hub(hub, _owners__json=owners(other=["other"]))
    client = api_of(hub)
    client.create_commit(
        DATASET, [CommitOperationAdd(f"{NAME}.json", b"{}")], commit_message=f"Publish {NAME} 1.0.0", create_pr=True,
        repo_type="dataset",
    )  # fmt: skip
    with pytest.raises(EntryError) as own:
        published(folder, INDEX)
    assert "/discussions/1" in own.value.message and "close" in str(own.value.hint)
    wire.answer = lambda line: WHO if "whoami" in line else None
    assert published(folder, INDEX)["index"]["pull_request"].endswith("/discussions/2")


WHO = (200, json.dumps({"type": "user", "name": "acme", "orgs": []}).encode())


def test_the_pull_request_is_by_the_account_of_the_token(hub: LiveHub, wire: Wire, folder: Path) -> None:
    on_hub(hub, _owners__json=owners(other=["other"]))
    with pytest.raises(UsageError, match="not by alice"):
        published(folder, INDEX, by="alice")
    assert not api_of(hub).repo_exists(REPO), "said before the push"
    done = published(folder, INDEX, by=ACCOUNT.upper())
    assert done["index"]["pull_request"] and any(f"user:{ACCOUNT}" in note for note in done["notes"])


def test_who_proposes_is_told_on_the_command_line(hub: LiveHub, folder: Path, ours: Path) -> None:
    call = ["publish", str(folder), "--repo", REPO, "--name", NAME, "--version", "1.0.0"]
    dry = command_line(*call, "--index", str(ours), "--dry-run")
    assert "note: acme is a new group" in dry.out and "by no person" in dry.out
    done = command_line(*call, "--index", str(ours), "--by", "alice", "--json")
    assert done.code == 0 and any("hub:acme and user:alice" in note for note in done.document["notes"])
    assert "exclude" in command_line(*call, "--no-index", "--by", "alice").err


def test_a_page_that_is_no_hub(hub: LiveHub, wire: Wire, folder: Path) -> None:
    wire.answer = lambda _: (200, b"<html>log in</html>")
    with pytest.raises(NetworkError, match="found a web page"):
        published(folder, None, no_index=True)
