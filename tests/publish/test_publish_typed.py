"""What `hubcli publish` says of words that no entry takes: at once, before a folder or a hub is asked, and how to put it right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import hubcli as command_line
from tests.support.cli import validator

NAME = "acme/films"
TYPED = {
    "--version=v1.0.0": "did you mean --version 1.0.0?",
    "--version=1.0": "did you mean --version 1.0.0?",
    "--version=x": "--version 1.0.0",
    "--name=films": "--name YOU/films",
    "--name=Acme/Films": "did you mean --name acme/films?",
    "--license=apache": "did you mean 'apache-2.0'?",
    "--language=klingon": "--language en",
    "--task=text-clasification": "did you mean --task text-classification?",
}


@pytest.mark.parametrize("option", TYPED)
def test_what_was_typed_is_judged_before_anything_is_asked(tmp_path: Path, option: str) -> None:
    rest = [f"--name={NAME}", "--version=1.0.0"]
    call = ["publish", str(tmp_path / "no such folder"), *rest, option, "--repo=acme/x", "--no-index"]
    refused = command_line(*call, "--json").document["error"]
    assert refused["id"] == "E_USAGE" and TYPED[option] in refused["hint"], refused
    validator("error").validate({"error": refused})


def test_several_faults_are_a_line_each(tmp_path: Path) -> None:
    call = ("publish", "x", "--name=films", "--version=v1", "--repo=acme/x", "--no-index")
    told = command_line(*call)
    assert told.code == 2
    said, *parts = told.err.splitlines()
    assert said == "error: 2 things stand against it"
    assert parts[1::2] == [
        "    hint: expected GROUP/NAME, e.g. --name YOU/films",
        "    hint: did you mean --version 1.0.0?",
    ]
    document = command_line(*call, "--json").document
    validator("error").validate(document)
    assert [found["message"].partition(":")[0] for found in document["error"]["findings"]] == ["name", "version"]


def test_a_range_is_said_once(tmp_path: Path) -> None:
    twice = ("--requires=acme/a=^1", "--requires=acme/a=^2")
    refused = command_line("publish", str(tmp_path), f"--name={NAME}", "--version=1.0.0", "--no-index", *twice)
    assert refused.code == 2 and "acme/a is given twice, as ^1 and ^2" in refused.err
