"""Old ids of repos: where they lead, until when, and what is never done to a repo by an id it has no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from hubcli.errors import BusyError
from hubcli.server import disk, import_folder, whole
from hubcli.server.faults import RepoMissing
from hubcli.server.objects import Settings, timestamp
from hubcli.server.repos import RepoStore
from tests.support.hub_server import LiveHub

TOKEN = "writes"


def test_a_repo_is_deleted_and_moved_by_the_id_it_has(tmp_path: Path, online: None) -> None:
    """A client whose answer was lost sends its delete once more: the repo that was moved away stays."""
    with LiveHub(tmp_path / "hub", token=TOKEN) as hub:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        api.create_repo("acme/a")
        api.move_repo("acme/a", "acme/b")
        for late in (lambda: api.delete_repo("acme/a"), lambda: api.move_repo("acme/a", "acme/c")):
            with pytest.raises(RepositoryNotFoundError, match="acme/b now"):
                late()
        assert api.model_info("acme/a").id == "acme/b"
        api.create_repo("acme/a")
        api.delete_repo("acme/a")
        api.delete_repo("acme/a", missing_ok=True)
        assert [one.id for one in api.list_models()] == ["acme/b"]
        assert not api.repo_exists("acme/a")


@pytest.mark.parametrize(
    ("steps", "leads"),
    [
        (["+a", "a>b"], {"a": "b", "b": "b"}),
        (["+a", "a>b", "b>a"], {"a": "a", "b": "a"}),
        (["+a", "a>b", "b>a", "a>b"], {"a": "b", "b": "b"}),
        (["+a", "a>b", "+a", "-a"], {"a": "", "b": "b"}),
        (["+a", "a>b", "i:a", "-a"], {"a": "", "b": "b"}),
        (["+a", "a>b", "+a", "a>c", "-c"], {"a": "", "b": "b", "c": ""}),
        (["+a", "a>b", "-b", "+b"], {"a": "", "b": "b"}),
        (["+a", "a>b", "-b", "i:b"], {"a": "", "b": "b"}),
        (["+a", "a>b", "-b", "+c", "c>b"], {"a": "", "b": "b", "c": "b"}),
        (["+a", "a>b", "b>c", "+b"], {"a": "c", "b": "b", "c": "c"}),
        (["+a", "a>b", "b>c", "c>a", "+b"], {"a": "a", "b": "b", "c": "a"}),
        (["+x", "x>a", "a>b", "b>a"], {"x": "a", "a": "a", "b": "a"}),
    ],
    ids=str,
)
def test_where_an_old_id_leads(hub: Path, sources: None, steps: list[str], leads: dict[str, str]) -> None:
    """`+` makes a repo, `i:` imports one, `-` deletes it, `>` moves it; "" is a repo that is not there."""
    store = RepoStore(hub)
    for step in steps:
        if step.startswith("i:"):
            import_folder(hub, f"acme/{step[2:]}", hub.parent / "one")
        elif step[0] == "+":
            whole.create(store, Settings(f"acme/{step[1:]}", "model", timestamp(), "hub"), "member")
        elif step[0] == "-":
            whole.delete(store.repo("model", f"acme/{step[1:]}"))
        else:
            old, _, new = step.partition(">")
            whole.move(store.repo("model", f"acme/{old}"), f"acme/{new}")
    assert {name: found(store, name) for name in leads} == leads


def found(store: RepoStore, name: str) -> str:
    try:
        return store.repo("model", f"acme/{name}").id.removeprefix("acme/")
    except RepoMissing:
        return ""


def test_a_damaged_move_stops_nobody_else(hub: Path) -> None:
    store = RepoStore(hub)
    (hub / ".hub/moved/models/acme--y.json").mkdir(parents=True)
    (hub / ".hub/moved/models/acme--z.json").write_text("{")
    assert whole.create(store, Settings("acme/a", "model", timestamp(), "hub"), "member").id == "acme/a"


@pytest.mark.parametrize("name", ["a.moved.json", "a.json", "moved"])
def test_a_repo_may_have_any_name_beside_one_that_moved(hub: Path, name: str) -> None:
    store = RepoStore(hub)
    for made in ("a", name):
        whole.create(store, Settings(f"acme/{made}", "model", timestamp(), "hub"), "member")
    whole.move(store.repo("model", "acme/a"), "acme/b")
    for made in ("a", "c"):
        whole.create(store, Settings(f"acme/{made}", "model", timestamp(), "hub"), "member")
    whole.move(store.repo("model", f"acme/{name}"), "acme/d")
    assert {one: found(store, one) for one in ("a", "b", "c", name)} == {"a": "a", "b": "b", "c": "c", name: "d"}


def test_where_an_old_id_leads_is_changed_by_one_at_a_time(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`z` led to `x`, which is made anew; meanwhile somebody makes a repo of `z` and moves it."""
    store, real, tried = RepoStore(hub), RepoStore._onward, []

    def make(name: str) -> None:
        whole.create(store, Settings(f"acme/{name}", "model", timestamp(), "hub"), "member")

    def move(old: str, new: str) -> None:
        whole.move(store.repo("model", f"acme/{old}"), f"acme/{new}")

    def take_z() -> None:
        make("z")
        move("z", "taken")

    def late(self: RepoStore, path: Path) -> str | None:
        led = real(self, path)
        if path.name == "acme--z.json" and not tried:
            tried.append(led)
            with pytest.raises(BusyError):
                take_z()
        return led

    make("z")
    move("z", "x")
    move("x", "y")
    monkeypatch.setattr(disk, "SECONDS_TO_WAIT", 0)
    monkeypatch.setattr(RepoStore, "_onward", late)
    make("x")
    assert tried == ["acme/x"]
    take_z()
    assert {name: found(store, name) for name in ("x", "y", "z")} == {"x": "x", "y": "y", "z": "taken"}
