"""Releases that are an archive elsewhere: listed, found, shown, and never installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import PolicyError
from hubcli.index.entries import check_entry
from hubcli.installer import check_plan
from hubcli.manifest import Release, Resolved
from hubcli.refs import parse_ref
from tests.registry.entrydocs import COMMIT, SHA, dump, entry, index, release, resolver, write
from tests.support.cli import hubcli

URL = "https://adapters.example/x/sst-2.zip"
ORIGIN = {"url": URL, "sha256": SHA, "format": "zip", "library": "adapterhub", "version": "nd"}
NEEDED = {"format": "a value", "library": "a value", "sha256": "a value"}


def archived(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "files": [],
        "hub": None,
        "status": "archived",
        "status_reason": "fetch it by hand",
        "origin": ORIGIN,
    }
    return release(**{**fields, **changes})


def faults(document: dict[str, Any]) -> list[tuple[str, str]]:
    checked = check_entry(dump(entry(releases=[document])), name="acme/legal", where="here")
    return [(fault.field, fault.expected) for fault in checked.faults + checked.unknown]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, []),
        ({"status": "quarantined"}, []),
        ({"status": "active"}, [("releases[0].status", "archived, of a release that has an origin and no files")]),
        ({"origin": None}, [("releases[0].files", "at least 1 items")]),
        ({"hub": {"repo": "a/b", "commit": COMMIT}}, [("releases[0].hub", "nothing, of a release without files")]),
        *[
            ({"origin": {**ORIGIN, "url": url}}, [("releases[0].origin.url", "an http(s) URL without credentials")])
            for url in ("ftp://x/y.zip", "https://me:secret@x/y.zip", "https://x", "file:///etc/x", "https://x/y z")
        ],
        ({"origin": {**ORIGIN, "format": "rar"}}, [("releases[0].origin.format", "zip")]),
        ({"origin": {"url": URL}}, [(f"releases[0].origin.{key}", kind) for key, kind in NEEDED.items()]),
    ],
    ids=str,
)  # fmt: skip
def test_what_an_entry_may_say(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(archived(**changes)) == expected


def test_one_with_files_may_say_where_it_was_made_of() -> None:
    assert faults(release(origin=ORIGIN)) == []


def test_found_and_refused(tmp_path: Path) -> None:
    found = resolver(index(tmp_path, "one", entry("acme/legal", archived())))
    (hit,) = found.search("contracts")
    assert (hit.name, hit.installable) == ("acme/legal", False)
    with pytest.raises(PolicyError, match="zip archive elsewhere") as refused:
        found.resolve(parse_ref("acme/legal"))
    assert refused.value.id == "E_ARCHIVE" and URL in str(refused.value.cause) and SHA in str(refused.value.cause)
    assert "hubcli convert ./legal --to adapterhub --out ./legal-safe" in str(refused.value.hint)


def test_a_newer_release_with_files_is_taken(tmp_path: Path) -> None:
    found = resolver(index(tmp_path, "one", entry("acme/legal", archived(), release("1.0.1"))))
    assert found.resolve(parse_ref("acme/legal")).version == "1.0.1"
    assert found.search("contracts")[0].installable
    with pytest.raises(PolicyError):
        found.resolve(parse_ref("acme/legal@1.0.0"))


def test_an_install_refuses_it_however_it_came() -> None:
    with pytest.raises(PolicyError) as refused:
        check_plan(Resolved("acme/legal", "1.0.0", "acme/legal", Release.from_json(archived()), "one"))
    assert refused.value.id == "E_ARCHIVE"


def test_an_origin_is_read_and_written_and_no_other_release_has_the_key() -> None:
    assert Release.from_json(archived()).to_json()["origin"] == {**ORIGIN, "sha1": None, "card": None}
    assert "origin" not in Release.from_json(release()).to_json()


def test_on_the_command_line(tmp_path: Path) -> None:
    write(tmp_path / "one", entry("acme/legal", archived()))
    assert hubcli("index", "add", "one", str(tmp_path / "one")).code == 0
    assert hubcli("search", "contracts").out.splitlines()[1].startswith("hubcli info acme/legal@1.0.0")
    assert hubcli("search", "contracts", "--json").document["hits"][0]["installable"] is False
    shown = hubcli("info", "acme/legal").out
    assert URL in shown and SHA in shown and "archived: fetch it by hand" in shown
    for command in (["install", "acme/legal"], ["lock"]):
        (tmp_path / "adapters.toml").write_text('[adapters]\n"acme/legal" = "*"\n')
        refused = hubcli(*command, cwd=tmp_path)
        assert refused.code == 6 and "zip archive elsewhere" in refused.err, command
    answer = hubcli("install", "acme/legal", "--json")
    assert json.loads(answer.out)["failed"][0]["error"]["id"] == "E_ARCHIVE"
