"""Pulling from a hub: a live server of our own for what is right, a raw one for what no server should do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hubcli.errors import HubcliError, NetworkError
from hubcli.hub import ranged, transport
from hubcli.hub.resolve import resolve_hub
from hubcli.hub.sources import MemorySource, Sources
from hubcli.installer import install_resolved
from hubcli.refs import parse_ref
from hubcli.store import Store
from tests.store.samples import CONFIG, FILES, WEIGHTS, Shelf, everything_under, safetensors, sha
from tests.support.hostile_server import Answer, Hostile, Request, Send, reply
from tests.support.hub_server import LiveHub, allow_loopback

COMMIT = "c" * 40
BIG = safetensors({"w": ("U8", [3 << 20], bytes(range(256)) * (3 << 12))})


CLIENTS: list[Any] = [transport.HubHttp.__init__, transport.Http.__init__]


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback alone, no waiting between tries, small time limits."""
    allow_loopback(monkeypatch)
    for client in CLIENTS:
        monkeypatch.setattr(client, "__kwdefaults__", client.__kwdefaults__ | {"sleep": lambda _: None})
    monkeypatch.setattr(ranged.open_ranged, "__defaults__", (0, lambda _: None))
    MemorySource._seen.clear()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveHub]:
    with LiveHub(tmp_path / "hub") as hub:
        yield hub


def repo(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_an_index_release_takes_one_get_a_file(live: LiveHub, shelf: Shelf, store: Store, tmp_path: Path) -> None:
    commit = live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    done = install_resolved(shelf.at_hub(live.url, commit=commit), store, Sources())
    assert store.verify(done).ok
    assert sorted(r.method for r in live.log) == ["GET"] * len(FILES)
    assert sorted(live.seen()) == sorted(f"/acme/demo/resolve/{commit}/{name}" for name in FILES)


def test_a_peft_repository_installs_without_an_entry(live: LiveHub, store: Store, tmp_path: Path) -> None:
    config = CONFIG | {"modules_to_save": ["classifier"], "task_type": "SEQ_CLS", "revision": "b" * 40}
    head = safetensors({"base_model.model.classifier.weight": ("F32", [1], b"\0\0\0\0")})
    files = FILES | {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": head,
        "LICENSE": b"MIT\n",
        "handler.py": b"evil",
        "tokenizer.json": b"{}",
        "adapter_model.bin": b"\x80\x04evil",
        "training_args.bin": b"\x80\x04",
    }
    commit = live.import_folder("acme/demo", repo(tmp_path / "src", files), tag="v1")
    resolved = resolve_hub(parse_ref("hf:acme/demo@v1"), endpoint=live.url)
    done = install_resolved(resolved, store, Sources())
    kept = {"README.md", "adapter_config.json", "adapter_model.safetensors", "LICENSE"}
    release = done.record.release
    assert (done.record.name, done.record.version, release.hub and release.hub.commit) == (
        "hf:acme/demo",
        commit,
        commit,
    )
    assert {f.path: f.sha256 for f in release.files} == {name: sha(files[name]) for name in kept}
    assert release.head and release.head.modules == ("classifier",)
    assert (release.method, release.task, release.base and release.base.id) == (
        "toy",
        "text-classification",
        "acme/tiny",
    )
    assert release.base and release.base.revision == "b" * 40
    assert len(live.log) <= len(kept) + 1
    assert not live.seen(within=".py") and not live.seen(within=".bin") and not live.seen(within="tokenizer")
    assert (
        store.find("hf:acme/demo", "v1")
        == store.find("hf:acme/demo", commit[:10])
        == dataclasses.replace(done, changed=False)
    )
    assert (
        store.verify(done).ok
        and not install_resolved(resolve_hub(parse_ref("hf:acme/demo"), endpoint=live.url), store, Sources()).changed
    )


def test_a_tokenizer_comes_along_where_token_embeddings_were_trained(live: LiveHub, tmp_path: Path) -> None:
    config = CONFIG | {"modules_to_save": ["embed_tokens"]}
    files = FILES | {
        "adapter_config.json": json.dumps(config).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"x",
    }
    live.import_folder("acme/demo", repo(tmp_path / "src", files))
    release = resolve_hub(parse_ref("hf:acme/demo"), endpoint=live.url).release
    assert {f.path for f in release.files if f.role == "tokenizer"} == {"tokenizer.json"}


REPOS: dict[str, tuple[dict[str, bytes], str, str]] = {
    "pickle alone": (
        {"adapter_config.json": json.dumps(CONFIG).encode(), "adapter_model.bin": b"\x80"},
        "E_FORMAT_UNSAFE",
        "adapter_model.bin",
    ),
    "no adapter": ({"config.json": b"{}"}, "E_NOT_FOUND", "adapter_config.json"),
    "no weights": ({"adapter_config.json": json.dumps(CONFIG).encode()}, "E_NOT_FOUND", "adapter_model.safetensors"),
    "unknown method": ({"adapter_config.json": b'{"peft_type": "XYZ"}'}, "E_METHOD", "XYZ"),
    "needs code": (
        {"adapter_config.json": json.dumps(CONFIG | {"auto_map": {"a": "b.C"}}).encode()},
        "E_REMOTE_CODE",
        "auto_map",
    ),
    "key twice": ({"adapter_config.json": b'{"r": 1, "r": 2}'}, "E_JSON_DUPKEY", "r"),
}


@pytest.mark.parametrize(("files", "id", "names"), REPOS.values(), ids=REPOS)
def test_repositories_that_are_refused(
    live: LiveHub, tmp_path: Path, files: dict[str, bytes], id: str, names: str
) -> None:
    live.import_folder("acme/demo", repo(tmp_path / "src", files))
    with pytest.raises(HubcliError) as caught:
        resolve_hub(parse_ref("hf:acme/demo"), endpoint=live.url)
    assert caught.value.id == id and names in caught.value.message
    assert not [p for p in live.seen(within="/resolve/") if "adapter_config.json" not in p]


@pytest.mark.parametrize("ref", ["hf:acme/nosuch", "hf:acme/demo@nosuch"])
def test_what_the_hub_has_not_is_not_found(live: LiveHub, tmp_path: Path, ref: str) -> None:
    live.import_folder("acme/demo", repo(tmp_path / "src", FILES))
    with pytest.raises(HubcliError) as caught:
        resolve_hub(parse_ref(ref), endpoint=live.url)
    assert caught.value.id in ("E_NOT_FOUND", "E_DENIED") and "acme/" in caught.value.message


def failing(
    shelf: Shelf, store: Store, answer: Answer, files: dict[str, bytes] = FILES, **sources: Any
) -> tuple[HubcliError, Hostile]:
    """Installing from a hostile hub fails; no adapter, blob, or file elsewhere appears."""
    with Hostile(answer) as server:
        resolved = shelf.at_hub(server.url, files, commit=COMMIT)
        with pytest.raises(HubcliError) as caught:
            install_resolved(resolved, store, Sources(**sources))
    assert not store.installed() and not list(store.layout.blobs.glob("*/*"))
    assert not [p for p in store.layout.tmp.glob("*") if p.name != "CACHEDIR.TAG"]
    return caught.value, server


def serving(files: dict[str, bytes], **headers: str) -> Answer:
    def answer(request: Request, send: Send) -> None:
        send(reply(200, files[request.path.rpartition("/")[2]], **headers))

    return answer


def body_of(request: Request) -> bytes:
    return FILES[request.path.rpartition("/")[2]]


HEADERS = {
    "2 etag a path": ({"ETag": '"../../../evil"'}, "E_BAD_HEADER"),
    "2 etag absolute": ({"ETag": "/etc/evil"}, "E_BAD_HEADER"),
    "2 linked etag": ({"X_Linked_ETag": '"..\\evil"'}, "E_BAD_HEADER"),
    "2 commit a path": ({"X_Repo_Commit": "../../evil"}, "E_BAD_HEADER"),
    "17 other commit": ({"X_Repo_Commit": "d" * 40}, "E_COMMIT"),
    "encoded": ({"Content_Encoding": "gzip"}, "E_BAD_HEADER"),
}


@pytest.mark.parametrize(("headers", "id"), HEADERS.values(), ids=HEADERS)
def test_rows_2_and_17_headers_are_text_from_the_other_side(
    shelf: Shelf, store: Store, headers: dict[str, str], id: str, tmp_path: Path
) -> None:
    before = everything_under(tmp_path)
    error, _ = failing(shelf, store, serving(FILES, **headers))
    assert error.id == id and everything_under(tmp_path) == before


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


@pytest.mark.parametrize("status", STATUS)
def test_row_55_each_status_has_its_own_id_and_tries_are_bounded(shelf: Shelf, store: Store, status: int) -> None:
    error, server = failing(shelf, store, lambda request, send: send(reply(status, b"no")))
    assert error.id == STATUS[status]
    assert len(server.requests) == (4 if status in (429, 500, 503) else 1)
    if status == 404:
        assert COMMIT in error.message and "gone" in str(error.hint)


def test_row_55_a_web_page_is_no_file(shelf: Shelf, store: Store) -> None:
    error, _ = failing(shelf, store, lambda r, send: send(reply(200, b"<html>login", Content_Type="text/html")))
    assert error.id == "E_NETWORK" and "page" in error.message


@pytest.mark.parametrize(
    "header", [{"Retry_After": "2"}, {"RateLimit": '"resolvers";r=0;t=2'}], ids=["Retry-After", "RateLimit"]
)
def test_row_55_a_busy_hub_is_waited_for(
    shelf: Shelf, store: Store, header: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(CLIENTS[0], "__kwdefaults__", CLIENTS[0].__kwdefaults__ | {"sleep": waited.append})
    seen: set[str] = set()

    def answer(request: Request, send: Send) -> None:
        first = request.path not in seen
        seen.add(request.path)
        send(reply(429, b"", **header) if first else reply(200, body_of(request)))

    with Hostile(answer) as server:
        done = install_resolved(shelf.at_hub(server.url, commit=COMMIT), store, Sources())
    assert store.verify(done).ok and waited == [2.0] * len(FILES)


def truncated(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:5], Content_Length=str(len(body_of(request)))))


def lying_short(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:-1]))


def longer(request: Request, send: Send) -> None:
    send(reply(200, body_of(request) + b"x"))


def longer_unannounced(request: Request, send: Send) -> None:
    body = body_of(request) + b"x" * 100
    send(reply(200, f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"))


def endless(request: Request, send: Send) -> None:
    send(reply(200, Transfer_Encoding="chunked"))
    for _ in range(1000):
        send(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def flipped(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:-1] + b"?"))


def stalls(request: Request, send: Send) -> None:
    send(reply(200, body_of(request)[:3], Content_Length=str(len(body_of(request)))))
    STOP.wait(20)


def stalls_in_headers(request: Request, send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    STOP.wait(20)


class Stop:
    """Waits without `time.sleep`, until the connection is torn down by the test's end."""

    def wait(self, seconds: float) -> None:
        import threading

        threading.Event().wait(seconds)


STOP = Stop()
SERVERS: dict[str, tuple[Answer, str]] = {
    "13 flipped": (flipped, "E_HASH"),
    "14 truncated": (truncated, "E_SIZE"),
    "14 length lies": (lying_short, "E_SIZE"),
    "14 longer": (longer, "E_SIZE"),
    "14 longer, chunked": (longer_unannounced, "E_SIZE"),
    "14 endless": (endless, "E_SIZE"),
    "14 stalls": (stalls, "E_TIMEOUT"),
    "14 stalls in the headers": (stalls_in_headers, "E_TIMEOUT"),
}


@pytest.mark.parametrize(("answer", "id"), SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("through", ["hub", "mirror"])
def test_rows_13_and_14_bodies_that_lie(
    shelf: Shelf, store: Store, answer: Answer, id: str, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    watch_sizes(monkeypatch, written)
    for client in CLIENTS:
        monkeypatch.setattr(client, "__kwdefaults__", client.__kwdefaults__ | {"timeout": 0.3})
    start = time.monotonic()
    if through == "hub":
        error, _ = failing(shelf, store, answer)
    else:
        by_sha = {sha(data): name for name, data in FILES.items()}

        def mirrored(request: Request, send: Send) -> None:
            answer(Request(request.method, "/" + by_sha[request.path[1:]], request.headers), send)

        with Hostile(mirrored) as server, pytest.raises(HubcliError) as caught:
            resolved = dataclasses.replace(shelf.resolved(), file_roots=())
            install_resolved(resolved, store, Sources(mirrors=(server.url,)))
        error = caught.value
        assert not store.installed() and not list(store.layout.blobs.glob("*/*"))
    assert error.id == id
    assert max(written, default=0) <= max(len(data) for data in FILES.values()) + 1
    assert time.monotonic() - start < 10


def watch_sizes(monkeypatch: pytest.MonkeyPatch, written: list[int]) -> None:
    """Note how big every part file was when its transfer ended."""
    from hubcli.store.staging import Staging

    real = Staging._write

    def noted(self: Staging, part: Path, *rest: Any) -> str:
        try:
            return real(self, part, *rest)
        finally:
            written.append(part.stat().st_size)

    monkeypatch.setattr(Staging, "_write", noted)


def test_row_14_a_slow_drip_ends(shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then defeats a time limit on reads; the rate over the whole transfer does not."""
    now = [0.0]
    monkeypatch.setattr(CLIENTS[0], "__kwdefaults__", CLIENTS[0].__kwdefaults__ | {"clock": lambda: now[0]})

    def drip(request: Request, send: Send) -> None:
        send(reply(200, Content_Length=str(len(body_of(request)))))
        for byte in body_of(request):
            now[0] += 10
            send(bytes([byte]))
            STOP.wait(0.002)

    with Hostile(drip) as server:
        resolved = shelf.at_hub(server.url, commit=COMMIT)
        with pytest.raises(NetworkError) as caught:
            install_resolved(resolved, store, Sources())
    assert caught.value.id == "E_TIMEOUT"


RANGES = ["honoured", "ignored", "wrong offset", "etag changed", "part edited", "416"]


@pytest.mark.parametrize("kind", RANGES)
def test_row_15_a_kept_part_is_continued_or_the_file_starts_again(shelf: Shelf, store: Store, kind: str) -> None:
    """First run: interrupted after 2 MiB. Second run: whatever the server does, the hash comes out right."""
    etags = ["one"]

    def answer(request: Request, send: Send) -> None:
        start, etag = request.start, f'"{etags[-1]}"'
        if kind == "416" and start:
            return send(reply(416))
        if start and kind not in ("ignored",):
            at = start + 7 if kind == "wrong offset" else start
            given = f"bytes {at}-{len(BIG) - 1}/{len(BIG)}"
            return send(reply(206, BIG[at:], Content_Range=given, ETag=etag))
        return send(reply(200, BIG, ETag=etag))

    class Stopping:
        def start(self, file: str, size: int) -> None:
            self.seen = 0

        def advance(self, n: int) -> None:
            self.seen += n
            if self.seen >= 2 << 20:
                raise KeyboardInterrupt

        def done(self) -> None:
            pass

    files = {"adapter_model.safetensors": BIG}
    with Hostile(answer) as server:
        resolved = shelf.at_hub(server.url, files, commit=COMMIT)
        with pytest.raises(KeyboardInterrupt):
            install_resolved(resolved, store, Sources(), progress=Stopping())
        part = store.layout.partial / sha(BIG)
        kept = part.stat().st_size
        assert 1 << 20 <= kept < len(BIG) and part.read_bytes() == BIG[:kept]
        assert not store.installed() and not list(store.layout.tmp.glob("*@*"))
        if kind == "part edited":
            part.write_bytes(b"?" * kept)
        if kind == "etag changed":
            etags.append("two")
        done = install_resolved(resolved, store, Sources())
        ranges = [r.headers.get("range") for r in server.requests[1:]]
    assert store.verify(done).ok and not part.exists()
    assert ranges[0] == f"bytes={kept}-"
    assert len(ranges) == (1 if kind in ("honoured", "ignored", "etag changed") else 2)


@pytest.mark.parametrize("changes", [False, True], ids=["same", "changed"])
def test_row_15_a_connection_that_breaks_is_taken_up_again(shelf: Shelf, store: Store, changes: bool) -> None:
    """The server breaks its first answer off; where the file is another one afterwards, it starts again."""
    other = safetensors({"w": ("U8", [3 << 20], bytes(3 << 20))})

    def answer(request: Request, send: Send) -> None:
        first = len(server.requests) == 1
        etag = '"other"' if changes and first else '"right"'
        body, start = other if changes and first else BIG, request.start
        if request.headers.get("if-range", etag) != etag:
            start = 0
        rest = body[start:]
        sent = rest[: 2 << 20] if first else rest
        if start:
            return send(
                reply(
                    206,
                    sent,
                    Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
                    ETag=etag,
                    Content_Length=str(len(rest)),
                )
            )
        return send(reply(200, sent, ETag=etag, Content_Length=str(len(rest))))

    with Hostile(answer) as server:
        done = install_resolved(
            shelf.at_hub(server.url, {"adapter_model.safetensors": BIG}, commit=COMMIT), store, Sources()
        )
    assert store.verify(done).ok
    assert len(server.requests) == (3 if changes else 2)


def test_row_17_a_repository_that_is_gone_still_installs_by_hash_from_a_mirror(shelf: Shelf, store: Store) -> None:
    with Hostile(lambda request, send: send(reply(404))) as server:
        for data in FILES.values():
            shelf.put(data)
        resolved = shelf.at_hub(server.url, commit=COMMIT)
        done = install_resolved(resolved, store, Sources(mirrors=(str(shelf.folder),)))
        assert store.verify(done).ok and not server.requests


def test_the_hugging_face_cache_serves_without_a_request(shelf: Shelf, store: Store, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = cache / "models--acme--demo"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / sha(WEIGHTS)).write_bytes(WEIGHTS)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("README.md", "adapter_config.json"):
        (snapshot / name).write_bytes(FILES[name])
    done = install_resolved(
        shelf.at_hub("http://127.0.0.1:9", commit=COMMIT), store, Sources(cache=cache, offline=True)
    )
    assert store.verify(done).ok


def test_offline_names_its_switch_and_local_sources_still_serve(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBCLI_OFFLINE", "1")
    resolved = shelf.at_hub("http://127.0.0.1:9", commit=COMMIT)
    with pytest.raises(HubcliError) as caught:
        install_resolved(resolved, store, Sources())
    assert caught.value.id == "E_OFFLINE" and "HUBCLI_OFFLINE" in str(caught.value.hint) + caught.value.message
    with pytest.raises(HubcliError) as caught:
        resolve_hub(parse_ref("hf:acme/demo"), endpoint="http://127.0.0.1:9")
    assert caught.value.id == "E_OFFLINE"
    for data in FILES.values():
        shelf.put(data)
    assert install_resolved(dataclasses.replace(resolved, file_roots=(str(shelf.folder),)), store, Sources()).changed


SECRET, BOUND = "hf_person_secret", "team_secret"


def tokens_seen(server: Hostile) -> set[str]:
    return {r.headers.get("authorization", "").removeprefix("Bearer ") for r in server.requests}


@pytest.mark.parametrize("case", ["own", "named by an index", "bound", "own, redirects", "bound, redirects"])
def test_row_57_a_token_reaches_the_origin_it_is_bound_to_alone(
    shelf: Shelf, store: Store, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with Hostile(serving(FILES)) as cdn:

        def answer(request: Request, send: Send) -> None:
            if "redirects" in case:
                send(reply(302, Location=f"{cdn.url}{request.path}", X_Repo_Commit=COMMIT))
            else:
                send(reply(200, body_of(request)))

        with Hostile(answer) as server:
            monkeypatch.setenv("HF_ENDPOINT", server.url if "own" in case else "http://127.0.0.1:9")
            tokens = {server.url: BOUND} if "bound" in case else {}
            resolved = shelf.at_hub(server.url, commit=COMMIT)
            done = install_resolved(resolved, store, Sources(tokens=tokens))
            assert tokens_seen(server) == {SECRET if "own" in case else BOUND if "bound" in case else ""}
            assert tokens_seen(cdn) == ({""} if "redirects" in case else set())
    everything = b"".join(data or b"" for data in everything_under(store.path).values()).decode("latin-1")
    shown = "".join(capfd.readouterr()) + everything + repr(done)
    assert SECRET not in shown and BOUND not in shown


def test_row_38_no_token_in_the_errors_of_a_failing_hub(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)

    def answer(request: Request, send: Send) -> None:
        send(reply(403, request.headers["authorization"].encode()))

    with Hostile(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(HubcliError) as caught:
            install_resolved(shelf.at_hub(server.url, commit=COMMIT), store, Sources())
    error = caught.value
    assert error.id == "E_DENIED" and SECRET not in f"{error} {error.cause} {error.hint} {error.__cause__}"


def test_row_38_https_never_becomes_http(monkeypatch: pytest.MonkeyPatch) -> None:
    http = transport.HubHttp("https://hub.example")
    asked: list[str] = []

    class Redirect:
        status = 302
        headers: ClassVar = {"Location": "http://hub.example/x"}

        def close(self) -> None:
            pass

    def once(self: Any, url: str, headers: dict[str, str]) -> Any:
        asked.append(url)
        return Redirect()

    monkeypatch.setattr(transport.HubHttp, "_once", once)
    with pytest.raises(NetworkError) as caught:
        http.get("https://hub.example/x", max_bytes=1)
    assert asked == ["https://hub.example/x"] and "https to http" in caught.value.message


def test_files_at_hand_need_no_hub_client(shelf: Shelf, home: Path) -> None:
    """Installing from a folder imports neither huggingface_hub nor an HTTP client, jsonschema or filelock."""
    shelf.resolved()
    script = (
        "import sys, json, tests.store.samples as c, hubcli.plugins\n"
        "hubcli.plugins.plugins = lambda: c.ToyPlugins()\n"
        "from hubcli.installer import install_resolved\n"
        "from hubcli.hub.sources import Sources\nfrom hubcli.store import Store\nfrom pathlib import Path\n"
        f"shelf = c.Shelf(Path({str(shelf.folder)!r}))\n"
        f"assert install_resolved(shelf.resolved(), Store(Path({str(home)!r})), Sources()).changed\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"huggingface_hub", "httpx2", "filelock", "torch", "numpy", "transformers"}
