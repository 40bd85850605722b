"""The front door: help, version, unknown commands, errors as text and as JSON, interrupts, broken pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hubcli.cli.main import cli
from hubcli.cli.table import COMMANDS
from tests.support.adapters import IndexFolder
from tests.support.cli import GROUPS, hubcli, validator

SCRIPT = Path(sys.executable).parent / "hubcli"


def all_commands() -> list[list[str]]:
    found = []
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        found += [[name, sub] for sub in command.commands] if isinstance(command, click.Group) else [[name]]
    return found


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_has_help_with_examples_the_shared_options_and_a_schema(words: list[str]) -> None:
    answer = hubcli(*words, "--help")
    assert answer.code == 0
    assert "Examples:" in answer.out
    for option in ("--json", "--quiet", "--offline"):
        assert option in answer.out
    assert validator("-".join(words))


def test_help_lists_the_table() -> None:
    text = hubcli("--help").out
    assert all(f"  {name}" in text and line in text for name, (_, line) in COMMANDS.items())
    assert set(GROUPS) <= set(COMMANDS)


def test_the_version_needs_no_import() -> None:
    code = "import sys; sys.argv=['hubcli','--version']; from hubcli.__main__ import main; main(); print(sorted(m for m in sys.modules if m.startswith(('hubcli','click'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "['hubcli', 'hubcli.__main__', 'hubcli._version']"
    assert done.stdout.startswith("hubcli 0.")
    assert hubcli("--version").out == done.stdout.splitlines()[0] + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "id", "says"),
    [
        (["instal", "x"], 2, "E_USAGE", "did you mean 'install'"),
        (["install"], 2, "E_USAGE", "REF"),
        (["install", "a/b", "--nope"], 2, "E_USAGE", "--nope"),
        (["info", "not a ref"], 2, "E_REF", "is no ref"),
        (["info", "аcme/x"], 4, "E_NAME_CHARSET", "\\u0430cme"),
        (["info", "acme/nothing-here"], 3, "E_NOT_FOUND", "acme/nothing-here"),
        (["info", "nowhere:a/b"], 3, "E_NOT_FOUND", "nowhere"),
        (["plugins", "info", "lorra"], 3, "E_NOT_FOUND", "lorra"),
        (["search", "x", "--limit", "0"], 2, "E_USAGE", "limit"),
        (["index", "add", "x", "https://user:pw@host.example/"], 2, "E_CONFIG", "credentials"),
        (["index", "add", "hf", "./x"], 2, "E_CONFIG", "index name"),
        (["index", "remove", "nope"], 3, "E_NOT_FOUND", "nope"),
        (["lock"], 3, "E_NOT_FOUND", "adapters.toml"),
        (["sync"], 3, "E_NOT_FOUND", "adapters.toml"),
        (["sync", "--frozen"], 5, "E_LOCK", "adapters.lock"),
        (["uninstall", "a/b"], 3, "E_NOT_FOUND", "not installed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_as_json_and_as_text(tmp_path: Path, arguments: list[str], code: int, id: str, says: str) -> None:
    spoken = hubcli(*arguments, cwd=tmp_path)
    assert (spoken.code, spoken.out) == (code, "")
    assert spoken.err.startswith("error: ")
    assert says in spoken.err
    document = hubcli(*arguments, "--json", cwd=tmp_path)
    assert document.code == code
    assert document.document["error"]["id"] == id


def test_a_bug_shows_its_traceback_and_a_known_error_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hubcli.cli.main import run

    monkeypatch.setattr("hubcli.api.list", lambda: 1 / 0)
    assert run(["list"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.setenv("HUBCLI_DEBUG", "1")
    assert run(["list"]) == 1
    assert capsys.readouterr().err.count("Traceback") == 1
    assert run(["info", "acme/none"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hubcli.api.list", interrupt)
    answer = hubcli("list", "--json")
    assert (answer.code, answer.document["error"]["id"]) == (130, "E_INTERRUPTED")


def test_a_closed_pipe_is_no_error(index: IndexFolder) -> None:
    process = subprocess.Popen([SCRIPT, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")
    process.stderr.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_sigint_ends_a_real_process_with_130(tmp_path: Path) -> None:
    pipe = tmp_path / "texts"
    os.mkfifo(pipe)
    process = subprocess.Popen([SCRIPT, "run", "a/b", "--file", str(pipe)], stderr=subprocess.PIPE, text=True)
    with pipe.open("wb"):  # opens once the process has opened its end: now it reads, and a person presses Ctrl-C
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err


@pytest.mark.parametrize("words", [[], ["index"], ["plugins"]], ids=["hubcli", "index", "plugins"])
def test_without_a_command_the_help_is_shown_as_help(words: list[str]) -> None:
    answer = hubcli(*words)
    assert answer.code == 2
    assert answer.err == hubcli(*words, "--help").out
