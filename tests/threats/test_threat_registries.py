"""Which index answers, what was withdrawn, and where tokens go (rows 37 to 40, 57)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import HubcliError
from tests.support.adapters import IndexFolder
from tests.support.hostile_server import Hostile, Request, Send, reply
from tests.support.hub_server import LiveHub
from tests.support.static_server import StaticServer
from tests.support.static_server import serve as serve_folder
from tests.threats.conftest import COMMIT, REPO, hub_of
from tests.threats.doors import Door, Outcome, footprint, threat
from tests.threats.payloads import FILES, serve

Refused = Callable[..., Outcome]


def two_indexes(tmp_path: Path, order: tuple[str, str], scope: str = "") -> None:
    """`private` has acme/demo 1.0.0; `public` has 9.0.0 of the same name, and acme/open."""
    for name, version in (("private", "1.0.0"), ("public", "9.0.0")):
        IndexFolder(tmp_path / name).add("acme/demo", version)
    IndexFolder(tmp_path / "public").add("acme/open")
    for name in order:
        scopes = (scope,) if scope and name == "private" else ()
        api.index_add(name, str(tmp_path / name), scopes=scopes)


@threat(37, {"private first": ("private", "public"), "public first": ("public", "private")})
def test_the_first_index_that_has_the_name_wins(door: Door, case: tuple[str, str], tmp_path: Path) -> None:
    two_indexes(tmp_path, case)
    (row,) = door.install("acme/demo", dry_run=True).document["installed"]
    assert row["version"] == {"private": "1.0.0", "public": "9.0.0"}[case[0]]
    (row,) = door.install("acme/open", dry_run=True).document["installed"]
    assert row["version"] == "1.0.0"


@threat(37)
def test_a_scope_pins_names_to_an_index(door: Door, tmp_path: Path, refused: Refused) -> None:
    two_indexes(tmp_path, ("public", "private"), scope="acme/*")
    assert door.install("acme/demo", dry_run=True).document["installed"][0]["version"] == "1.0.0"
    refused(door, "E_NOT_FOUND", 3, "install", "acme/open")


def silent(request: Request, send: Send) -> None:
    threading.Event().wait(5)


DOWN: dict[str, tuple[Any, str]] = {
    "401": (lambda request, send: send(reply(401)), "E_DENIED"),
    "403": (lambda request, send: send(reply(403)), "E_DENIED"),
    "timeout": (silent, "E_TIMEOUT"),
}


@threat(37, DOWN)
def test_an_index_that_does_not_answer_stops(door: Door, case: Any, tmp_path: Path, refused: Refused) -> None:
    answer, id = case
    with Hostile(answer) as server:
        api.index_add("private", server.url, unseen=True)
        IndexFolder(tmp_path / "public").add("acme/demo", "9.0.0")
        api.index_add("public", str(tmp_path / "public"))
        refused(door, id, 7, "install", "acme/demo")


STATES = ("yanked", "quarantined", "deprecated")
PROJECT = '[adapters]\n"acme/demo" = "^1.0"\n'
WITHDRAWN = {f"{state}, {how}": (state, how) for state in STATES for how in ("new", "exact", "lock")}


def withdraw(door: Door, index: IndexFolder, state: str) -> None:
    """As the keepers of an index do it."""
    where = {"index": str(index.folder), "reason": "label leak"}
    if state == "yanked":
        done = door("yank", "acme/demo@1.0.0", **where)
    else:
        done = door("deprecate", "acme/demo", status=state, **where)
    assert (done.code, done.document["changed"]) == (0, True), done.text


@threat(39, WITHDRAWN)
def test_a_release_that_was_withdrawn(door: Door, case: tuple[str, str], index: IndexFolder) -> None:
    state, how = case
    index.add("acme/demo")
    Path("adapters.toml").write_text(PROJECT)
    api.lock()
    withdraw(door, index, state)
    outcome = door("sync") if how == "lock" else door.install("acme/demo" + ("@1.0.0" if how == "exact" else ""))
    stops = {"quarantined": "E_QUARANTINED"} if how != "new" else {"quarantined": "E_QUARANTINED", "yanked": "E_YANKED"}
    assert (outcome.id, outcome.code) == (stops.get(state), 6 if state in stops else 0), outcome.text
    assert "label leak" in outcome.text
    assert bool(api.list()["adapters"]) == (state not in stops)


def ways_in() -> dict[str, tuple[str, tuple[str, ...], dict[str, Any]]]:
    """Each command that brings an adapter into the store or keeps one there: (command, arguments, options)."""
    return {
        "install": ("install", ("acme/demo",), {}),
        "install exact": ("install", ("acme/demo@1.0.0",), {}),
        "install locked": ("install", ("acme/demo",), {"locked": True}),
        "install dry": ("install", ("acme/demo",), {"dry_run": True}),
        "sync": ("sync", (), {}),
        "sync frozen": ("sync", (), {"frozen": True}),
        "lock upgrade": ("lock", (), {"upgrade": True}),
        "run": ("run", ("acme/demo", "a text"), {}),
    }


@threat(40, ways_in())
def test_no_way_around_a_quarantine(door: Door, case: Any, index: IndexFolder, refused: Refused) -> None:
    command, arguments, options = case
    index.add("acme/demo")
    Path("adapters.toml").write_text(PROJECT)
    api.lock()
    withdraw(door, index, "quarantined")
    if command == "run" and door.name == "python":
        arguments = (arguments[0], [arguments[1]])
    refused(door, "E_QUARANTINED", 6, command, *arguments, **options)


@threat(40)
def test_no_repair_and_no_upgrade_around_a_quarantine(door: Door, index: IndexFolder) -> None:
    index.add("acme/demo")
    path = Path(api.install("acme/demo")["installed"][0]["path"])
    (path / "README.md").unlink()
    withdraw(door, index, "quarantined")
    for command, options in (("verify", {"repair": True}), ("upgrade", {})):
        outcome = door(command, **options)
        assert (outcome.id, outcome.code) == ("E_QUARANTINED", 6), (command, outcome.text)
    if door.name == "python":
        api.uninstall("acme/demo")
        with pytest.raises(HubcliError) as caught:
            api.load_adapter("acme/demo")
        assert caught.value.id == "E_QUARANTINED"


@threat(41, STATES)
def test_a_mirror_takes_over_what_was_withdrawn(door: Door, case: str, index: IndexFolder, tmp_path: Path) -> None:
    """Whatever is asked for in the second run."""
    index.add("acme/demo")
    index.add("acme/other")
    mirror = str(tmp_path / "mirror")
    assert door("mirror", mirror, "acme/demo").code == 0
    withdraw(door, index, case)
    again = door("mirror", mirror, "acme/other")
    assert (again.code, [row["name"] for row in again.document["refreshed"]][:1]) == (0, ["acme/demo"]), again.text
    assert door("index check", mirror).document["ok"]
    api.index_remove("acme")
    api.index_add("mirror", mirror, unseen=True)
    outcome = door.install("acme/demo")
    stops = {"yanked": "E_YANKED", "quarantined": "E_QUARANTINED"}
    assert outcome.id == stops.get(case) and "label leak" in outcome.text


@threat(41, ["a file", "an entry"])
def test_a_mirror_that_is_partial(door: Door, case: str, index: IndexFolder, tmp_path: Path) -> None:
    index.add("acme/demo")
    mirror = tmp_path / "mirror"
    assert door("mirror", str(mirror), "acme/demo").code == 0
    lost = next((mirror / "_files").iterdir()) if case == "a file" else mirror / "acme/demo.json"
    lost.unlink()
    checked = door("index check", str(mirror), against=str(index.folder)).document
    expected = {"a file": {"E_NOT_FOUND", "E_IMMUTABLE"}, "an entry": {"E_IMMUTABLE", "E_SNAPSHOT"}}
    assert {fault["id"] for fault in checked["faults"]} == expected[case]
    assert door("mirror", str(mirror), "acme/demo").code == 0
    assert door("index check", str(mirror), against=str(index.folder)).document["ok"]


SECRET, BOUND = "hf_person_secret", "team_secret"


@contextmanager
def team(tmp_path: Path, hub_url: str) -> Iterator[StaticServer]:
    """The index `team` on a server that asks for a token; acme/demo of it lies on the hub at `hub_url`."""
    source = IndexFolder(tmp_path / "source")
    source.add("acme/demo", files=FILES, hub=REPO)
    (source.folder / "_files").rename(tmp_path / "files")
    api.index_build(source.folder, tmp_path / "site", hub_endpoint=hub_url)
    with serve_folder(tmp_path / "site", token=BOUND) as server:
        api.index_add("team", server.url, token_env="TEAM_TOKEN", unseen=True)
        yield server


def tokens_seen(requests: list[Any]) -> set[str]:
    return {request.headers.get("authorization", "").removeprefix("Bearer ") for request in requests}


def no_secrets(*texts: str, roots: tuple[Path, ...]) -> None:
    """No token in what was said, and in no file."""
    written = b"".join(data or b"" for data in footprint(*roots).values()).decode("latin-1")
    views = "".join(p.read_bytes().decode("latin-1") for p in roots[-1].rglob("*") if p.is_file())
    for text in (*texts, written, views):
        assert SECRET not in text and BOUND not in text


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("TEAM_TOKEN", BOUND)


@threat(57, ["the person's hub", "a hub that the index names", "the index's own origin"])
def test_a_token_reaches_the_origin_it_is_bound_to(
    door: Door, case: str, tmp_path: Path, home: Path, tokens: None, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Also across redirects: the hub sends every file to another server, which sees no token at all."""
    Path("adapters.toml").write_text(PROJECT)
    with Hostile(serve()) as cdn:
        redirect = lambda request, send: send(reply(302, Location=cdn.url + request.path, X_Repo_Commit=COMMIT))  # noqa: E731
        with Hostile(redirect) as hub, team(tmp_path, hub.url) as index:
            if case == "the person's hub":
                monkeypatch.setenv("HF_ENDPOINT", hub.url)
            if case == "the index's own origin":
                monkeypatch.setenv("HF_ENDPOINT", index.origin)
            outcomes = [door("lock"), door.install("acme/demo"), door("verify"), door("info", "acme/demo")]
            assert [outcome.code for outcome in outcomes] == [0, 0, 0, 0], outcomes
            assert tokens_seen(hub.requests) == {SECRET if case == "the person's hub" else ""}
            assert tokens_seen(index.requests) == {BOUND}
            assert tokens_seen(cdn.requests) == {""}
    no_secrets(*(o.text for o in outcomes), *capfd.readouterr(), roots=(tmp_path / "work", home))


@threat(57, ["bound to the index", "the person's own"])
def test_a_private_index_on_the_hub(
    door: Door, case: str, tmp_path: Path, home: Path, tokens: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries, settings and files of it come by one token; where the hub redirects to sees none."""
    source = IndexFolder(tmp_path / "source")
    source.add("acme/demo", files=FILES)
    token = BOUND if case == "bound to the index" else SECRET
    with Hostile(lambda request, send: send(reply(404))) as cdn:

        def redirecting(app: Any) -> Any:
            async def answer(scope: Any, receive: Any, send: Any) -> None:
                if scope["type"] == "http" and "/_files/" in scope["path"]:
                    start = {"type": "http.response.start", "status": 302}
                    await send(
                        {**start, "headers": [(b"location", f"{cdn.url}/x".encode()), (b"content-length", b"0")]}
                    )
                    await send({"type": "http.response.body", "body": b""})
                else:
                    await app(scope, receive, send)

            return answer

        with (
            LiveHub(tmp_path / "hub", token=token) as hub,
            LiveHub(tmp_path / "hub", wrap=redirecting, token=token) as far,
        ):
            hub.import_folder("acme/index", source.folder, repo_type="dataset", private=True)
            api.index_add(
                "team", "hf:datasets/acme/index", token_env="TEAM_TOKEN" if token == BOUND else None, unseen=True
            )
            monkeypatch.setenv("HF_ENDPOINT", far.url)
            outcomes = [door("index update", "team"), door.install("acme/demo")]
            assert [outcome.code for outcome in outcomes] == [0, 3], [outcome.text for outcome in outcomes]
            assert cdn.requests and tokens_seen(cdn.requests) == {""}
            monkeypatch.setenv("HF_ENDPOINT", hub.url)
            outcomes += [door.install("acme/demo"), door("index list")]
            assert [outcome.code for outcome in outcomes[2:]] == [0, 0], outcomes
    no_secrets(*(o.text for o in outcomes), roots=(tmp_path / "work", home))


@threat(38, ["a hub that refuses", "an index that refuses", "an index that redirects"])
def test_no_token_in_what_a_failure_says(
    door: Door, case: str, index: IndexFolder, tmp_path: Path, home: Path, tokens: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Not in errors, not in the debug traceback, not in any file; and not at the server that a redirect names."""
    monkeypatch.setenv("HUBCLI_DEBUG", "1")
    with Hostile(lambda request, send: send(reply(404))) as other:

        def answer(request: Request, send: Send) -> None:
            given = request.headers.get("authorization", "nothing")
            if "redirects" in case:
                return send(reply(307, Location=other.url + request.path))
            return send(reply(403, f"no: {given}".encode(), WWW_Authenticate=given))

        with hub_of(index, answer) as server:
            ref = "acme/demo"
            if "index" in case:
                api.index_add("far", server.url, token_env="TEAM_TOKEN", unseen=True)
                ref = "far:acme/demo"
            monkeypatch.setenv("HF_ENDPOINT", server.url if "hub" in case else "http://127.0.0.1:9")
            process = door.process("install", ref)
            said = process.communicate()[0]
            assert process.returncode in (3, 7) and tokens_seen(server.requests) == {SECRET if "hub" in case else BOUND}
            assert tokens_seen(other.requests) <= {""} and bool(other.requests) == ("redirects" in case)
    no_secrets(said, roots=(tmp_path / "work", home))


@threat(38)
def test_a_url_with_credentials_is_refused(door: Door, refused: Refused) -> None:
    url = "https://me:team_secret@example.invalid/index"
    outcome = refused(door, "E_CONFIG", 2, "index add", "far", url)
    assert BOUND not in outcome.text
