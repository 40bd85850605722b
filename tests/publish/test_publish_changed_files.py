"""A folder that changes, or goes, while it is published: nothing unchecked is committed, and the hub is not blamed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hubcli.errors import ContentError
from hubcli.progress import Silent
from hubcli.publishing import sent
from hubcli.publishing.draft import Draft
from hubcli.publishing.push import look, push
from hubcli.publishing.repository import Repository
from tests.publish.hubs import Wire, publications
from tests.publish.pushed import draft_of
from tests.support.hub_server import LiveHub

REPO, WEIGHTS = "acme/films-lora", "adapter_model.safetensors"


def draft_from(folder: Path) -> Draft:
    """A draft whose files lie in the folder, as the checks leave them."""
    made = draft_of()
    return replace(made, files=tuple(replace(file, source=folder / file.path, data=None) for file in made.files))


def pushed(draft: Draft) -> None:
    repository = Repository(REPO)
    seen = look(repository, draft)
    push(
        repository, draft, seen,
        private=False, message=None, say=lambda _: None, progress=Silent(), sleep=lambda _: None,
    )  # fmt: skip


def rewrite(file: Path) -> None:
    """Other bytes of the same size."""
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


CHANGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "rewritten": (lambda folder: rewrite(folder / WEIGHTS), "changed while it was published", "E_HASH"),
    "longer": (lambda folder: (folder / WEIGHTS).write_bytes(b"x" * 9000), "changed while it was published", "E_SIZE"),
    "removed": (lambda folder: (folder / WEIGHTS).unlink(), "is gone", "E_HASH"),
    "folder": (shutil.rmtree, "is gone", "E_HASH"),
}


@pytest.mark.parametrize("held", [sent.HELD, 0], ids=["from memory", "from the disk"])
@pytest.mark.parametrize("case", CHANGES)
def test_before_the_commit(
    hub: LiveHub, wire: Wire, folder: Path, monkeypatch: pytest.MonkeyPatch, case: str, held: int
) -> None:
    monkeypatch.setattr(sent, "HELD", held)
    change, words, id = CHANGES[case]
    draft = draft_from(folder)
    wire.when, wire.meanwhile = "POST /api/repos/create", lambda: change(folder)
    with pytest.raises(ContentError, match=words) as refused:
        pushed(draft)
    assert str(folder) in refused.value.message and refused.value.id == id
    assert "same command again" in str(refused.value.hint)
    assert publications(hub, REPO) == ([], {})


def test_before_it_is_compared_with_what_is_there(hub: LiveHub, folder: Path) -> None:
    draft = draft_from(folder)
    pushed(draft)
    rewrite(folder / "adapter_config.json")
    with pytest.raises(ContentError, match=r"adapter_config\.json changed while"):
        pushed(draft)


def test_a_large_file_while_it_is_sent(hub: LiveHub, wire: Wire, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "HELD", 0)
    draft = draft_from(folder)
    wire.when, wire.meanwhile = "/preupload/", lambda: (folder / WEIGHTS).write_bytes(b"x" * 816)
    with pytest.raises(ContentError, match=f"{WEIGHTS} changed while"):
        pushed(draft)
    assert publications(hub, REPO)[1] == {}


def test_after_the_commit_the_hub_is_right(hub: LiveHub, wire: Wire, folder: Path) -> None:
    """Whatever way other bytes took: where the folder has them too, it is no fault of the hub's."""
    draft = draft_from(folder)
    wire.when, wire.meanwhile = "/resolve/", lambda: (folder / WEIGHTS).write_bytes(b"x" * 816)
    wire.answer = lambda line: (200, b"x" * 816) if "/resolve/" in line and WEIGHTS in line else None
    with pytest.raises(ContentError, match=f"{WEIGHTS} changed while") as refused:
        pushed(draft)
    assert "the hub" not in str(refused.value.hint)
