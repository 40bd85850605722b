"""The push, by the real client against the project's hub: one commit, one tag, whatever breaks and whoever else is there."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd

from hubcli.errors import ContentError, EntryError, HubcliError, NetworkError, OfflineError, RaceError, UsageError
from hubcli.progress import Silent
from hubcli.publishing.push import Pushed, check_private, look, push
from hubcli.publishing.repository import Repository
from tests.publish.hubs import TOKEN, Wire, api_of, go_online, publications
from tests.publish.pushed import draft_of
from tests.support.adapters import lora_files
from tests.support.hub_server import LiveHub

numbers = itertools.count()
SECOND = {**lora_files(fill=0.02), "LICENSE": b"Apache"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveHub, Wire]]:
    wire = Wire()
    with LiveHub(tmp_path_factory.mktemp("hub"), token=TOKEN, wrap=wire.wrap) as hub:
        yield hub, wire


@pytest.fixture
def hub(served: tuple[LiveHub, Wire], monkeypatch: pytest.MonkeyPatch) -> LiveHub:
    go_online(monkeypatch, served[0])
    return served[0]


@pytest.fixture
def wire(served: tuple[LiveHub, Wire]) -> Iterator[Wire]:
    wire = served[1]
    wire.__init__()  # type: ignore[misc]
    yield wire
    wire.__init__()  # type: ignore[misc]


@pytest.fixture
def repository(hub: LiveHub) -> Repository:
    return Repository(f"acme/films-{next(numbers)}")


def pushed(repository: Repository, draft: Any, **more: Any) -> Pushed:
    said: list[str] = more.pop("said", [])
    return push(
        repository, draft, look(repository, draft), say=said.append, progress=Silent(), sleep=lambda _: None,
        **{"private": False, "message": None, **more},
    )  # fmt: skip


def commit(hub: LiveHub, repo: str, operations: list[CommitOperationAdd], title: str) -> None:
    """As someone else."""
    api_of(hub).create_commit(repo, operations, commit_message=title)


def test_one_commit_one_tag_and_the_same_again(
    hub: LiveHub, wire: Wire, repository: Repository, tmp_path: Path
) -> None:
    draft = draft_of()
    first = pushed(repository, draft)
    assert publications(hub, repository.name) == ([first.commit], {"v1.0.0": first.commit})
    folder = Path(api_of(hub).snapshot_download(repository.name, revision="v1.0.0", cache_dir=tmp_path))
    assert {f.path: (folder / f.path).read_bytes() for f in draft.files} == {f.path: f.data for f in draft.files}
    wire.seen.clear()
    again = pushed(repository, draft)
    assert (again.commit, again.when, again.wrote, wire.writes) == (first.commit, first.when, False, [])
    asked = [line for line in wire.seen if "/resolve/" in line]
    assert len(asked) == len(draft.files), "verified means read again"


def test_the_next_release_takes_away_what_ours_left_alone(hub: LiveHub, repository: Repository) -> None:
    first = draft_of({**lora_files(), "labels.json": b"[]", "notes.md": b"ours"})
    pushed(repository, first)
    api_of(hub).create_commit(
        repository.name,
        [CommitOperationAdd("theirs.txt", b"theirs"), CommitOperationAdd("notes.md", b"rewritten by hand")],
        commit_message="by hand",
    )
    second = draft_of(SECOND, version="1.1.0")
    seen = look(repository, second)
    assert (seen.added, set(seen.changed)) == (("LICENSE",), {"README.md", "adapter_model.safetensors"})
    assert seen.deleted == ("labels.json",) and set(seen.kept) == {".gitattributes", "theirs.txt", "notes.md"}
    done = pushed(repository, second)
    files = set(api_of(hub).list_repo_files(repository.name))
    assert files == {f.path for f in second.files} | {".gitattributes", "theirs.txt", "notes.md"}
    assert publications(hub, repository.name)[1].keys() == {"v1.0.0", "v1.1.0"}
    assert pushed(repository, first).wrote is False, "the older one is there still"
    assert done.wrote


def test_the_same_bytes_as_another_version_need_no_commit(hub: LiveHub, repository: Repository) -> None:
    first = pushed(repository, draft_of())
    second = pushed(repository, draft_of(version="2.0.0"))
    assert second.commit == first.commit and second.wrote
    assert len(publications(hub, repository.name)[0]) == 1


@pytest.mark.parametrize("version", ["1.0.0", "1.0.0+build"])
def test_a_tag_with_other_bytes_is_refused(hub: LiveHub, wire: Wire, repository: Repository, version: str) -> None:
    pushed(repository, draft_of())
    wire.seen.clear()
    with pytest.raises(EntryError) as refused:
        look(repository, draft_of(SECOND, version=version))
    assert refused.value.id == "E_IMMUTABLE" and "LICENSE" in refused.value.message and not wire.writes


# What is taken away


def listed(*files: tuple[str, bytes]) -> str:
    return "\n".join(f"{hashlib.sha256(data).hexdigest()}  {path}" for path, data in files)


OURS, BOOKS = "Publish acme/films 0.9.0\n\n", "Publish acme/books 0.9.0\n\n"
BOTH = (("labels.json", b"[]"), ("notes.md", b"n"))


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        (OURS + listed(*BOTH), {"labels.json", "notes.md"}),
        (BOOKS + listed(*BOTH), set()),
        ("thanks\n\n" + listed(*BOTH), set()),
        (listed(*BOTH), set()),
        (OURS + listed(("labels.json", b"[1]"), ("notes.md", b"n")), {"notes.md"}),
        (OURS + listed(("labels.json", b"[1]"), ("nosuch", b"n")), set()),
    ],
    ids=["ours", "another adapter", "a stranger", "no name", "another hash", "nothing there"],
)
def test_only_what_a_release_of_this_name_left_is_taken_away(
    hub: LiveHub, repository: Repository, text: str, gone: set[str]
) -> None:
    api_of(hub).create_repo(repository.name)
    files = {**lora_files(), "labels.json": b"[]", "notes.md": b"n"}
    api_of(hub).create_commit(
        repository.name, [CommitOperationAdd(path, data) for path, data in files.items()],
        commit_message="a title of its own", commit_description=text,
    )  # fmt: skip
    commit(hub, repository.name, [CommitOperationAdd("theirs.txt", b"theirs")], "by hand")
    seen = look(repository, draft_of(SECOND, version="1.1.0"))
    assert set(seen.deleted) == gone and "theirs.txt" in seen.kept
    assert seen.others == (("acme/books",) if text.startswith(BOOKS) else ())


def test_a_large_file_is_compared_by_the_hash_that_the_hub_has(
    hub: LiveHub, wire: Wire, repository: Repository
) -> None:
    pushed(repository, draft_of({**lora_files(), "more.safetensors": b"x" * 64}))
    wire.seen.clear()
    assert look(repository, draft_of(version="1.1.0")).deleted == ("more.safetensors",)
    assert not [line for line in wire.seen if "/resolve/" in line], "nothing is fetched"


def test_a_version_that_can_name_no_tag_is_refused_before_the_push(hub: LiveHub, wire: Wire) -> None:
    with pytest.raises(UsageError, match=r"v1\.0\.0-a\.lock"):
        look(Repository("acme/films"), draft_of(version="1.0.0-a.lock"))
    assert not wire.seen


@pytest.mark.parametrize("endpoint", ["https://user:s3cret@hub.example", "hub.example"])
def test_a_hub_with_a_password_in_its_url_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """As everything that reads from it refuses it: each message and each report names the hub."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(UsageError, match="HF_ENDPOINT") as refused:
        Repository("acme/films", token=TOKEN)
    assert refused.value.id == "E_CONFIG" and "s3cret" not in f"{refused.value} {refused.value.hint}"


# What breaks

WRITES = ("/api/repos/create", "/preupload/", "/commit/", "/tag/")


@pytest.mark.parametrize(("where", "how"), [*itertools.product(WRITES, ("before", "after"))])
def test_an_answer_that_is_lost(hub: LiveHub, wire: Wire, repository: Repository, where: str, how: str) -> None:
    wire.cut = (where, how)
    try:
        pushed(repository, draft_of())
    except NetworkError as error:
        assert "run the same command again" in (error.hint or "")
    assert wire.cut is None, "the connection was cut"
    done = pushed(repository, draft_of())
    assert publications(hub, repository.name) == ([done.commit], {"v1.0.0": done.commit})


def test_a_server_that_is_down_is_asked_a_few_times(hub: LiveHub, wire: Wire, repository: Repository) -> None:
    wire.answer = lambda line: (503, b'{"error": "down"}') if "/commit/" in line else None
    with pytest.raises(NetworkError, match="503"):
        pushed(repository, draft_of())
    assert len([line for line in wire.seen if "/commit/main" in line and "POST" in line]) == 4
    wire.answer = lambda _: None
    assert pushed(repository, draft_of()).wrote


# Who else is there


def test_someone_else_commits_in_between(hub: LiveHub, wire: Wire, repository: Repository) -> None:
    pushed(repository, draft_of())
    wire.when = f"POST /api/models/{repository.name}/commit/"
    theirs = [CommitOperationAdd("theirs.txt", b"theirs")]
    wire.meanwhile = lambda: commit(hub, repository.name, theirs, "by hand")
    said: list[str] = []
    done = pushed(repository, draft_of(SECOND, version="1.1.0"), said=said)
    assert any("someone else" in line for line in said)
    assert "theirs.txt" in api_of(hub).list_repo_files(repository.name, revision=done.commit)
    assert len(publications(hub, repository.name)[0]) == 2


def test_someone_else_changes_the_same_file(hub: LiveHub, wire: Wire, repository: Repository) -> None:
    pushed(repository, draft_of())
    wire.when = f"POST /api/models/{repository.name}/commit/"
    theirs = [CommitOperationAdd("README.md", b"# theirs\n")]
    wire.meanwhile = lambda: commit(hub, repository.name, theirs, "by hand")
    with pytest.raises(RaceError) as refused:
        pushed(repository, draft_of(SECOND, version="1.1.0"))
    assert "README.md" in refused.value.message and refused.value.id == "E_RACE"
    names, tags = publications(hub, repository.name)
    assert len(names) == 1 and tags.keys() == {"v1.0.0"}
    assert pushed(repository, draft_of(SECOND, version="1.1.0")).wrote, "said twice, it goes on top"


def test_another_process_publishes_the_same(hub: LiveHub, wire: Wire, repository: Repository) -> None:
    wire.when = f"POST /api/models/{repository.name}/commit/"
    same = [CommitOperationAdd(file.path, file.data) for file in draft_of().files]
    wire.meanwhile = lambda: commit(hub, repository.name, same, "Publish it elsewhere")
    done = pushed(repository, draft_of())
    assert publications(hub, repository.name) == ([done.commit], {"v1.0.0": done.commit})


def test_the_tag_is_set_in_between(hub: LiveHub, wire: Wire, repository: Repository) -> None:
    wire.when = f"POST /api/models/{repository.name}/tag/"
    wire.meanwhile = lambda: api_of(hub).create_tag(repository.name, tag="v1.0.0", revision="main")
    done = pushed(repository, draft_of())
    assert publications(hub, repository.name) == ([done.commit], {"v1.0.0": done.commit})


# What comes back


@pytest.mark.parametrize(
    "wrong", [b"x" * 816, b"x" * 815, b"x" * 817, None], ids=["bytes", "shorter", "longer", "gone"]
)
def test_what_comes_back_is_not_what_was_sent(
    hub: LiveHub, wire: Wire, repository: Repository, wrong: bytes | None
) -> None:
    (weights,) = (file for file in draft_of().files if file.path == "adapter_model.safetensors")
    assert weights.size == 816
    status = 404 if wrong is None else 200
    wire.answer = lambda line: (status, wrong or b"") if "/resolve/" in line and "model.safetensors" in line else None
    with pytest.raises(ContentError) as refused:
        pushed(repository, draft_of())
    assert weights.path in refused.value.message and weights.sha256 in refused.value.message
    assert wrong is None or len(wrong) > 816 or hashlib.sha256(wrong).hexdigest() in refused.value.message
    assert publications(hub, repository.name)[1] == {}, "what is wrong gets no tag"


# Who may


@pytest.mark.parametrize("step", ["accounts", "look", "push"])
def test_the_network_is_off(hub: LiveHub, wire: Wire, step: str) -> None:
    repository = Repository("acme/films", offline="--offline")
    calls: dict[str, Any] = {
        "accounts": repository.accounts,
        "look": lambda: look(repository, draft_of()),
        "push": lambda: repository.create(private=False),
    }
    with pytest.raises(OfflineError) as refused:
        calls[step]()
    assert "--offline" in str(refused.value.hint) and not wire.seen


def test_tokens(hub: LiveHub, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NetworkError) as missing:
        Repository("acme/films").accounts()
    assert missing.value.id == "E_DENIED" and "hf auth login" in str(missing.value.hint) and not wire.seen
    wrong = "hf_not-the-right-one"
    caplog.set_level(logging.DEBUG)
    for call in (Repository.accounts, lambda one: one.create(private=False)):
        with pytest.raises(HubcliError) as denied:
            call(Repository("acme/films", token=wrong))
        assert denied.value.id == "E_DENIED" and wrong not in f"{denied.value} {denied.value.hint} {denied.value.cause}"
    assert wrong not in caplog.text
    wire.answer = lambda line: (403, f'{{"error": "no, {TOKEN}"}}'.encode())
    with pytest.raises(NetworkError) as denied:
        Repository("acme/films", token=TOKEN).may_write()
    assert denied.value.id == "E_DENIED" and TOKEN not in str(denied.value) and "403" in denied.value.message


@pytest.mark.parametrize("name", ["films", "a/b/c", "acme/fi..lms", "acme/films.git", "acme/fülms", "/films", "acme/"])
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises(UsageError):
        Repository(name)


def test_private(hub: LiveHub, repository: Repository) -> None:
    pushed(repository, draft_of(), private=True)
    assert api_of(hub).model_info(repository.name).private
    seen = look(repository, draft_of())
    check_private(repository, seen, True)
    api_of(hub).update_repo_settings(repository.name, private=False)
    with pytest.raises(UsageError, match="public"):
        check_private(repository, look(repository, draft_of()), True)
