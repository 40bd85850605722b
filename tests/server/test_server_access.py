"""Who may read what, in the kinds of error the real client has for it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hubcli.errors import HubcliError
from hubcli.server.access import Access, Caller
from tests.server.served import FIRST, TOKEN, Served, read_tree, write_tree
from tests.support.hub_server import REDACTED, LiveHub

WRONG = "another-token"

# repo, revision, file, token → the client's error, status, the server's code
CASES = [
    ("acme/nope", "main", "README.md", False, RepositoryNotFoundError, 401, "RepoNotFound"),
    ("acme/nope", "main", "README.md", WRONG, RepositoryNotFoundError, 404, "RepoNotFound"),
    ("acme/nope", "main", "README.md", TOKEN, RepositoryNotFoundError, 404, "RepoNotFound"),
    ("acme/secret", "main", "README.md", False, RepositoryNotFoundError, 401, "RepoNotFound"),
    ("acme/secret", "main", "README.md", WRONG, RepositoryNotFoundError, 404, "RepoNotFound"),
    ("acme/secret", "v9", "README.md", WRONG, RepositoryNotFoundError, 404, "RepoNotFound"),
    ("acme/secret", "v9", "README.md", TOKEN, RevisionNotFoundError, 404, "RevisionNotFound"),
    ("acme/secret", "main", "nope", TOKEN, RemoteEntryNotFoundError, 404, "EntryNotFound"),
    ("acme/gated", "main", "README.md", False, GatedRepoError, 401, "GatedRepo"),
    ("acme/gated", "main", "README.md", WRONG, GatedRepoError, 403, "GatedRepo"),
    ("acme/gated", "main", "nope", WRONG, GatedRepoError, 403, "GatedRepo"),
    ("acme/demo", "v9", "README.md", False, RevisionNotFoundError, 404, "RevisionNotFound"),
    ("acme/demo", "0" * 40, "README.md", False, RevisionNotFoundError, 404, "RevisionNotFound"),
    ("acme/demo", "main", "nope", False, RemoteEntryNotFoundError, 404, "EntryNotFound"),
    ("acme/demo", "main", "sub", False, RemoteEntryNotFoundError, 404, "EntryNotFound"),
]


@pytest.mark.parametrize(("repo", "revision", "file", "token", "kind", "status", "code"), CASES, ids=str)
def test_the_kinds_of_no(
    served: Served,
    tmp_path: Path,
    repo: str,
    revision: str,
    file: str,
    token: str | bool,
    kind: type,
    status: int,
    code: str,
) -> None:
    wanted = {"revision": revision, "token": token, "endpoint": served.hub.url, "cache_dir": tmp_path}
    with pytest.raises(HfHubHTTPError) as caught:
        hf_hub_download(repo, file, **wanted)
    assert type(caught.value) is kind
    assert (caught.value.response.status_code, caught.value.response.headers["x-error-code"]) == (status, code)


@pytest.mark.parametrize("view", ["", "/revision/main", "/tree/main", "/refs", "/commits/main", "/auth-check"])
def test_a_private_repo_looks_like_a_missing_one(served: Served, view: str) -> None:
    for headers in ({}, {"Authorization": f"Bearer {WRONG}"}):
        private, missing = (
            served.ask("GET", f"/api/models/acme/{name}{view}", **headers) for name in ("secret", "nope")
        )
        different = {"date"}
        assert private.status == missing.status
        assert private.body == missing.body.replace(b"nope", b"secret")
        assert {k: v.replace("nope", "secret") for k, v in missing.headers.items() if k not in different} == {
            **{k: v for k, v in private.headers.items() if k not in different},
            "content-length": str(len(missing.body)),
        }


def test_the_token_opens(served: Served, tmp_path: Path) -> None:
    for repo in ("acme/secret", "acme/gated"):
        folder = snapshot_download(repo, token=TOKEN, endpoint=served.hub.url, cache_dir=tmp_path)
        assert read_tree(Path(folder)) == FIRST
        served.api(TOKEN).auth_check(repo)
    with pytest.raises(GatedRepoError):
        served.api().auth_check("acme/gated")
    assert served.api().model_info("acme/gated").gated == "manual"
    assert served.api(TOKEN).model_info("acme/secret").private is True


def test_whoami(served: Served) -> None:
    assert served.api(TOKEN).whoami()["name"] == "member"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        served.api(WRONG).whoami()
    assert served.ask("GET", "/api/whoami-v2").status == 401


def test_a_hub_without_a_token_keeps_private_repos_closed(tmp_path: Path, online: None) -> None:
    source = write_tree(tmp_path / "source", FIRST)
    with LiveHub(tmp_path / "hub") as hub:
        hub.import_folder("a/private", source, private=True)
        hub.import_folder("a/gated", source, gated=True)
        for token in (False, "x"):
            api = HfApi(endpoint=hub.url, token=token)
            assert not api.repo_exists("a/private")
            with pytest.raises(GatedRepoError):
                api.auth_check("a/gated")


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        (None, Caller.ANONYMOUS),
        (f"Bearer {TOKEN}", Caller.WRITER),
        (f"bearer  {TOKEN}", Caller.WRITER),
        (f"Basic {TOKEN}", Caller.STRANGER),
        (TOKEN, Caller.STRANGER),
        ("Bearer", Caller.STRANGER),
        ("Bearer ", Caller.STRANGER),
        (f"Bearer {TOKEN}x", Caller.STRANGER),
        (f"Bearer {TOKEN[:-1]}", Caller.STRANGER),
        ("Bearer tök\xffen", Caller.STRANGER),
    ],
)
def test_who_asks(header: str | None, caller: Caller) -> None:
    assert Access(TOKEN).caller(header) is caller
    assert Access(None).caller(header) is (Caller.ANONYMOUS if header is None else Caller.STRANGER)


@pytest.mark.parametrize("token", ["", " ", "a b", "tökén", "a\n"])
def test_a_token_that_no_header_carries_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(HubcliError) as caught:
        Access(token)
    assert not token.strip() or token not in str(caught.value)


def test_the_token_is_written_nowhere(
    served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in (
        "/api/whoami-v2",
        "/api/models/acme/nope",
        "/api/models/acme/secret",
        "/acme/gated/resolve/main/README.md",
    ):
        reply = served.ask("GET", path, Authorization=f"Bearer {TOKEN}")
        assert TOKEN.encode() not in reply.body and TOKEN not in str(reply.headers)
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())
    assert {one.headers.get("authorization") for one in served.hub.log} == {REDACTED}
    assert all(TOKEN.encode() not in path.read_bytes() for path in served.hub.folder.rglob("*") if path.is_file())
