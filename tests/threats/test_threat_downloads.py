"""Hubs, mirrors and indexes that send something else (rows 2, 13 to 17, 52, 55)."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.store.staging import Staging
from tests.support.adapters import IndexFolder
from tests.support.hostile_server import Hostile, Request, Send, reply
from tests.support.hub_server import LiveHub
from tests.threats import payloads
from tests.threats.conftest import COMMIT, hub_of
from tests.threats.doors import Door, Outcome, threat
from tests.threats.payloads import BIG, FILES, WEIGHTS, body_of, serve

Refused = Callable[..., Outcome]
HEADERS = {
    "etag a path": ({"ETag": '"../../../evil"'}, "E_BAD_HEADER"),
    "etag absolute": ({"ETag": "/etc/evil"}, "E_BAD_HEADER"),
    "linked etag a path": ({"X_Linked_ETag": '"..\\evil"'}, "E_BAD_HEADER"),
    "commit a path": ({"X_Repo_Commit": "../../evil"}, "E_BAD_HEADER"),
}


@threat(2, HEADERS)
def test_a_header_that_is_a_path(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    headers, id = case
    with hub_of(index, serve(**headers)):
        refused(door, id, 4, "install", "acme/demo")


@threat(13)
def test_a_body_with_one_byte_changed(
    door: Door, index: IndexFolder, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused; a mirror with the right bytes is asked once, and serves."""
    with hub_of(index, payloads.flipped):
        assert "sha256" in refused(door, "E_HASH", 4, "install", "acme/demo").text
        mirror = IndexFolder(tmp_path / "mirror")
        wrong = next(iter(FILES))
        mirror.put(FILES)
        good = mirror.folder / "_files"
        bad = tmp_path / "bad"
        bad.mkdir()
        for data in FILES.values():
            (bad / hashlib.sha256(data).hexdigest()).write_bytes(data[:-1] + b"?")
        monkeypatch.setenv("HUBCLI_MIRRORS", f"{bad} {good}")
        outcome = door.install("acme/demo")
        assert outcome.code == 0 and outcome.text.count(f"gave wrong bytes: {wrong}") == 1
    assert api.verify()["ok"]


BODIES = {
    "truncated": (payloads.truncated, "E_SIZE", 4),
    "length lies": (payloads.shorter, "E_SIZE", 4),
    "longer": (payloads.longer, "E_SIZE", 4),
    "endless": (payloads.endless, "E_SIZE", 4),
    "stalls": (payloads.stalls, "E_TIMEOUT", 7),
    "stalls in the headers": (payloads.stalls_in_the_headers, "E_TIMEOUT", 7),
}


@threat(14, BODIES)
def test_a_body_of_another_length(
    door: Door, case: Any, index: IndexFolder, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, id, code = case
    written: list[int] = []
    write = Staging._write

    def watched(self: Staging, part: Path, *rest: Any) -> str:
        try:
            return write(self, part, *rest)
        finally:
            written.append(part.stat().st_size)

    monkeypatch.setattr(Staging, "_write", watched)
    start = time.monotonic()
    with hub_of(index, answer):
        refused(door, id, code, "install", "acme/demo")
    assert max(written, default=0) <= max(map(len, FILES.values())) + 1
    assert time.monotonic() - start < 10


def interrupted(index: IndexFolder, kind: str) -> Any:
    """A hub whose first answer for the weights ends after 2 MiB and then is gone; later ones are as `kind` says."""
    state = {"down": True, "ranges": []}

    def answer(request: Request, send: Send) -> None:
        body, start = body_of(request, BIG), request.start
        if not request.path.endswith(WEIGHTS):
            return send(reply(200, body))
        if state["down"]:
            if start:
                return send(reply(503))
            return send(reply(200, body[: 2 << 20], Content_Length=str(len(body)), ETag='"one"'))
        state["ranges"].append(request.headers.get("range"))
        if start and kind == "416":
            return send(reply(416))
        if start and kind != "ignored":
            at = start + 7 if kind == "wrong offset" else start
            return send(reply(206, body[at:], Content_Range=f"bytes {at}-{len(body) - 1}/{len(body)}", ETag='"two"'))
        return send(reply(200, body, ETag='"two"'))

    return state, hub_of(index, answer, BIG)


@threat(15, ["honoured", "ignored", "wrong offset", "part edited", "416"])
def test_a_download_that_is_taken_up_again(door: Door, case: str, index: IndexFolder, home: Path) -> None:
    state, hub = interrupted(index, case)
    with hub:
        assert door.install("acme/demo").code == 7
        (part,) = (home / "store/v1/partial").glob("?" * 64)
        assert part.stat().st_size >= 1 << 20 and not api.list()["adapters"]
        if case == "part edited":
            part.write_bytes(b"?" * part.stat().st_size)
        state["down"] = False
        assert door.install("acme/demo").code == 0
    assert str(state["ranges"][0]).startswith("bytes=") and len(state["ranges"]) == 1 + (
        case not in ("honoured", "ignored")
    )
    assert api.verify()["ok"] and not part.exists()


BOMBS = {"promises too much": (10 << 30, "found 10737418240 from"), "holds more": (1 << 20, "found more")}


@threat(16, BOMBS)
def test_an_index_that_is_a_bomb(door: Door, case: tuple[int, str], tmp_path: Path, refused: Refused) -> None:
    """64 MB, of which never more than was promised is unpacked; a promise beyond the limits is not tried at all."""
    unpacked, says = case
    sizes = [10_000] * 90 + [32 << 20] + [1 << 20] * 32
    lines = [json.dumps([f"a/{n:07}", "x" * size]).encode() + b"\n" for n, size in enumerate(sizes)]
    packed = gzip.compress(b"".join(lines))
    site = tmp_path / "site"
    site.mkdir()
    (site / "entries.jsonl.gz").write_bytes(packed)
    promised = {"size": len(packed), "sha256": hashlib.sha256(packed).hexdigest(), "unpacked": unpacked}
    document = {"format": 1, "name": "bomb", "snapshot": "0" * 64, "count": len(lines), "entries": promised}
    (site / "index.json").write_text(json.dumps(document))
    api.index_add("bomb", str(site), unseen=True)
    tracemalloc.start()
    assert says in refused(door, "E_SNAPSHOT", 4, "install", "bomb:acme/demo").text
    assert tracemalloc.get_traced_memory()[1] < 16e6
    tracemalloc.stop()


@threat(17)
def test_a_hub_that_answers_from_another_commit(door: Door, index: IndexFolder, refused: Refused) -> None:
    with hub_of(index, serve(X_Repo_Commit="d" * 40)):
        refused(door, "E_COMMIT", 4, "install", "acme/demo")


@threat(17)
def test_a_branch_that_moved_and_a_repository_that_is_gone(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """The lock names the commit: what a branch says later changes nothing; what is gone is told, and installs from a mirror."""
    source, work = tmp_path / "source", tmp_path / "project"
    source.mkdir()
    work.mkdir()
    for name, data in FILES.items():
        (source / name).write_bytes(data)
    (work / "adapters.toml").write_text('[adapters]\n"hf:acme/demo" = "main"\n')
    mirror = IndexFolder(tmp_path / "mirror")
    mirror.put(FILES)
    with LiveHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        old = hub.import_folder("acme/demo", source)
        assert api.lock(work)["adapters"] == [{"name": "hf:acme/demo", "version": old}]
        (source / "README.md").write_text("evil")
        assert hub.import_folder("acme/demo", source) != old
        api.uninstall("hf:acme/demo")
        assert door("sync", cwd=work).document["installed"][0]["version"] == old
        api.uninstall("hf:acme/demo")
        api.cache_prune()
        for blob in (home / "store/v1/blobs").glob("??/*"):
            blob.unlink()
        shutil.rmtree(hub.folder)
        outcome = door("sync", cwd=work)
        assert (outcome.id, outcome.code) == ("E_NOT_FOUND", 3) and "gone" in outcome.text
        monkeypatch.setenv("HUBCLI_MIRRORS", str(mirror.folder / "_files"))
        assert door("sync", cwd=work).code == 0 and api.verify()["ok"]


@threat(52)
def test_an_interrupt_during_a_download(door: Door, index: IndexFolder, home: Path) -> None:
    sent, interrupt = threading.Event(), [True]

    def answer(request: Request, send: Send) -> None:
        body, start = body_of(request, BIG), request.start
        if request.path.endswith(WEIGHTS) and interrupt:
            send(reply(200, body[: 2 << 20], Content_Length=str(len(body))))
            sent.set()
            server.stopping.wait(20)
        elif start:
            ranges.append(start)
            send(reply(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}"))
        else:
            send(reply(200, body))

    ranges: list[int] = []
    patient = "from hubcli import http; http.Http.__init__.__kwdefaults__['timeout'] = 20"
    with hub_of(index, answer, BIG) as server:
        process = door.process("install", "acme/demo", before=patient)
        assert sent.wait(30)
        wait_for(lambda: any(p.stat().st_size >= 1 << 20 for p in (home / "store/v1/tmp").glob("*/.part-*")))
        process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        assert process.returncode == 130 and "Traceback" not in output, output
        (part,) = (home / "store/v1/partial").glob("?" * 64)
        kept = part.stat().st_size
        assert not api.list()["adapters"] and kept >= 1 << 20
        interrupt.clear()
        assert door.install("acme/demo").code == 0 and ranges == [kept]
    assert api.verify()["ok"]


def wait_for(condition: Callable[[], bool]) -> None:
    event, until = threading.Event(), time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        event.wait(0.01)


STATUS = {
    401: "E_DENIED",
    403: "E_DENIED",
    404: "E_NOT_FOUND",
    410: "E_GONE",
    429: "E_RATE_LIMIT",
    500: "E_NETWORK",
    503: "E_NETWORK",
    418: "E_NETWORK",
}
EXITS = {"E_NOT_FOUND": 3}


@threat(55, {str(status): status for status in STATUS})
def test_each_refusal_of_a_hub(door: Door, case: int, index: IndexFolder, refused: Refused) -> None:
    with hub_of(index, lambda request, send: send(reply(case, b"no"))) as server:
        refused(door, STATUS[case], EXITS.get(STATUS[case], 7), "install", "acme/demo")
        assert len(server.requests) == (4 if case in (429, 500, 503) else 1)


@threat(55, {str(status): status for status in STATUS})
def test_each_refusal_of_an_index(door: Door, case: int, refused: Refused) -> None:
    with Hostile(lambda request, send: send(reply(case, b"no"))) as server:
        api.index_add("far", server.url, unseen=True)
        refused(door, STATUS[case], EXITS.get(STATUS[case], 7), "install", "far:acme/demo")
        assert len(server.requests) == (4 if case in (429, 500, 503) else 1)


@threat(55, {"hub": "hub", "index": "index"})
def test_a_login_page_instead(door: Door, case: str, index: IndexFolder, refused: Refused) -> None:
    page = reply(200, b"<html>log in</html>", Content_Type="text/html")
    with hub_of(index, lambda request, send: send(page)) as server:
        if case == "index":
            api.index_add("far", server.url, unseen=True)
        ref = "acme/demo" if case == "hub" else "far:acme/demo"
        assert "page" in refused(door, "E_NETWORK", 7, "install", ref).text


@threat(55)
def test_a_busy_hub_is_waited_for(door: Door, index: IndexFolder) -> None:
    seen: set[str] = set()

    def answer(request: Request, send: Send) -> None:
        first = request.path not in seen
        seen.add(request.path)
        send(reply(429, b"", RateLimit='"resolvers";r=0;t=2') if first else reply(200, body_of(request)))

    with hub_of(index, answer) as server:
        assert door.install("acme/demo").code == 0 and len(server.requests) == 2 * len(FILES)
    assert COMMIT in server.requests[0].path
