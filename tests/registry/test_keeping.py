"""Keeping an index: check, build, what is published stays (THREATS 5, 11, 12)."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli.errors import ContentError, EntryError, NotFoundError
from hubcli.index.build import build_site
from hubcli.index.check import check_folder
from hubcli.index.fill import build_in_memory
from hubcli.index.similar import near_collisions, near_groups, one_edit
from hubcli.index.sources import Snapshot
from tests.registry.entrydocs import dump, entry, release, write, yank


def found(folder: Path, against: Path | None = None) -> list[tuple[str, str, str]]:
    return [(file, fault.id, fault.field) for file, fault in check_folder(folder, against=against).faults]


def test_a_good_folder(tmp_path: Path) -> None:
    write(tmp_path, entry("acme/legal"), entry("acme/tax"))
    report = check_folder(tmp_path)
    assert (report.entries, report.faults) == (2, ())


def test_every_fault_of_every_file(tmp_path: Path) -> None:
    write(tmp_path, entry("acme/legal", release(flavour=1), release("x")), entry("acme/tax"), entry("nul/x"))
    (tmp_path / "acme" / "tax.json").rename(tmp_path / "acme" / "wrong.json")
    assert found(tmp_path) == [
        ("acme/legal.json", "E_SCHEMA", "releases[1].version"),
        ("acme/legal.json", "E_SCHEMA", "releases[0].flavour"),
        ("acme/wrong.json", "E_NAME_MISMATCH", "name"),
        ("nul/x.json", "E_NAME_RESERVED", "name"),
    ]


def test_files_beside_the_entries_are_compared(tmp_path: Path) -> None:
    write(tmp_path, entry("acme/legal", release(files=[spec(b"weights", size=8)])))
    store(tmp_path, b"weights")
    (tmp_path / "_files" / ("0" * 64)).write_bytes(b"other")
    assert found(tmp_path) == [
        ("_files/" + "0" * 64, "E_HASH", ""),
        ("acme/legal.json", "E_SIZE", "adapter_model.safetensors.size"),
    ]
    with pytest.raises(ContentError):
        build_site(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("status", ["active", "quarantined"])
def test_every_file_can_be_had_from_somewhere(tmp_path: Path, status: str) -> None:
    files = [spec(b"weights"), spec(b"gone") | {"path": "b.safetensors"}]
    nowhere = release("1.1.0", files=files, hub=None, status=status, status_reason="harm")
    write(tmp_path, entry("acme/legal", release(files=files), nowhere))
    store(tmp_path, b"weights")
    missing = [] if status == "quarantined" else [("acme/legal.json", "E_NOT_FOUND", "releases[1].files[1]")]
    assert found(tmp_path) == missing
    for _, fault in check_folder(tmp_path).faults:
        assert fault.expected == f"a file _files/{files[1]['sha256']} or a hub" and fault.found == "neither"


def spec(data: bytes, size: int | None = None) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    return {"path": "adapter_model.safetensors", "size": size or len(data), "sha256": sha256, "role": "weights"}


def store(folder: Path, data: bytes) -> None:
    (folder / "_files").mkdir(exist_ok=True)
    (folder / "_files" / hashlib.sha256(data).hexdigest()).write_bytes(data)


@pytest.mark.parametrize(
    "a, b, near",
    [
        ("acme/legal-summarize", "acme/legal-sumarize", True),
        ("acme/legal-summarize", "acme/legal_summarize", True),
        ("acme/legal-summarize", "acme/legalsummarize", True),
        ("acme/legal-summarize", "acrne/legal-summarize", True),
        ("acme/model", "acme/mode1", True),
        ("acme/model-o", "acme/model-0", True),
        ("sentiment/bert", "sentimnet/bert", True),
        ("acme/film", "acme/films", True),
        ("ai/film", "ai/films", True),
        ("acme/films", "acme/firms", True),
        ("acme/film", "acme/firm", False),
        ("acme/old-film", "acme/old-films", False),
        ("film/old", "films/old", False),
        ("lang/de", "lang/da", False),
        ("sentiment/bert-lora", "sentiment/bert-qlora", False),
        ("lang/multi-en", "lang/multi-de", False),
        ("sentiment/bert-lora", "sentiment/bert-dora", False),
        ("acme/llama-7b-legal", "acme/llama-8b-legal", False),
        ("acme/model2", "acme/model3", False),
        ("acme/model1", "acme/model11", False),
        ("acme/entry10x1", "acme/entry0x1", False),
        ("acme/llama10legal", "acme/llama10lega", True),
        ("acme/legal", "acme/finance", False),
    ],
)
def test_names_that_are_taken_for_each_other(a: str, b: str, near: bool) -> None:
    assert near_collisions([b, a, "zoo/ape"]) == ([tuple(sorted((a, b)))] if near else [])


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        ("contracts", "contrcats", True),
        ("legal", "lega1", True),
        ("films", "film", False),
        ("filmss", "films", True),
        ("films-org", "films_org", True),
        ("lang", "land", False),
        ("team-10x1", "team-0x1", False),
        ("team1", "team11", False),
    ],
)
def test_groups_that_are_taken_for_each_other(a: str, b: str, near: bool) -> None:
    assert near_groups([f"{b}/x", f"{a}/other", f"{a}/more"]) == ([tuple(sorted((f"{a}/", f"{b}/")))] if near else [])


def distance(a: str, b: str) -> int:
    """Damerau-Levenshtein (optimal string alignment), the textbook way."""
    rows = {(-1, -1): 0} | {(i, -1): i + 1 for i in range(len(a))} | {(-1, j): j + 1 for j in range(len(b))}
    for i in range(len(a)):
        for j in range(len(b)):
            best = min(rows[i - 1, j] + 1, rows[i, j - 1] + 1, rows[i - 1, j - 1] + (a[i] != b[j]))
            if i and j and a[i] == b[j - 1] and a[i - 1] == b[j]:
                best = min(best, rows[i - 2, j - 2] + 1)
            rows[i, j] = best
    return rows[len(a) - 1, len(b) - 1]


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_one_edit_is_distance_one(a: str, b: str) -> None:
    assert one_edit(a, b) == (distance(a, b) == 1)


@given(st.sets(st.text("ab/-", min_size=8, max_size=12), max_size=8))
def test_no_near_pair_is_missed(names: set[str]) -> None:
    from hubcli.index.similar import _folded, _near

    pairs = {(a, b) for a in names for b in names if a < b and (_folded(a) == _folded(b) or _near(a, b))}
    assert set(near_collisions(names)) == pairs


def test_a_view_finds_what_is_near_a_name() -> None:
    """Of many names that are much alike, as all pairs of them say."""
    draw = random.Random(0)
    letters = ("a", "m", "rn", "cl", "d", "0", "o", "1", "l", "-", "w", "vv")
    words = ["".join(draw.choices(letters, k=3)) for _ in range(1200)]
    names = {f"x{group}/{name}y" for group, name in zip(words[:600], words[600:], strict=True)}
    names |= {f"{draw.choice('0olim')}a/film{draw.choice(('', '-', 's'))}{draw.choice('ld1iw')}" for _ in range(300)}
    names |= {f"group/{''.join(draw.choices('ab', k=7))}" for _ in range(60)}
    names |= {f"{letter}group/films" for letter in "abc"}
    documents = [(name, dump(entry(name))) for name in sorted(names)]
    view, _ = build_in_memory(Snapshot(None, documents), "acme")
    good = sorted(view.names())
    near: dict[str, set[str]] = {}
    for a, b in near_collisions(good):
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    assert len(near) > 100 and len(good) > 500
    assert {name: found for name in good if (found := set(view.names_near(name)))} == near


def test_a_pair_that_is_meant(tmp_path: Path) -> None:
    write(tmp_path, entry("acme/legal-summarize"), entry("acme/legal-sumarize"))
    assert found(tmp_path) == [("acme/legal-summarize.json", "E_NAME_COLLISION", "name")]
    (tmp_path / "_index.json").write_text('{"similar": [["acme/legal-sumarize", "acme/legal-summarize"]]}')
    assert found(tmp_path) == []


def change(path: str, value: Any) -> Any:
    def apply(document: dict[str, Any]) -> None:
        place: Any = document
        *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in keys:
            place = place[key]
        place[last] = value

    return apply


@pytest.mark.parametrize(
    "edit, fields",
    [
        (change("releases.0.yanked", yank()), []),
        (change("releases.0.status", "deprecated"), []),
        (change("releases.0.status_reason", "old"), []),
        (change("description", "Better words."), []),
        (lambda document: document["releases"].append(release("1.1.0")), []),
        (lambda document: document["releases"].insert(0, release("1.1.0")), []),
        (change("releases.0.files.1.sha256", "0" * 64), ["releases[0].files[1].sha256"]),
        (change("releases.0.license", "mit"), ["releases[0].license"]),
        (change("releases.0.published", "2026-01-31T12:00:01Z"), ["releases[0].published"]),
        (change("releases.0.metrics.0.value", 0.99), ["releases[0].metrics[0].value"]),
        (change("releases.0.hub", None), ["releases[0].hub"]),
        (change("releases.0.version", "1.0.0+x"), ["releases"]),
        (change("kind", "fusion"), ["kind"]),
    ],
)
def test_what_is_published_stays(tmp_path: Path, edit: Any, fields: list[str]) -> None:
    document = entry("acme/legal")
    write(tmp_path / "old", document)
    edit(document)
    write(tmp_path / "new", document)
    immutable = [(file, field) for file, id, field in found(tmp_path / "new", tmp_path / "old") if id == "E_IMMUTABLE"]
    assert immutable == [("acme/legal.json", field) for field in fields]


def test_a_published_entry_does_not_vanish(tmp_path: Path) -> None:
    write(tmp_path / "old", entry("acme/legal"))
    write(tmp_path / "new", entry("acme/tax"))
    assert found(tmp_path / "new", tmp_path / "old") == [("acme/legal.json", "E_IMMUTABLE", "")]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_build_is_the_same_each_time(tmp_path: Path) -> None:
    write(tmp_path / "in", entry("acme/legal"), entry("acme/tax", description="naïve"))
    store(tmp_path / "in", b"weights")
    one = build_site(tmp_path / "in", tmp_path / "one", name="acme")
    for file in sorted((tmp_path / "in").rglob("*.json"), reverse=True):
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
    two = build_site(tmp_path / "in", tmp_path / "two", name="acme")
    assert one == two and (one.entries, one.files) == (2, 1)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert set(tree(tmp_path / "one")) == {
        "index.json",
        "entries.jsonl.gz",
        f"_files/{hashlib.sha256(b'weights').hexdigest()}",
    }
    assert (tmp_path / "one" / "entries.jsonl.gz").read_bytes()[4:8] == bytes(4)


def test_index_json_says_what_it_promises(tmp_path: Path) -> None:
    write(tmp_path / "in", entry("acme/legal"))
    (tmp_path / "in" / "_index.json").write_text('{"name": "acme", "endpoint": "https://hub.acme.example"}')
    build_site(tmp_path / "in", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "index.json").read_bytes())
    packed = (tmp_path / "out" / "entries.jsonl.gz").read_bytes()
    assert (document["format"], document["name"], document["count"]) == (1, "acme", 1)
    assert document["endpoint"] == "https://hub.acme.example"
    assert (document["entries"]["size"], document["entries"]["sha256"]) == (
        len(packed),
        hashlib.sha256(packed).hexdigest(),
    )


@pytest.mark.parametrize("endpoint", ["ftp://x", "https://user:secret@hub.example", "hub.example", 7])
def test_an_endpoint_that_is_none(tmp_path: Path, endpoint: object) -> None:
    write(tmp_path / "in", entry("acme/legal"))
    (tmp_path / "in" / "_index.json").write_text(json.dumps({"endpoint": endpoint}))
    with pytest.raises(EntryError, match="endpoint: expected an http"):
        build_site(tmp_path / "in", tmp_path / "out")


def test_nothing_is_built_of_a_faulty_folder_or_in_a_dry_run(tmp_path: Path) -> None:
    write(tmp_path / "in", entry("acme/legal"), entry("acme/bad", release("x")))
    with pytest.raises(EntryError, match=r"acme/bad\.json: releases"):
        build_site(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "acme" / "bad.json").unlink()
    store(tmp_path / "in", b"weights")
    assert build_site(tmp_path / "in", tmp_path / "out", dry_run=True).files == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(NotFoundError):
        build_site(tmp_path / "nowhere", tmp_path / "out")


def test_the_projects_own_index_is_in_order() -> None:
    from hubcli.paths import bundled

    report = check_folder(bundled("registry-index"))
    assert report.entries and not report.faults and report.ownership == "state"


def test_an_entry_keeps_its_bytes_through_a_build(tmp_path: Path) -> None:
    from hubcli.index.static import StaticFolderSource

    document = copy.deepcopy(entry("acme/legal", description='"quotes" \\ ünï © 猿'))
    write(tmp_path / "in", document)
    build_site(tmp_path / "in", tmp_path / "out")
    _, snapshot = StaticFolderSource(tmp_path / "out").changed("") or ("", None)
    assert snapshot and list(snapshot.entries) == [("acme/legal", dump(document))]
