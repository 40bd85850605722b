"""A base that has to come from a hub which does not answer, refuses, or is none: exit 7, the endpoint named, a hint."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys

import pytest

from hubcli.errors import HubcliError, NetworkError
from hubcli.manifest import BaseModel
from hubcli.reaching import network_error, on_hub
from tests.support.hostile_server import Answer, Hostile, Request, Send, reply

COMMIT = "c" * 40
CONFIG = json.dumps({"model_type": "bert"}).encode()
SCRIPT = """
import sys
from hubcli import bases
from hubcli.cli.main import _failure
from hubcli.manifest import BaseModel
try:
    bases.load_base(BaseModel("acme/base"), "text-classification")
except Exception as error:
    sys.exit(_failure(error, True))
"""


def child(endpoint: str, script: str = SCRIPT, **more: str) -> tuple[int, dict[str, str]]:
    """Exit code and error of a process that may use the network, and whose hub is `endpoint`."""
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1", **more}
    env.pop("HF_HUB_OFFLINE")
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["error"]


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def headed(send: Send, request: Request, body: bytes, **headers: str) -> None:
    send(reply(200, b"" if request.method == "HEAD" else body, Content_Length=str(len(body)), **headers))


def page(request: Request, send: Send) -> None:
    headed(send, request, b"<html>log in</html>", Content_Type="text/html")


def config_alone(request: Request, send: Send) -> None:
    """A config that is there, and nothing else."""
    if request.path.endswith("/config.json"):
        headed(send, request, CONFIG, X_Repo_Commit=COMMIT, ETag='"e1"')
    else:
        send(reply(404))


@pytest.mark.slow
def test_nobody_listens() -> None:
    endpoint = closed_port()
    code, error = child(endpoint)
    assert (code, error["id"]) == (7, "E_NETWORK")
    assert error["message"] == f"the base acme/base can't be reached at {endpoint}" and "--offline" in error["hint"]


def asked(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, str]:
    """What `on_hub` says of a base on a hub that answers so, and that hub's URL."""
    from huggingface_hub import constants

    with Hostile(answer) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        return on_hub(BaseModel("acme/base"), None), server.url


@pytest.mark.parametrize(
    ("answer", "id", "message"),
    [
        (lambda request, send: send(reply(503)), "E_NETWORK", "http://127.0.0.1:[0-9]+ answers 503"),
        (lambda request, send: send(reply(403)), "E_DENIED", "http://127.0.0.1:[0-9]+ denies access"),
        (lambda request, send: send(reply(429)), "E_RATE_LIMIT", r"too many requests to http://127.0.0.1:[0-9]+ \(429"),
        (lambda request, send: None, "E_NETWORK", "can't be reached at http://127.0.0.1:"),
        (page, "E_NETWORK", "http://127.0.0.1:[0-9]+ does not answer as a hub does"),
    ],
    ids=["503", "403", "429", "cut off", "a page"],
)
def test_a_hub_that_is_none(answer: Answer, id: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match=message) as caught:
        asked(answer, monkeypatch)
    assert (caught.value.id, caught.value.exit_code) == (id, 7) and caught.value.hint


def test_what_a_hub_has_and_what_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(config_alone, monkeypatch)[0]
    assert not asked(lambda request, send: send(reply(404, X_Error_Code="RepoNotFound")), monkeypatch)[0]


def test_errors_are_read_through_what_they_were_raised_from() -> None:
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    def raised(*links: Exception) -> HubcliError | None:
        for inner, outer in itertools.pairwise(links):
            outer.__cause__ = inner
        return network_error(links[-1], "acme/base")

    assert raised(OSError("a disk")) is None
    assert raised(OfflineModeIsEnabled("off"), httpx2.ConnectError("no"), OSError("a wrapper")) is None
    slow = raised(httpx2.ReadTimeout("slow"), OSError("a wrapper"))
    assert slow is not None and slow.id == "E_TIMEOUT" and "https://huggingface.co" in slow.message
