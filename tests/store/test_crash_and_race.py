"""Real processes: killed at every step of an install, and many at once on the same files."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hubcli.hub.sources import Sources
from hubcli.installer import install_resolved
from hubcli.store import Store
from hubcli.store.faults import POINTS
from tests.store.driver import NAMES
from tests.store.samples import SHARED, Shelf, adapter, sha
from tests.support.hostile_server import Hostile, Request, Send, reply

ROOT = Path(__file__).parents[2]
OF_INSTALL = [point for point in POINTS if not point.endswith(("aside", "convert"))]


def driver(store: Store, shelf: Shelf, what: str, *arguments: str, fault: str | None = None) -> subprocess.Popen[str]:
    environment = os.environ | ({"HUBCLI_FAULT_POINT": fault} if fault else {})
    command = [sys.executable, "-m", "tests.store.driver", what, str(store.layout.home), str(shelf.folder), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def killed(store: Store, shelf: Shelf, what: str, *arguments: str, fault: str) -> None:
    process = driver(store, shelf, what, *arguments, fault=fault)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output


def is_sound(store: Store) -> None:
    """Nothing half: every adapter that is listed is whole, and no folder lacks its record."""
    assert not store.broken()
    assert all(store.verify(item).ok for item in store.installed())


@pytest.mark.slow
@pytest.mark.parametrize("before", ["fresh", "upgrade"])
@pytest.mark.parametrize("point", [*OF_INSTALL, "after-open:3", "each-mib:2", "after-blob:3"])
def test_row_42_killed_at_any_step_of_an_install(shelf: Shelf, store: Store, point: str, before: str) -> None:
    new = adapter(shelf, "test/one", "1.1.0")
    if before == "upgrade":
        install_resolved(adapter(shelf, "test/one", "1.0.0"), store, Sources())
    fault = (
        point.replace("each-mib", "before-fsync") if before == "upgrade" else point
    )  # its weights are linked, not written
    if before == "upgrade" and ":" in point:
        fault = point.partition(":")[0].replace("each-mib", "after-fsync")
    killed(store, shelf, "install", "test/one", "1.1.0", fault=fault)
    is_sound(store)
    found = store.find("test/one")
    complete = point in ("after-rename", "before-unlock")
    assert (found and found.record.version) == ("1.1.0" if complete else {"fresh": None, "upgrade": "1.0.0"}[before])
    findings = store.doctor(fix=True)
    assert all(finding.fixed for finding in findings) and bool(findings) != complete
    assert install_resolved(new, store, Sources()).changed != complete
    is_sound(store)
    newest = store.find("test/one")
    assert newest and newest.record.version == "1.1.0" and not store.doctor()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before-aside", "after-aside"])
@pytest.mark.parametrize("what", ["uninstall", "replace a damaged one"])
def test_row_42_killed_while_an_adapter_is_taken_away(shelf: Shelf, store: Store, point: str, what: str) -> None:
    new = adapter(shelf, "test/one", "1.0.0")
    done = install_resolved(new, store, Sources())
    if what != "uninstall":
        (Path(done.path) / "README.md").unlink()
    killed(store, shelf, "uninstall" if what == "uninstall" else "install", "test/one", "1.0.0", fault=point)
    assert not store.broken()
    assert bool(store.installed()) == (point == "before-aside")
    assert install_resolved(new, store, Sources()).changed == (what != "uninstall" or point == "after-aside")
    store.doctor(fix=True)
    is_sound(store)
    assert not store.doctor()


@pytest.mark.slow
def test_what_a_killed_download_left_is_taken_up_by_the_next(shelf: Shelf, store: Store) -> None:
    killed(store, shelf, "install", "test/one", "1.0.0", fault="each-mib:2")

    class Watching:
        first: list[int] = []  # noqa: RUF012

        def start(self, file: str, size: int) -> None:
            self.fresh = True

        def advance(self, n: int) -> None:
            self.first += [n] if self.fresh else []
            self.fresh = False

        def done(self) -> None:
            pass

    done = install_resolved(adapter(shelf, "test/one", "1.0.0"), store, Sources(), progress=Watching())
    assert store.verify(done).ok and 2 << 20 in Watching.first


@pytest.mark.slow
def test_row_52_a_download_that_is_interrupted_is_continued(
    shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a real process, in the middle of a body; the next run asks for the rest alone."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    resolved = adapter(shelf, "test/one", "1.0.0")
    bodies = {f"/{sha(path.read_bytes())}": path.read_bytes() for path in shelf.folder.iterdir()}
    release = threading.Event()

    def answer(request: Request, send: Send) -> None:
        body = bodies[request.path]
        if len(body) < 1 << 20:
            send(reply(200, body))
        elif start := request.start:
            send(reply(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}"))
        else:
            send(reply(200, body[: 1 << 20], Content_Length=str(len(body))))
            release.wait(30)

    with Hostile(answer) as server:
        process = driver(store, shelf, "install", "test/one", "1.0.0", server.url)
        part = f"tmp/*/.part-{sha(SHARED)}"
        while process.poll() is None and not any(p.stat().st_size >= 1 << 18 for p in store.path.glob(part)):
            pass
        process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        assert process.returncode and "KeyboardInterrupt" in output
        kept = (store.layout.partial / sha(SHARED)).stat().st_size
        assert 0 < kept < len(SHARED) and not store.installed() and not list(store.layout.tmp.glob("*@*"))
        release.set()
        done = install_resolved(dataclasses.replace(resolved, file_roots=(server.url,)), store, Sources())
        assert store.verify(done).ok
        assert [r.start for r in server.requests if r.path == f"/{sha(SHARED)}"] == [0, kept]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["race", "race-without-locks"])
def test_rows_44_and_45_many_processes_on_shared_files(shelf: Shelf, store: Store, what: str) -> None:
    for name in NAMES:
        for version in ("1.0.0", "1.1.0"):
            adapter(shelf, name, version)
    processes = [driver(store, shelf, what, str(seed), "25") for seed in range(8)]
    for process in processes:
        output = process.communicate()[0]
        assert process.returncode in (0, 8), output
    is_sound(store)
    assert not store.doctor()
    store.prune(grace=0)
    used = {f.sha256 for item in store.installed() for f in item.record.release.files}
    assert {p.name for p in store.layout.blobs.glob("??/*")} <= used
    for name in NAMES:
        assert store.verify(install_resolved(adapter(shelf, name, "1.0.0"), store, Sources())).ok
