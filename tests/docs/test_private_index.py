"""docs/private-index.md from "Who reads it" on: each command runs, in order, on one machine and on others that have nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.docs.console import ROOT, Shell, Step, steps
from tests.registry.adapterhub_cards import CARD, put
from tests.support.static_server import serve

GUIDE = (ROOT / "docs" / "private-index.md").read_text(encoding="utf-8")
FROM = "## Who reads it"  # what stands before it is run in tests/registry/test_private_index_guide.py
TOKEN = "a-token-of-the-site"
PUBLISH = (
    "HF_ENDPOINT=https://hub.acme.example HF_TOKEN=hf_… hubcli publish ./films --repo acme/films-lora --name acme/films "
    "--version 1.0.0 --license apache-2.0 --author Acme --description 'Films.' --index ./our-index"
)
pytestmark = pytest.mark.slow


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return str(one.getsockname()[1])


def test_the_commands_work(shell: Shell, work: Path) -> None:
    put(work / "Hub", CARD)
    for command in (PUBLISH, "git -C our-index merge -q publish/acme/films-1.0.0", "hubcli index remove bundled"):
        shell.run(Step(command, "", 0))
    with serve(work / "site", token=TOKEN) as site:
        shell.instead |= {"https://adapters.acme.example/": site.url, "ACME_TOKEN=…": f"ACME_TOKEN={TOKEN}"}
        shell.instead |= {"8080": free_port(), "8000": free_port()}
        start = GUIDE.count("\n", 0, GUIDE.index(FROM))
        for step in [step for step in steps(GUIDE) if step.line > start]:
            shell.run(step)
        assert site.requests and not any(request.status == 401 for request in site.requests)
