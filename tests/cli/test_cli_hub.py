"""`hubcli hub serve`, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hubcli.sizes import count
from tests.server.served import ask
from tests.support.cli import check, hubcli


@pytest.mark.parametrize(
    ("options", "writable", "status"),
    [([], False, 403), (["--token", "t"], True, 200), (["--token", "t", "--read-only"], False, 403)],
    ids=str,
)
def test_serving_until_ctrl_c(tmp_path: Path, options: list[str], writable: bool, status: int) -> None:
    command = [sys.executable, "-m", "hubcli", "hub", "serve", str(tmp_path), "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
        assert server.stdout
        lines = [server.stdout.readline()]
        while lines[-1] and not lines[-1].startswith("}") and not lines[0].rstrip().endswith("}"):
            lines.append(server.stdout.readline())
        ready = check(("hub", "serve"), "".join(lines))
        reply = ask(ready["url"], "POST", "/api/repos/create", body=b'{"name": "a"}', Authorization="Bearer t")
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    assert (ready["writable"], reply.status, server.returncode, errors) == (writable, status, 0, "")


def test_quotas_come_from_the_command_line(tmp_path: Path) -> None:
    answer = hubcli("hub", "serve", str(tmp_path), "--port", "0", "--max-file-size", "5XB", "--json")
    assert (answer.code, "5XB" in answer.document["error"]["message"]) == (2, True)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("300000", 300_000), ("500MB", 500_000_000), ("2.5 gb", 2_500_000_000), ("1.5kB", 1500)],
)
def test_sizes(text: str, number: int) -> None:
    assert count(text) == number


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e9", "1 XB", "1.5.5", "٣MB", "9" * 16])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="500MB"):
        count(text)
