"""THREATS 1, 3, 4, 6, 10, 11, 12: what an entry may not say."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli import schema
from hubcli.errors import EntryError
from hubcli.index.entries import check_entry, check_name, raise_faults, safe_path
from hubcli.manifest import Entry
from tests.registry.entrydocs import SHA, dump, entry, release, yank

UNSAFE = [
    "../../x",
    "/etc/x",
    "a/../../x",
    "C:\\x",
    "C:x",
    "\\\\srv\\x",
    "a\\..\\b",
    "~",
    "~root/x",
    "",
    ".",
    "..",
    "a.",
    "a ",
    "a./b",
    " a",
    "a//b",
    "a/",
    "a\0b",
    "a\n",
    "x" * 300,
    "CON",
    "sub/nul.json",
    "ä",
    "a\u202eb",
]


def faults(document: Any, name: str = "acme/legal") -> list[tuple[str, str]]:
    checked = check_entry(dump(document), name=name, where="acme/legal.json")
    return [(fault.id, fault.field) for fault in checked.faults]


@pytest.mark.parametrize("path", UNSAFE, ids=ascii)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(EntryError) as error:
        safe_path(path)
    assert error.value.id == "E_PATH_UNSAFE" and error.value.exit_code == 4 and error.value.message.isprintable()
    files = [{"path": path, "size": 1, "sha256": SHA, "role": "config"}]
    ids = {id for id, _ in faults(entry("acme/legal", release(files=files)))}
    assert ids & {"E_PATH_UNSAFE", "E_JSON_TEXT"}


@pytest.mark.parametrize(
    "path", ["README.md", "a/b/c.json", "adapter_model-00001-of-00002.safetensors", ".gitattributes", "console.json"]
)
def test_safe_paths(path: str) -> None:
    assert str(safe_path(path)) == path


@pytest.mark.parametrize("second", ["ADAPTER_config.json", "adapter_config.json", "adapter_config.json/x"])
def test_two_files_in_one_place(second: str) -> None:
    files = [{"path": p, "size": 1, "sha256": SHA, "role": "config"} for p in ("adapter_config.json", second)]
    assert faults(entry("acme/legal", release(files=files))) == [("E_PATH_UNSAFE", "releases[0].files[1].path")]


@pytest.mark.parametrize(
    "name, id",
    [
        ("аcme/legal", "E_NAME_CHARSET"),
        ("ａcme/legal", "E_NAME_CHARSET"),
        ("acme/ﬁle", "E_NAME_CHARSET"),
        ("acme/le\u200bgal", "E_NAME_CHARSET"),
        ("acme/\u202elegal", "E_NAME_CHARSET"),
        ("Acme/legal", "E_NAME_CHARSET"),
        ("acme/legal\n", "E_NAME_CHARSET"),
        ("acme", "E_NAME_CHARSET"),
        ("acme/x/y", "E_NAME_CHARSET"),
        ("acme/a..b", "E_NAME_CHARSET"),
        ("acme/a--b", "E_NAME_CHARSET"),
        ("acme/x.", "E_NAME_CHARSET"),
        ("acme/" + "x" * 65, "E_NAME_CHARSET"),
        ("con/x", "E_NAME_RESERVED"),
        ("acme/nul.v2", "E_NAME_RESERVED"),
        ("acme/com1", "E_NAME_RESERVED"),
    ],
    ids=ascii,
)
def test_names(name: str, id: str) -> None:
    (fault,) = check_name(name)
    assert fault.id == id and fault.found.isascii()


def test_code_points_of_a_homoglyph_are_shown() -> None:
    (fault,) = check_name("аcme/legal")
    assert r"\u0430cme/legal" in str(fault)


def test_name_and_path_differ() -> None:
    assert faults(entry("acme/other")) == [("E_NAME_MISMATCH", "name")]


def test_an_ordinary_entry_has_no_fault_and_reads_back() -> None:
    document = entry("acme/legal", release(), release("1.1.0", yanked=yank(), status="deprecated"))
    assert faults(document) == []
    assert Entry.from_json(document).to_json()["releases"][1]["yanked"]["reason"] == "wrong labels"
    assert faults(Entry.from_json(document).to_json()) == []


def test_all_faults_of_a_file_at_once() -> None:
    document = entry(
        "acme/legal", release("1"), release(status="gone", published="2026-02-30T00:00:00Z", hub={"repo": "a/b"})
    )
    document["description"] = 7
    found = faults(document)
    assert {field for _, field in found} == {
        "description",
        "releases[0].version",
        "releases[1].status",
        "releases[1].published",
        "releases[1].hub.commit",
    }
    with pytest.raises(EntryError) as error:
        raise_faults("acme/legal.json", check_entry(dump(document), name="acme/legal", where="").faults)
    assert "acme/legal.json: 5 faults: " in error.value.message
    assert (
        'releases[1].status: expected one of active, archived, deprecated, quarantined, found "gone"'
        in error.value.message
    )


@pytest.mark.parametrize("second", ["1.0.0", "1.0.0+build"])
def test_a_version_stands_once(second: str) -> None:
    assert faults(entry("acme/legal", release(), release(second))) == [("E_VERSION", "releases[1].version")]


@pytest.mark.parametrize(
    "text, good",
    [
        ("2026-01-31T12:00:00Z", True),
        ("2024-02-29T00:00:00Z", True),
        ("2026-02-29T00:00:00Z", False),
        ("2026-01-31T24:01:00Z", False),
        ("2026-01-31T12:00:60Z", False),
        ("2026-01-31 12:00:00Z", False),
        ("2026-01-31T12:00:00", False),
        ("2026-01-31T12:00:00+00:00", False),
        ("2026-01-31T12:00:00.5Z", False),
    ],
)
def test_times(text: str, good: bool) -> None:
    assert (not faults(entry("acme/legal", release(published=text)))) == good


@pytest.mark.parametrize("size", [True, -1, 1.5, "10", 1 << 41])
def test_sizes_are_whole_numbers(size: object) -> None:
    files = [{"path": "README.md", "size": size, "sha256": SHA, "role": "card"}]
    assert faults(entry("acme/legal", release(files=files))) == [("E_SCHEMA", "releases[0].files[0].size")]


def test_unknown_keys_are_noted_and_no_fault() -> None:
    checked = check_entry(dump(entry("acme/legal", release(flavour="sweet"))), name="acme/legal", where="")
    assert not checked.faults and [fault.field for fault in checked.unknown] == ["releases[0].flavour"]


def test_an_entry_from_the_future_says_so() -> None:
    checked = check_entry(dump({"v": 2, "anything": True}), name="acme/legal", where="")
    assert "newer hubcli" in str(checked.faults[0]) and len(checked.faults) == 1


@pytest.mark.parametrize(
    "kind, changes, field",
    [
        ("adapter", {"files": []}, "releases[0].files"),
        ("adapter", {"method": None}, "releases[0].method"),
        ("adapter", {"base": None}, "releases[0].base"),
        ("composition", {"expression": None, "requires": {"a/b": "^1"}}, "releases[0].expression"),
        ("composition", {"expression": "stack(a/b)", "requires": {}}, "releases[0].requires"),
        ("composition", {"expression": "stack(a/b)", "requires": {"a/b": "newest"}}, "releases[0].requires.a/b"),
        ("composition", {"expression": "stack(a/b)", "requires": {"../b": "^1"}}, "releases[0].requires.../b"),
        ("fusion", {"requires": {"a/b": "^1"}, "files": []}, "releases[0].files"),
    ],
)
def test_what_each_kind_needs(kind: str, changes: dict[str, Any], field: str) -> None:
    assert [f for _, f in faults(entry("acme/legal", release(**changes), kind=kind))] == [field]


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all strings in a document."""
    if isinstance(value, str):
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from strings(item, (*path, key))


FULL = entry(
    "acme/legal",
    release(yanked=yank(replacement="acme/new"), status="deprecated", status_reason="old", training={"code": ["x"]}),
    authors=[{"name": "Ada", "contact": "ada@acme.example", "hub_user": "ada"}],
)


@pytest.mark.parametrize("tail", ["\n", "\r", "\x1b[31m", "\u202e"], ids=ascii)
@pytest.mark.parametrize("path", list(strings(FULL)), ids=lambda path: ".".join(map(str, path)))
def test_no_string_takes_a_line_end_or_control_character(path: tuple[Any, ...], tail: str) -> None:
    document: Any = copy.deepcopy(FULL)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += tail
    assert {id for id, _ in faults(document)} & {"E_SCHEMA", "E_JSON_TEXT", "E_PATH_UNSAFE", "E_NAME_CHARSET"}


def patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for item in value.values():
            yield from patterns(item)
    elif isinstance(value, list):
        for item in value:
            yield from patterns(item)


ALL_PATTERNS = sorted({p for name in ("index-entry", "index", "lock") for p in patterns(schema.load_schema(name))})
HOSTILE = [
    "0" * 50_000,
    "a" * 50_000,
    "1.0.0-" + "a." * 25_000,
    "1.0.0-" + "0" * 50_000,
    "a-" * 25_000,
    "a/" * 25_000,
    "1" * 50_000 + "!",
]


@pytest.mark.parametrize("pattern", ALL_PATTERNS)
def test_patterns_are_linear_and_end_at_the_end(pattern: str) -> None:
    for text in HOSTILE:
        start = time.process_time()
        re.search(pattern, text + "!")
        assert time.process_time() - start < 0.1
    assert pattern.startswith("^") and pattern.endswith(r"$(?!\n)")


MUTATIONS = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**15, "", "x", "1.0.0", [], ["en"], {}, {"id": "a/b"}, SHA, "a" * 600]
)


@given(st.data())
def test_the_compiled_schema_accepts_nothing_that_the_validator_refuses(data: st.DataObject) -> None:
    document = copy.deepcopy(FULL)
    for _ in range(data.draw(st.integers(0, 2))):
        place: Any = document
        while isinstance(place, dict | list) and place:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                break
            place = place[key]
        if isinstance(place, dict | list) and place:
            place[key] = copy.deepcopy(data.draw(MUTATIONS))
    fast, judge = schema._compiled("index-entry"), schema._validator("index-entry")
    assert fast is not None
    assert fast(document) == judge.is_valid(json.loads(json.dumps(document)))
