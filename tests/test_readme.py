"""The README is true today: its tour, command by command with the output it shows, and every name it points to."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hubcli.cli.table import COMMANDS
from tests.support.cli import GROUPS, hubcli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN_HOME = "~/.local/share/hubcli"


def tour() -> list[tuple[str, str]]:
    """(command, output) of the block under "A two-minute tour"."""
    block = re.search(r"## A two-minute tour\n+```console\n(.*?)```", README, re.DOTALL)
    assert block is not None
    parts = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
    return [(first, rest.strip()) for first, _, rest in (part.partition("\n") for part in parts)]


def test_the_tour_prints_what_the_readme_shows(home: Path) -> None:
    for command, expected in tour():
        answer = hubcli(*shlex.split(command)[1:])
        found = (answer.out + answer.err).replace(str(home), SHOWN_HOME).strip()
        assert found == expected, command


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(((?!http|#)[^)]+)\)", README))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_every_command_shown_exists() -> None:
    whole = README.replace("\\\n", " ")  # a command that goes on in the next line
    for line in re.findall(r"^\$ (hubcli .*?)(?:\s+#.*)?$", whole, re.MULTILINE):
        words = shlex.split(line)[1:]
        assert words[0] in COMMANDS, line
        if words[0] in GROUPS:
            assert hubcli(*words[:2], "--help").code == 0, line
