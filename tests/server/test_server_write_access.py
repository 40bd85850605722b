"""Who may change what, in the kinds of error the real client has for it."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from hubcli.errors import UsageError
from hubcli.server.access import Access, Caller
from tests.server.served import FIRST, ask, stored, write_tree
from tests.support.hub_server import LiveHub

TOKEN, READ, WRONG = "writes", "only-reads", "of-nobody"

REPO = "/api/models/acme/demo"
WRITES = [
    ("POST", "/api/validate-yaml"), ("POST", "/api/repos/create"), ("DELETE", "/api/repos/delete"), ("POST", "/api/repos/move"), ("PUT", f"{REPO}/settings"),
    ("POST", f"{REPO}/preupload/main"), ("POST", f"{REPO}/commit/main"), ("POST", f"{REPO}/branch/new"),
    ("DELETE", f"{REPO}/branch/main"), ("POST", f"{REPO}/tag/main"), ("DELETE", f"{REPO}/tag/v1"),
    ("POST", f"{REPO}/discussions"), ("POST", f"{REPO}/discussions/1/comment"), ("POST", f"{REPO}/discussions/1/merge"),
    ("POST", f"{REPO}/discussions/1/status"), ("POST", f"{REPO}/discussions/1/title"), ("GET", f"{REPO}/auth-check/write"),
    ("POST", "/acme/demo.git/info/lfs/objects/batch"), ("PUT", f"/lfs/models/acme/demo/{'0' * 64}"),
]  # fmt: skip
BODIES = {
    "/api/repos/create": b'{"name": "new", "organization": "acme"}',
    "/api/repos/delete": b'{"name": "demo", "organization": "acme"}',
    "/api/repos/move": b'{"fromRepo": "acme/demo", "toRepo": "acme/new"}',
}


def demo(folder: Path, **options: Any) -> LiveHub:
    hub = LiveHub(folder / "hub", **options)
    hub.import_folder("acme/demo", write_tree(folder / "one", FIRST), tag="v1")
    hub.import_folder("acme/secret", folder / "one", private=True)
    return hub


@pytest.mark.parametrize(
    ("options", "given", "status", "words"),
    [
        ({}, None, 403, "only reads"),
        ({"read_token": READ}, READ, 403, "only reads"),
        ({"token": TOKEN, "read_only": True}, TOKEN, 403, "only reads"),
        ({"token": TOKEN, "read_token": READ}, READ, 403, "may read and not write"),
        ({"token": TOKEN}, None, 401, "Invalid username or password."),
        ({"token": TOKEN}, WRONG, 401, "Invalid credentials in Authorization header"),
    ],
    ids=str,
)
def test_no_write_without_the_right(
    tmp_path: Path, options: dict[str, Any], given: str | None, status: int, words: str
) -> None:
    with demo(tmp_path, **options) as hub:
        before = stored(hub.folder)
        for method, path in WRITES:
            headers = {"Authorization": f"Bearer {given}"} if given else {}
            reply = ask(hub.url, method, path, body=BODIES.get(path, b"{}"), **headers)
            if "/lfs/models/" in path:  # its right is in the address, and this one has none
                assert reply.status == 403
            else:
                assert (reply.status, words in reply.headers["x-error-message"]) == (status, True), (path, reply)
        assert stored(hub.folder) == before


def test_what_the_client_makes_of_it(tmp_path: Path, online: None) -> None:
    with demo(tmp_path, token=TOKEN, read_token=READ) as hub:
        writer, reader, nobody = (HfApi(endpoint=hub.url, token=token) for token in (TOKEN, READ, WRONG))
        writer.auth_check("acme/secret", write=True)
        reader.auth_check("acme/secret")
        roles = [api.whoami()["auth"]["accessToken"]["role"] for api in (writer, reader)]
        assert roles == ["write", "read"] and [org["name"] for org in writer.whoami()["orgs"]] == ["acme"]
        for call in (
            lambda: reader.auth_check("acme/secret", write=True),
            lambda: reader.create_tag("acme/demo", tag="v2"),
            lambda: reader.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="acme/demo"),
        ):
            with pytest.raises(HfHubHTTPError, match="403 Forbidden: this token may read and not write") as caught:
                call()
            assert type(caught.value) is HfHubHTTPError
        for repo in ("acme/secret", "acme/nope"):
            with pytest.raises(RepositoryNotFoundError):
                nobody.delete_repo(repo)
        with pytest.raises(HfHubHTTPError, match="401"):
            nobody.create_repo("acme/other")


@pytest.mark.parametrize("options", [{}, {"read_token": READ}, {"token": TOKEN, "read_only": True}], ids=str)
def test_no_upload_address_can_be_made_up_where_nobody_writes(tmp_path: Path, options: dict[str, Any]) -> None:
    data, until = b"x", "4000000000"
    oid = hashlib.sha256(data).hexdigest()
    with demo(tmp_path, **options) as hub:
        before = stored(hub.folder)
        for token in (b"", TOKEN.encode(), READ.encode(), b"None"):
            key = hmac.digest(token, b"hubcli upload address", "sha256")
            parts = ("model", "acme/demo", oid, 1, int(until))
            signature = hmac.digest(key, repr(parts).encode(), "sha256").hex()
            path = f"/lfs/models/acme/demo/{oid}?size=1&until={until}&signature={signature}"
            assert ask(hub.url, "PUT", path, body=data).status == 403
        assert stored(hub.folder) == before


def test_one_token_can_t_be_both() -> None:
    with pytest.raises(UsageError, match="another one"):
        Access("same", "same")
    access = Access("w", "r", read_only=True)
    assert {access.caller("Bearer w"), access.caller("Bearer r")} == {Caller.READER}
