"""What the server says on the wire: parts of files, validators, hostile paths, and everything it does not do."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from huggingface_hub import HfApi

from tests.server.served import FIRST, SECOND, TEXT, WEIGHTS, Served, ask, write_tree
from tests.support.hub_server import LiveHub

CONTENT = SECOND[WEIGHTS]
SIZE = len(CONTENT)
FILE = f"/acme/demo/resolve/main/{WEIGHTS}"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=100-199", slice(100, 200)),
        (f"bytes={SIZE - 5}-", slice(SIZE - 5, SIZE)),
        ("bytes=-7", slice(SIZE - 7, SIZE)),
        (f"bytes=10-{SIZE * 2}", slice(10, SIZE)),
        (f"bytes=0-{SIZE - 1}", slice(0, SIZE)),
        ("bytes=1048570-1048590", slice(1048570, 1048591)),
    ],
)
def test_a_part_of_a_file(served: Served, wanted: str, part: slice) -> None:
    reply = served.ask("GET", FILE, Range=wanted)
    assert (reply.status, reply.body) == (206, CONTENT[part])
    assert reply.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{SIZE}"
    assert reply.headers["content-length"] == str(part.stop - part.start)


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE + 10}-{SIZE + 20}"])
def test_a_part_beyond_the_end(served: Served, wanted: str) -> None:
    reply = served.ask("GET", FILE, Range=wanted)
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{SIZE}")


def test_headers_of_a_file(served: Served) -> None:
    import hashlib

    head, get = served.ask("HEAD", FILE), served.ask("GET", FILE)
    assert (head.status, head.body, get.body) == (200, b"", CONTENT)
    assert {k: v for k, v in head.headers.items() if k != "date"} == {
        k: v for k, v in get.headers.items() if k != "date"
    }
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    expected = {
        "etag": f'"{sha256}"',
        "x-linked-etag": f'"{sha256}"',
        "x-linked-size": str(SIZE),
        "content-length": str(SIZE),
    }
    assert expected.items() <= head.headers.items()
    assert head.headers["x-repo-commit"] == served.second
    assert head.headers["accept-ranges"] == "bytes"
    assert head.headers["content-disposition"] == f"inline; filename*=UTF-8''{WEIGHTS}; filename=\"{WEIGHTS}\";"


def test_headers_of_a_small_file(served: Served) -> None:
    import hashlib

    reply = served.ask("GET", f"/acme/demo/resolve/{served.first}/{quote(TEXT)}?download=true")
    assert (reply.status, reply.body) == (200, b"first\n")
    assert reply.headers["etag"] == f'"{hashlib.sha1(b"blob 6" + bytes(1) + b"first" + bytes([10])).hexdigest()}"'
    assert "x-linked-etag" not in reply.headers
    assert reply.headers["content-disposition"].startswith(
        "attachment; filename*=UTF-8''%C3%BCn%C3%AF%20c%C3%B8d%C3%A9.txt;"
    )
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_an_empty_file(served: Served) -> None:
    reply = served.ask("GET", "/acme/demo/resolve/main/empty.txt")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


def test_what_the_client_has_is_not_sent(served: Served) -> None:
    etag = served.ask("HEAD", FILE).headers["etag"]
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        for method in ("GET", "HEAD"):
            reply = served.ask(method, FILE, If_None_Match=known)
            assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)
    assert served.ask("GET", FILE, If_None_Match='"x"').status == 200


def test_a_part_of_another_version_is_not_sent(served: Served) -> None:
    etag = served.ask("HEAD", FILE).headers["etag"]
    same = served.ask("GET", FILE, Range="bytes=5-9", If_Range=etag)
    other = served.ask("GET", FILE, Range="bytes=5-9", If_Range='"other"')
    assert (same.status, same.body) == (206, CONTENT[5:10])
    assert (other.status, other.body) == (200, CONTENT)


HOSTILE_PATHS = [
    "../../etc/passwd", "..", ".", "a/../README.md", "./README.md", "/etc/passwd", "README.md/", "a//b", "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "a%5c..%5cb", "README.md%00", "a%0d%0aX-Evil:1", "%ff%fe", ".git/config",
    "%E2%80%AEtxt.exe", "x" * 300, "a/" * 600 + "b",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=lambda path: path[:40])
def test_hostile_paths(served: Served, path: str) -> None:
    for start in ("/acme/demo/resolve/main/", "/api/models/acme/demo/tree/main/"):
        reply = served.ask("GET", start + path)
        assert reply.status == 400, reply
        assert json.loads(reply.body)["error"]
        assert "x-evil" not in reply.headers


HOSTILE_REVISIONS = [
    "..", "%2e%2e", "..%2f..%2fblobs", "refs%2f..%2f..", "main%00", "main%0a", "a..b", "-x", "a%5cb", "a%20b", "main.lock", "%ff", "main%2f",
    "x" * 200,
]  # fmt: skip


@pytest.mark.parametrize("revision", HOSTILE_REVISIONS, ids=lambda revision: revision[:40])
def test_hostile_revisions(served: Served, revision: str) -> None:
    for path in (f"/acme/demo/resolve/{revision}/README.md", f"/api/models/acme/demo/revision/{revision}"):
        assert served.ask("GET", path).status == 400


HOSTILE_REPOS = [
    "..%2f..", "%2e%2e/%2e%2e", "acme/..", "../acme", "acme/demo%00", "acme--demo", "acme/a--b", "a%2fb%2fc", "acme/demo.git", "-a/b", "a/b-",
    "a%5cb", "acme/%0a", "acme/d%C3%A9mo", ".hub/models", "x" * 100,
]  # fmt: skip


@pytest.mark.parametrize("repo", HOSTILE_REPOS, ids=lambda repo: repo[:40])
def test_hostile_repos(served: Served, repo: str) -> None:
    for path in (f"/{repo}/resolve/main/README.md", f"/api/models/{repo}", f"/api/datasets/{repo}/tree/main"):
        assert served.ask("GET", path).status == 400


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/agent-harnesses", "/.hub/blobs/x", "/api/spaces", "/api/spaces/a/b", "/acme/demo", "/api/models/a/b/c/d", "/../../etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_there(served: Served, path: str) -> None:
    reply = served.ask("GET", path)
    assert reply.status == 404
    assert json.loads(reply.body)["error"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/models"), ("DELETE", "/api/models/acme/demo"), ("PUT", FILE)], ids=str
)
def test_other_methods_are_not_allowed(served: Served, method: str, path: str) -> None:
    reply = served.ask(method, path, body=b"")
    assert (reply.status, "GET" in reply.headers["allow"], bool(json.loads(reply.body)["error"])) == (405, True, True)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=%D9%A3",
        "cursor=x",
        "cursor=W10=",
        "direction=2",
        "full=maybe",
        "gated=perhaps",
        "nope=1",
    ],
)
def test_bad_listing_parameters(served: Served, query: str) -> None:
    assert served.ask("GET", f"/api/models?{query}").status == 400


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b'{"paths": ["README.md"], "expand": false}', 200),
        ("application/json", b"[]", 400),
        ("application/json", b'{"paths": "README.md"}', 400),
        ("application/json", b'{"paths": [1]}', 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/x-www-form-urlencoded", b"paths=README.md&paths=nope", 200),
        ("application/x-www-form-urlencoded", b"paths=../x", 400),
        ("application/x-www-form-urlencoded", b"paths=%ff", 400),
        ("application/x-www-form-urlencoded", b"\xff", 400),
        ("application/x-www-form-urlencoded", b"paths=a&" * 20_000, 400),
        ("application/x-www-form-urlencoded", b"x" * (2 << 20), 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_paths_info_bodies(served: Served, kind: str, body: bytes, status: int) -> None:
    reply = served.ask("POST", "/api/models/acme/demo/paths-info/main", body=body, Content_Type=kind)
    assert reply.status == status
    if status == 200:
        assert [item["path"] for item in json.loads(reply.body)] == ["README.md"]


def test_a_revision_with_a_slash_stays_one(tmp_path: Path, online: None) -> None:
    with LiveHub(tmp_path / "hub") as hub:
        hub.import_folder("a/b", write_tree(tmp_path / "one", FIRST))
        branch = hub.import_folder("a/b", write_tree(tmp_path / "two", SECOND), revision="feature/x")
        api = HfApi(endpoint=hub.url, token=False)
        assert api.model_info("a/b", revision="feature/x").sha == branch
        assert [one.path for one in api.list_repo_tree("a/b", "sub", revision="feature/x")] == [TEXT]
        reply = ask(hub.url, "GET", f"/a/b/resolve/feature%2Fx/{WEIGHTS}")
        assert (reply.status, reply.body) == (200, CONTENT)
        assert ask(hub.url, "GET", f"/a/b/resolve/feature/x/{WEIGHTS}").headers["x-error-code"] == "RevisionNotFound"


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_damaged_blob_is_an_error_that_names_no_folder(
    tmp_path: Path, online: None, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    with LiveHub(tmp_path / "hub") as hub:
        hub.import_folder("a/b", write_tree(tmp_path / "one", {"w.bin": b"0123456789"}))
        blob = next((hub.folder / ".hub/blobs").iterdir())
        blob.unlink()
        if damage == "short":
            blob.write_bytes(b"0123")
        reply = ask(hub.url, "GET", "/a/b/resolve/main/w.bin")
        assert reply.status == 500
        assert blob.name not in str(reply) and str(tmp_path) not in str(reply)
        assert blob.name in caplog.text


def test_a_sign_in_is_asked_for_as_http_says(served: Served) -> None:
    reply = served.ask("GET", "/api/models/acme/secret")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer realm="hub"')


def test_a_slash_at_the_end_leads_nowhere(served: Served) -> None:
    for path in ("/api/models/", "/api/models/acme/demo/", "/api/whoami-v2/"):
        assert served.ask("GET", path).status == 404


def test_a_client_that_leaves_hurts_nobody(served: Served) -> None:
    host, port = urlsplit(served.hub.url).netloc.split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as one:
            one.sendall(f"GET {FILE} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            one.recv(1)
    assert served.ask("GET", FILE).body == CONTENT
