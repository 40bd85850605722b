"""A hub whose connections break, and on which others commit, at the request that a test names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.publish.pushed import IDENTITY
from tests.support.hub_server import LiveHub, allow_loopback, client_environment

TOKEN = "hf_a-token-for-tests-alone"
DRIVER = Path(__file__).with_name("driver.py")
READS = ("GET", "HEAD")


class Wire:
    """What lies between client and hub: requests are counted; one can be cut off, one can wait for someone else.

    `cut` is (which, "before" | "after"): the request that matches gets no answer, and was not done or done. `which` is a number,
    counted from 1, or a text of method and path. `meanwhile` is called once before the request that `when` matches.
    """

    def __init__(self) -> None:
        self.cut: tuple[int | str, str] | None = None
        self.when = ""
        self.meanwhile: Callable[[], object] = lambda: None
        self.seen: list[str] = []
        self.answer: Callable[[str], tuple[int, bytes] | None] = lambda _: None

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The hub behind this wire."""

        async def wired(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            line = f"{scope['method']} {scope['path']}"
            self.seen.append(line)
            if self.when and self.when in line:
                self.when = ""
                await run_in_threadpool(self.meanwhile)
            given = self.answer(line)
            if given is not None:
                await _reply(send, *given)
            elif self._is_cut(line):
                await self._broken(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return wired

    @property
    def writes(self) -> list[str]:
        """The requests that ask for a change."""
        asks = ("/paths-info/", "/validate-yaml", "/preupload/")
        return [line for line in self.seen if not line.startswith(READS) and not any(ask in line for ask in asks)]

    def _is_cut(self, line: str) -> bool:
        if self.cut is None:
            return False
        which, _ = self.cut
        return len(self.seen) == which if isinstance(which, int) else which in line

    async def _broken(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.cut is not None
        _, how = self.cut
        self.cut = None

        async def unheard(_: Message) -> None:
            return

        if how == "after":
            await app(scope, receive, unheard)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        # returning here breaks the connection


async def _reply(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def go_online(monkeypatch: Any, hub: LiveHub, token: str | None = TOKEN) -> None:
    """Let this process publish to a hub; the client's own second tries wait for nothing."""
    allow_loopback(monkeypatch)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    import huggingface_hub.utils._http

    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda _: None)


def api_of(hub: LiveHub, token: str | None = TOKEN) -> HfApi:
    """The real client, as anyone has it."""
    return HfApi(endpoint=hub.url, token=token or False)


def publications(hub: LiveHub, repo: str, repo_type: str = "model") -> tuple[list[str], dict[str, str]]:
    """(commits that publish something, newest first; tag → commit) of a repository."""
    commits = api_of(hub).list_repo_commits(repo, repo_type=repo_type)
    tags = api_of(hub).list_repo_refs(repo, repo_type=repo_type).tags
    named = [commit.commit_id for commit in commits if commit.title.startswith("Publish ")]
    return named, {tag.name: tag.target_commit for tag in tags}


def run(hub: LiveHub, home: Path, *arguments: str, point: str = "", script: Path | None = DRIVER) -> Any:
    """A command in a process of its own, which may kill itself at a point; with `script` None the real one throughout."""
    environment = client_environment(hub, home / "hf", token=TOKEN) | IDENTITY
    environment |= {"HUBCLI_HOME": str(home / "hubcli"), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment |= {"HUBCLI_FAULT_POINT": point} if point else {}
    command = [sys.executable, *([str(script)] if script else ["-m", "hubcli"]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
