"""A hub whose answers are valid JSON of another shape: said in one line, and what may have been written is looked at again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hubcli.errors import NetworkError, PolicyError
from hubcli.progress import Silent
from hubcli.publishing.into_hub import IntoHub
from hubcli.publishing.push import look, push
from hubcli.publishing.refused import AGAIN, LostError
from hubcli.publishing.repository import Repository
from tests.publish.hubs import Wire, api_of, publications
from tests.publish.pushed import draft_of
from tests.support.hub_server import LiveHub

REPO = "acme/films-lora"
HEAD = "0" * 40
READS: dict[str, tuple[str, Any, Callable[[Repository], object]]] = {
    "whoami": ("whoami", [], Repository.accounts),
    "orgs": ("whoami", {"name": "acme", "orgs": ["a"]}, Repository.accounts),
    "auth": ("whoami", {"name": "acme", "auth": "read"}, Repository.accounts),
    "refs": ("/refs", [], Repository.state),
    "tags": ("/refs", {"branches": [], "tags": [{"name": "v1"}]}, Repository.state),
    "info": (f"/api/models/{REPO}", {}, Repository.state),
    "tree": ("/tree/", [{"type": "file"}], lambda it: it.files(HEAD)),
    "date": ("/commits/", [{"id": HEAD, "title": "a", "message": "", "authors": [], "date": "today"}],
             lambda it: it.history(HEAD)),
    "no commits": ("/commits/", [], lambda it: it.history(HEAD)),
    "proposals": ("/discussions", {"discussions": [{}], "count": 1, "start": 0},
                  lambda it: IntoHub(it).waiting("acme/films", "1.0.0")),
}  # fmt: skip


def answering(wire: Wire, where: str, document: Any, status: int = 200) -> None:
    wire.answer = lambda line: (status, json.dumps(document).encode()) if where in line else None


def pushed(repository: Repository, said: list[str] | None = None) -> Any:
    draft, say = draft_of(), (said if said is not None else []).append
    seen = look(repository, draft)
    return push(repository, draft, seen, private=False, message=None, say=say, progress=Silent(), sleep=lambda _: None)


@pytest.mark.parametrize("case", READS)
def test_what_is_read(hub: LiveHub, wire: Wire, case: str) -> None:
    api_of(hub).create_repo(REPO)
    where, document, read = READS[case]
    answering(wire, where, document)
    with pytest.raises(NetworkError, match="does not answer as a hub does") as refused:
        read(Repository(REPO))
    assert refused.value.cause and "HF_ENDPOINT" in str(refused.value.hint)
    assert not isinstance(refused.value, LostError)


@pytest.mark.parametrize("where", ["/api/repos/create", "/preupload/", "/commit/"])
def test_what_is_written_may_be_there(hub: LiveHub, wire: Wire, where: str) -> None:
    answering(wire, where, {})
    with pytest.raises(LostError, match="does not answer as a hub does") as refused:
        pushed(Repository(REPO))
    assert refused.value.hint == AGAIN
    wire.answer = lambda _: None
    done = pushed(Repository(REPO))
    assert publications(hub, REPO) == ([done.commit], {"v1.0.0": done.commit})


def test_a_page_instead_of_the_answer_to_a_commit(hub: LiveHub, wire: Wire) -> None:
    wire.answer = lambda line: (200, b"<html>log in</html>") if "POST" in line and "/commit/" in line else None
    with pytest.raises(LostError, match="found a web page") as refused:
        pushed(Repository(REPO))
    assert refused.value.hint == AGAIN


def test_a_card_that_the_hub_refuses(hub: LiveHub, wire: Wire) -> None:
    answering(wire, "/validate-yaml", {"errors": [{"message": '"license" must be known'}], "warnings": []}, 400)
    with pytest.raises(PolicyError, match=r"README\.md.*\"license\" must be known") as refused:
        pushed(Repository(REPO))
    assert not isinstance(refused.value, NetworkError) and publications(hub, REPO)[0] == []
