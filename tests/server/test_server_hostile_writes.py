"""Pushes that no client sends: refused with a reason, and nothing of them is stored."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubcli.server.limits import Limits
from hubcli.server.ndjson import INLINE
from tests.server.served import Reply, ask, read_tree, stored
from tests.support.hub_server import LiveHub

ID, TOKEN, MB = "acme/demo", "writes", 1_000_000
SIGNED = {"Authorization": f"Bearer {TOKEN}"}
COMMIT = f"/api/models/{ID}/commit/main"


@pytest.fixture
def live_hub(tmp_path: Path, online: None) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub", token=TOKEN, limits=Limits(2 * MB, 4 * MB, MB)) as hub:
        HfApi(endpoint=hub.url, token=TOKEN).create_repo(ID)
        yield hub


def lines(*operations: tuple[str, Any], header: Any = None) -> bytes:
    start = ("header", header or {"summary": "x"})
    return b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in (start, *operations))


def file(path: str, data: bytes = b"x", **changed: Any) -> tuple[str, Any]:
    return ("file", {"content": base64.b64encode(data).decode(), "path": path, "encoding": "base64", **changed})


def lfs(path: str, oid: str = "0" * 64, **changed: Any) -> tuple[str, Any]:
    return ("lfsFile", {"path": path, "algo": "sha256", "oid": oid, **changed})


def refused(hub: LiveHub, body: bytes, status: int = 400, path: str = COMMIT) -> str:
    before = stored(hub.folder)
    reply = ask(hub.url, "POST", path, body=body, **SIGNED)
    assert (reply.status, stored(hub.folder)) == (status, before), reply
    assert not list((hub.folder / ".hub/uploads").iterdir())
    return str(json.loads(reply.body)["error"])


PATHS = [
    "", ".", "..", "/etc/passwd", "../../x", "a/../../x", "a/./b", "a//b", "a/", "a\\..\\b", "C:\\x", "\\\\srv\\x", "a\x00b", "a\nb", "a\x1b[31m",
    "\u202egpj.exe", "a\u200bb", "x" * 256, "d/" * 600 + "x", ".git/config", "sub/.git/hooks/post-checkout", ".GIT/config", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
@pytest.mark.parametrize("kind", ["file", "lfsFile", "deletedFile", "deletedFolder"])
def test_paths_that_no_file_has(live_hub: LiveHub, kind: str, path: str) -> None:
    if kind == "deletedFolder" and path == "a/":
        return  # a folder may be named so
    operation = {"file": file(path), "lfsFile": lfs(path)}.get(kind, (kind, {"path": path}))
    refused(live_hub, lines(operation))
    assert set(read_tree(live_hub.folder.parent)) == {f"hub/{name}" for name in read_tree(live_hub.folder)}


def test_paths_outside_are_refused_before_a_push(live_hub: LiveHub) -> None:
    for path in ("../x", "/x", ".git/x"):
        body = json.dumps({"files": [{"path": path, "size": 1, "sample": ""}]}).encode()
        refused(live_hub, body, path=f"/api/models/{ID}/preupload/main")


BODIES = {
    "empty": (b"", "expected a header"),
    "blank lines": (b"\n\n", "expected a header"),
    "no JSON": (b"hello\n", "JSON"),
    "a list": (b"[]\n", "expected an object"),
    "two keys": (b'{"key": "header", "key": "file", "value": {}}\n', "stands twice"),
    "a depth": (b'{"key": "header", "value": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", "commit"),
    "NaN": (b'{"key": "header", "value": NaN}\n', "commit"),
    "no header": (lines(file("a")).partition(b"\n")[2], "expected a header first"),
    "two headers": (lines(("header", {"summary": "y"})), "found 'header'"),
    "no summary": (lines(header={"summary": ""}), "summary of 1 to 1000"),
    "a long summary": (lines(header={"summary": "x" * 1001}), "summary of 1 to 1000"),
    "a huge header": (lines(header={"summary": "x" * (INLINE + 3)}), "summary of 1 to 1000"),
    "a huge description": (lines(header={"summary": "x", "description": "-" * 2 * MB}), "base64"),
    "a control character": (lines(header={"summary": "a\x1b[2J"}), "not allowed in text"),
    "no commit": (lines(header={"summary": "x", "parentCommit": "main"}), "40 hex digits"),
    "an unknown field": (lines(header={"summary": "x", "sign": 1}), "knows no 'sign'"),
    "an unknown operation": (lines(("copyFile", {"path": "a"})), "found 'copyFile'"),
    "bad base64": (lines(file("a", content="%%%%")), "expected base64"),
    "base64 cut short": (lines(file("a", content="QUJD" + "QUI")), "expected base64"),
    "base64 after its end": (lines(file("a", content="QQ==QQ==")), "expected base64"),
    "long bad base64": (lines(file("a", content="A" * MB + "%" * 4)), "expected base64"),
    "long base64 cut short": (lines(file("a", content="A" * (2 * MB + 1))), "its end missing"),
    "long base64 after its end": (lines(file("a", content="A" * 400_000 + "AA==" + "A" * 400_000)), "expected base64"),
    "an escape in long base64": (lines(file("a", content="A" * MB + "\n")), "expected base64"),
    "another encoding": (lines(file("a", encoding="utf-8")), "encoding base64"),
    "no content": (lines(("file", {"path": "a"})), "content: expected a text"),
    "a long path": (lines(("file", {"content": "", "path": "A" * (INLINE + 10**6)})), "base64|not the content|bytes"),
    "two long texts": (lines(file("A" * MB, b"x" * MB)), "found more|not the content"),
    "cut in a line": (lines(file("a"))[:-8], "ends inside a line|JSON"),
    "a wrong sha": (lines(lfs("a", "xyz")), "64 hex digits"),
    "sha1": (lines(lfs("a", algo="sha1")), "algo sha256"),
    "an object not sent": (lines(lfs("a")), "no LFS object"),
    "a file below a file": (lines(file("a"), file("a/b")), "side by side"),
    "a file for a folder": (lines(file("a/b/c"), file("a/b")), "side by side"),
    "one case": (lines(file("README.md"), file("readme.MD")), "one file on some disks"),
    "one case above": (lines(file("Sub/a"), file("sub/b")), "one file on some disks"),
    "one letter, composed otherwise": (lines(file("\u00fc"), file("u\u0308")), "one file on some disks"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BODIES.values(), ids=BODIES)
def test_bodies_that_no_client_sends(live_hub: LiveHub, body: bytes, words: str) -> None:
    message = refused(live_hub, body)
    assert any(word in message for word in words.split("|")), message


@pytest.mark.parametrize("name", ["what is not there", "a folder that is not there", "a file as a folder"])
def test_deleting_what_is_not_there(live_hub: LiveHub, name: str) -> None:
    kind, path = {
        "what is not there": ("deletedFile", "nope"),
        "a folder that is not there": ("deletedFolder", "nope/"),
        "a file as a folder": ("deletedFolder", ".gitattributes"),
    }[name]
    message = refused(live_hub, lines((kind, {"path": path})), 404)
    assert "with this name doesn't exist" in message


def test_names_that_are_unusual_and_fine(live_hub: LiveHub) -> None:
    names = ["ünï cødé.txt", "con", "a b", "~", "sub/ .txt", "漢字/ファイル", "-rf", "%2e%2e", "{}"]
    reply = ask(live_hub.url, "POST", COMMIT, body=lines(*(file(name, name.encode()) for name in names)), **SIGNED)
    assert reply.status == 200
    api = HfApi(endpoint=live_hub.url, token=TOKEN)
    assert sorted(api.list_repo_files(ID)) == sorted([".gitattributes", *names])
    for name in names:
        assert Path(api.hf_hub_download(ID, name, local_dir=live_hub.folder.parent / "out")).read_text() == name


@pytest.mark.parametrize("sizes", [[2 * MB + 1], [2 * MB, 2 * MB, MB]], ids=str)
def test_more_than_the_quota(live_hub: LiveHub, sizes: list[int]) -> None:
    body = lines(*(file(f"{n}.txt", bytes([n]) * size) for n, size in enumerate(sizes)))
    assert "bytes" in refused(live_hub, body, 413)
    files = [{"path": f"{n}.txt", "size": size, "sample": ""} for n, size in enumerate(sizes)]
    message = refused(live_hub, json.dumps({"files": files}).encode(), 413, f"/api/models/{ID}/preupload/main")
    assert str(2 * MB if len(sizes) == 1 else 4 * MB) in message


def test_all_commits_count_and_a_content_counts_once(live_hub: LiveHub) -> None:
    api = HfApi(endpoint=live_hub.url, token=TOKEN)
    for n in range(3):
        data = bytes([n]) * MB
        api.upload_file(path_or_fileobj=data, path_in_repo="w.bin", repo_id=ID, commit_message=f"{n}")
        if n < 2:
            api.upload_file(path_or_fileobj=data, path_in_repo="copy.bin", repo_id=ID)
    assert "bytes" in refused(live_hub, lines(file("w.bin", b"3" * MB)), 413)
    with pytest.raises(HfHubHTTPError, match=r"1\.0 MB .*more than its 3\.0 MB .*all commits together"):
        api.upload_file(path_or_fileobj=b"3" * MB, path_in_repo="new.bin", repo_id=ID)


def begin_lfs(hub: LiveHub, data: bytes, **announced: Any) -> Reply:
    entry = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), **announced}
    body = json.dumps({"operation": "upload", "transfers": ["basic"], "objects": [entry]}).encode()
    return ask(hub.url, "POST", f"/{ID}.git/info/lfs/objects/batch", body=body, **SIGNED)


def address(hub: LiveHub, data: bytes, **announced: Any) -> str:
    href = json.loads(begin_lfs(hub, data, **announced).body)["objects"][0]["actions"]["upload"]["href"]
    assert href.startswith(hub.url)
    return str(href[len(hub.url) :])


def put(hub: LiveHub, path: str, data: bytes) -> int:
    status = ask(hub.url, "PUT", path, body=data).status
    assert not list((hub.folder / ".hub/uploads").iterdir())
    return status


def test_an_lfs_object_is_what_was_announced(live_hub: LiveHub) -> None:
    data = b"weights" * 1000
    where = address(live_hub, data)
    before = stored(live_hub.folder)
    for wrong, status in [
        (b"another" * 1000, 400),
        (data[:-1], 400),
        (data + b"x", 413),
        (b"", 400),
        (b"x" * 3 * MB, 413),
    ]:
        assert (put(live_hub, where, wrong), stored(live_hub.folder)) == (status, before), len(wrong)
    assert put(live_hub, where, data) == 200
    assert put(live_hub, where, data) == 200
    assert "actions" not in json.loads(begin_lfs(live_hub, data).body)["objects"][0]
    assert refused(live_hub, lines(lfs("w.bin", hashlib.sha256(data).hexdigest(), size=1))).startswith(
        "w.bin: expected"
    )


def test_an_lfs_address_is_good_for_one_object_of_one_repo(live_hub: LiveHub, monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = b"weights" * 1000, b"another" * 1000
    where = address(live_hub, data)
    path, _, query = where.partition("?")
    changed = [
        path,
        where.replace("acme/demo", "acme/else"),
        where.replace("/lfs/models/", "/lfs/datasets/"),
        where.replace(hashlib.sha256(data).hexdigest(), hashlib.sha256(other).hexdigest()),
        where.replace("size=7000", "size=8000"),
        where.replace("until=", "until=9"),
        f"{path}?{query.partition('&signature')[0]}&signature=",
        f"{where[:-1]}{'0' if where[-1] != '0' else '1'}",
    ]
    for one in changed:
        assert one != where and put(live_hub, one, data) == 403, one
    monkeypatch.setattr("hubcli.server.lfs_routes.time.time", lambda: 4e9)
    assert put(live_hub, where, data) == 403


@pytest.mark.parametrize(
    ("announced", "status"),
    [({"size": 2 * MB + 1}, 413), ({"size": -1}, 400), ({"size": True}, 400), ({"oid": "../x"}, 400), ({"oid": "A" * 64}, 400)],
    ids=str,
)  # fmt: skip
def test_what_an_lfs_batch_refuses(live_hub: LiveHub, announced: dict[str, Any], status: int) -> None:
    assert begin_lfs(live_hub, b"x", **announced).status == status


def test_an_endless_lfs_object_is_cut_off(live_hub: LiveHub) -> None:
    """Without a Content-Length, in chunks, and more than announced."""
    data = b"w" * 1000
    connection = http.client.HTTPConnection(urlsplit(live_hub.url).netloc, timeout=30)
    connection.request("PUT", address(live_hub, data), body=iter([b"w" * 600] * 50), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert connection.getresponse().status == 413
    connection.close()
    assert not list((live_hub.folder / ".hub/uploads").iterdir())


def test_a_client_that_goes_away_leaves_nothing(live_hub: LiveHub) -> None:
    body = lines(file("w.bin", b"x" * MB))
    connection = http.client.HTTPConnection(urlsplit(live_hub.url).netloc, timeout=30)
    connection.putrequest("POST", COMMIT)
    for name, value in {**SIGNED, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body[: len(body) // 2])
    connection.close()
    before = stored(live_hub.folder).keys()
    assert ask(live_hub.url, "POST", COMMIT, body=body, **SIGNED).status == 200
    after = stored(live_hub.folder).keys()
    assert len([name for name in after - before if "commits/" in name]) == 1
