"""A real hub server on a loopback port, in a thread, for any test that needs a hub to talk to.

    with LiveHub(tmp_path / "hub", token="secret") as hub:
        commit = hub.import_folder("acme/demo", source, tag="v1")
        HfApi(endpoint=hub.url, token="secret").model_info("acme/demo")
        hub.log[-1].path

The token also writes, with the real client; `read_token` only reads, `limits` are quotas (`hubcli.server.limits`):

    api = HfApi(endpoint=hub.url, token="secret")
    api.create_repo("acme/demo")                                   # main has a first commit with a .gitattributes
    api.upload_folder(repo_id="acme/demo", folder_path=source)     # sent as regular files, also where hf_xet is there

Call `allow_loopback(monkeypatch)` first where the client runs in the test's own process: the suite is offline.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from hubcli.server import create_app, import_folder
from hubcli.server.limits import Limits
from hubcli.server.run import HubServer

REDACTED = "(redacted)"
_SECONDS_TO_START = 30


class Logged(NamedTuple):
    """One request: method, path with query as sent, headers in lower case; of a token only that there was one."""

    method: str
    path: str
    headers: dict[str, str]


class LiveHub:
    """The hub server of a folder on a free port of 127.0.0.1, between `with` and its end.

    `wrap` may put an ASGI app of the test's own around the server's, to answer some requests wrongly.
    """

    def __init__(
        self,
        folder: Path,
        *,
        token: str | None = None,
        read_token: str | None = None,
        read_only: bool = False,
        limits: Limits | None = None,
        page_size: int = 1000,
        wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self.folder, self.token = Path(folder), token
        self.log: list[Logged] = []
        self.url = ""
        self._wrap = wrap
        self._options: dict[str, Any] = {
            "read_token": read_token,
            "read_only": read_only,
            "limits": limits,
            "page_size": page_size,
        }

    def import_folder(self, repo_id: str, source: Path, **options: Any) -> str:
        """`hubcli.server.import_folder` into this hub, also while it runs; returns the commit's id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return import_folder(self.folder, repo_id, source, **options)

    def seen(self, method: str = "", within: str = "") -> list[str]:
        """The paths asked for, of one method, or with a text in them."""
        return [one.path for one in list(self.log) if one.method.startswith(method) and within in one.path]

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        app = self._wrap(create_app(self.folder, self.token, **self._options))
        ready = threading.Event()
        self._server = HubServer(self._logging(app), host="127.0.0.1", port=0, ready=lambda _: ready.set())
        self._thread = threading.Thread(target=self._server.run_app, name="live-hub", daemon=True)
        self._thread.start()
        if not ready.wait(_SECONDS_TO_START):
            raise RuntimeError("the hub server did not start")
        self.url = self._server.url
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _logging(self, app: ASGIApp) -> ASGIApp:
        async def logged(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                query = scope["query_string"].decode("latin-1")
                path = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
                if "authorization" in headers:
                    headers["authorization"] = REDACTED
                self.log.append(Logged(scope["method"], path, headers))
            await app(scope, receive, send)

        return logged


def allow_loopback(monkeypatch: Any) -> None:
    """Let huggingface_hub, in this process, make requests: it reads its offline switch once, at import.

    Also forgets tokens of the machine and proxies, so that a test talks to the hub it names and as who it says.
    """
    for name, value in _online().items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)


def client_environment(hub: LiveHub, home: Path, *, token: str | None = None) -> dict[str, str]:
    """The environment of a process whose hub is this one, with caches of its own below `home`."""
    environment = {name: value for name, value in os.environ.items() if name not in _online()}
    environment |= {name: value for name, value in _online().items() if value is not None}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)}
    return environment | ({"HF_TOKEN": token} if token else {})


def _online() -> dict[str, str | None]:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), None)
    quiet = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": None, "HUBCLI_OFFLINE": None}
    return {
        **proxies,
        **quiet,
        "HF_TOKEN": None,
        "HF_HUB_CACHE": None,
        "HF_ENDPOINT": None,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
