"""Who may change what in an index, by `_owners.json` of the state before (schemas/owners)."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubcli.errors import UsageError
from hubcli.index.check import check_folder
from hubcli.index.owners import read_owners
from hubcli.index.state import folder_state
from tests.registry.checkout import git
from tests.registry.entrydocs import COMMIT, entry, release, write, yank

EXAMPLE = Path(__file__).parents[2] / "examples" / "index-repository"
BEFORE: dict[str, Any] = {
    "v": 1,
    "maintainers": ["Keeper"],
    "groups": {"acme": ["acme", "alice", "user:amy"], "films": ["hub:films-org", "bob"], "gone": ["carol"]},
}


def owners(folder: Path, document: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "_owners.json").write_text(json.dumps(document))


def state(folder: Path) -> Path:
    """acme/legal and films/reviews with their owners, and an entry of a group that nobody owns."""
    owners(folder, BEFORE)
    return write(
        folder,
        entry("acme/legal"),
        entry("films/reviews", release(hub={"repo": "films-org/reviews", "commit": COMMIT})),
        entry("orphan/lost", release(hub=None, status="quarantined", status_reason="lost")),
    )


def give(**groups: list[str] | None) -> Callable[[Path], None]:
    """Other owners of these groups; None takes a group off."""

    def apply(folder: Path) -> None:
        told = {**BEFORE["groups"], **groups}
        owners(folder, {**BEFORE, "groups": {group: who for group, who in told.items() if who is not None}})

    return apply


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


def claimed(name: str, *who: str) -> Callable[[Path], None]:
    """A new group with one entry in a repository of `name`'s own namespace."""
    group = name.partition("/")[0]
    hub = {"repo": f"{group}/x", "commit": COMMIT}
    return both(give(**{group: list(who)}), lambda folder: write(folder, entry(name, release(hub=hub))))


def released(folder: Path) -> None:
    write(folder, entry("acme/legal", release(), release("1.1.0")))


def yanked(folder: Path) -> None:
    write(folder, entry("acme/legal", release(yanked=yank())))


def endpoint(folder: Path) -> None:
    (folder / "_index.json").write_text('{"endpoint": "https://elsewhere.example"}')


def maintainers(*who: str) -> Callable[[Path], None]:
    return lambda folder: owners(folder, {**BEFORE, "maintainers": list(who)})


ACME, FILMS = "acme/legal.json", "films/reviews.json"
OWNERS = "_owners.json"
MAY: dict[str, tuple[Callable[[Path], object], list[str], dict[str, list[str]]]] = {
    # change: (what, who may, who may not → which files are named)
    "nothing": (lambda folder: None, ["mallory", "alice", "keeper"], {}),
    "a release": (released, ["alice", "ALICE", "acme", "amy", "keeper"], {"mallory": [ACME], "bob": [ACME]}),
    "a yank": (yanked, ["alice", "Keeper"], {"mallory": [ACME], "films-org": [ACME]}),
    "a new entry": (lambda f: write(f, entry("acme/contracts")), ["alice"], {"mallory": ["acme/contracts.json"]}),
    "a namespace is no person": (
        lambda f: write(f, entry("films/reviews", release(hub={"repo": "films-org/reviews", "commit": COMMIT}), description="x")),
        ["bob"],
        {"films-org": [FILMS], "hubfilms-org": [FILMS]},
    ),
    "made an owner by oneself": (
        both(give(acme=["acme", "alice", "user:amy", "mallory"]), released), ["alice"], {"mallory": [ACME, OWNERS]},
    ),
    "another owner": (give(acme=["acme", "alice", "dave"]), ["alice", "keeper"], {"mallory": [OWNERS], "dave": [OWNERS]}),
    "owners driven out": (give(films=["bob"]), [], {"bob": [FILMS], "alice": [FILMS, OWNERS]}),
    "a group given up": (give(gone=None), ["carol", "keeper"], {"mallory": [OWNERS]}),
    "a group given up with entries": (give(acme=None), [], {"alice": [OWNERS], "keeper": [OWNERS]}),
    "a new group": (claimed("nova/x", "nova", "mallory"), ["mallory", "nova", "keeper"], {"alice": ["nova/x.json", OWNERS]}),
    "a new group without owners": (
        lambda f: write(f, entry("nova/x", release(hub={"repo": "acme/x", "commit": COMMIT}))), [],
        {"mallory": ["nova/x.json", OWNERS], "keeper": [OWNERS]},
    ),
    "a group without entries": (give(nova=["mallory"]), ["keeper"], {"mallory": [OWNERS]}),
    "a group that has entries and no owner": (
        both(give(orphan=["mallory"]), lambda f: write(f, entry("orphan/lost", release(hub=None, status="quarantined", status_reason="mine")))),
        [], {"mallory": ["orphan/lost.json", OWNERS]},
    ),
    "another's namespace": (
        both(give(nova=["mallory"]), lambda f: write(f, entry("nova/x"))), [], {"mallory": ["nova/x.json"]},
    ),
    "the index's settings": (endpoint, ["keeper"], {"alice": ["_index.json"], "mallory": ["_index.json"]}),
    "another maintainer": (maintainers("keeper", "mallory"), ["keeper"], {"mallory": [OWNERS], "alice": [OWNERS]}),
    "no owners at all": (lambda f: (f / OWNERS).unlink(), [], {"mallory": [OWNERS], "alice": [OWNERS]}),
    "owners that can't be read": (lambda f: (f / OWNERS).write_text("{"), [], {"mallory": [OWNERS], "keeper": [OWNERS]}),
}  # fmt: skip


def refused(folder: Path, base: Path, by: str | None) -> list[str]:
    """The files that ownership, or the owners' file, stops at; that `orphan` has no owner is a fault before and after."""
    faults = check_folder(folder, against=folder_state(base), by=by).faults
    return sorted({file for file, fault in faults if (fault.field, fault.found) != ("groups.orphan", "nothing")})


@pytest.mark.parametrize(("change", "who"), [(name, who) for name in MAY for who in (*MAY[name][1], *MAY[name][2])])
def test_who_may_change_what(tmp_path: Path, change: str, who: str) -> None:
    what, _, stopped = MAY[change]
    state(tmp_path / "base")
    what(state(tmp_path / "now"))
    assert refused(tmp_path / "now", tmp_path / "base", who) == sorted(stopped.get(who, [])), change


STORED = {
    name: hashlib.sha256(name.encode()).hexdigest() for name in ("of acme", "of both", "of films", "lost", "of none")
}


def storing(folder: Path) -> Path:
    """The state, with files in `_files/`: of releases of acme, of films, of both, of a quarantined one of acme, and of none."""

    def files(*names: str) -> list[dict[str, Any]]:
        return [{"path": f"{n}.bin", "size": len(n), "sha256": STORED[n], "role": "weights"} for n in names]

    state(folder)
    bad = release("0.9.0", files=files("lost"), status="quarantined", status_reason="harm")
    write(folder, entry("acme/legal", bad, release(files=files("of acme", "of both"))))
    films = release(files=files("of films", "of both"), hub={"repo": "films-org/reviews", "commit": COMMIT})
    write(folder, entry("films/reviews", films))
    (folder / "_files").mkdir()
    for name, sha256 in STORED.items():
        (folder / "_files" / sha256).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("name", "may", "never"),
    [
        ("of acme", ["alice", "keeper"], True),
        ("of both", ["keeper"], True),
        ("of films", ["bob", "keeper"], True),
        ("lost", ["alice", "keeper"], False),
        ("of none", ["alice", "bob", "keeper", "mallory"], False),
    ],
)
def test_who_may_remove_a_stored_file(tmp_path: Path, name: str, may: list[str], never: bool) -> None:
    """What a release that can be installed lists stays, whoever asks; another file is its group's, or nobody's."""
    storing(tmp_path / "base")
    (storing(tmp_path / "now") / "_files" / STORED[name]).unlink()
    for by in ("alice", "bob", "keeper", "mallory", None):
        faults = check_folder(tmp_path / "now", against=folder_state(tmp_path / "base"), by=by).faults
        ids = {(file, fault.id) for file, fault in faults if fault.field != "groups.orphan"}
        expected = {(f"_files/{STORED[name]}", "E_IMMUTABLE")} if never else set()
        expected |= {(f"_files/{STORED[name]}", "E_OWNER")} if by is not None and by not in may else set()
        assert ids == expected, by


def test_without_a_person_the_state_alone_is_held(tmp_path: Path) -> None:
    state(tmp_path / "base")
    both(released, endpoint)(state(tmp_path / "now"))
    assert refused(tmp_path / "now", tmp_path / "base", None) == []
    reports = [check_folder(tmp_path / "now"), check_folder(tmp_path / "now", against=tmp_path / "base")]
    assert [report.ownership for report in reports] == ["state", "state"]
    write(tmp_path / "now", entry("films/other", release(hub={"repo": "acme/x", "commit": COMMIT})))
    (_, orphan), (file, fault) = check_folder(tmp_path / "now").faults[-2:]
    assert (file, fault.field, fault.id) == ("films/other.json", "releases[0].hub.repo", "E_OWNER")
    assert orphan.field == "groups.orphan" and fault.found == '"acme/x"' and "films-org" in fault.expected


def test_without_owners_nothing_is_owned(tmp_path: Path) -> None:
    write(tmp_path / "base", entry("acme/legal"))
    released(tmp_path / "now")
    report = check_folder(tmp_path / "now", against=tmp_path / "base", by="mallory")
    assert (report.faults, report.ownership) == ((), "none")


def test_broken_owners_before_stop_a_person(tmp_path: Path) -> None:
    state(tmp_path / "now")
    (state(tmp_path / "base") / OWNERS).write_text("{")
    assert refused(tmp_path / "now", tmp_path / "base", "alice") == [OWNERS]


@pytest.mark.parametrize("by", ["", "hub:acme", "a b", "-x", "é", "x" * 97, "a\n"])
def test_a_person_that_is_none(tmp_path: Path, by: str) -> None:
    state(tmp_path / "now")
    with pytest.raises(UsageError):
        check_folder(tmp_path / "now", against=tmp_path / "now", by=by)
    with pytest.raises(UsageError):
        check_folder(tmp_path / "now", by="alice")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"v": 2, "groups": {}}, "v"),
        ({"v": 1}, "groups"),
        ({"v": 1, "groups": {"acme": []}}, "groups.acme"),
        ({"v": 1, "groups": {"acme": ["alice\n"]}}, "groups.acme[0]"),
        ({"v": 1, "groups": {"acme": ["team:alice"]}}, "groups.acme[0]"),
        ({"v": 1, "groups": {"Acme": ["alice"]}}, "groups"),
        ({"v": 1, "groups": {}, "admins": ["alice"]}, "admins"),
        ({"v": 1, "groups": {}, "maintainers": "alice"}, "maintainers"),
        ([], ""),
    ],
)
def test_owners_that_break_the_schema(document: Any, field: str) -> None:
    _, faults = read_owners(json.dumps(document).encode())
    assert [(file, fault.field) for file, fault in faults] == [(OWNERS, field)]


@pytest.mark.parametrize("raw", [b'{"v": 1, "groups": {}, "groups": {}}', b"\xff", b"[" * 100, b" " * 1048577])
def test_owners_that_are_hostile(raw: bytes) -> None:
    found, faults = read_owners(raw)
    assert found is None and faults[0][1].id.startswith("E_JSON_")


def test_what_the_check_does_not_judge_needs_a_maintainer(tmp_path: Path) -> None:
    """The example's CODEOWNERS, its patterns read by git, which has the same: the last that fits decides."""
    lines = (EXAMPLE / ".github" / "CODEOWNERS").read_text().splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    judged = ["acme/films.json", f"_files/{STORED['lost']}", "_index.json", "_owners.json"]
    others = [
        ".github/workflows/check.yml",
        ".github/CODEOWNERS",
        ".github/x.json",
        ".gitattributes",
        "README.md",
        "a/b/c.json",
    ]
    owner: dict[str, list[str]] = {}
    git(tmp_path, "init", "-q")
    for pattern, *who in rules:
        (tmp_path / ".gitignore").write_text(pattern)
        fits = [path for path in judged + others if ignored(tmp_path, path)]
        owner |= dict.fromkeys(fits, who)
    maintainers = json.loads((EXAMPLE / "_owners.json").read_bytes())["maintainers"]
    names = ["@" + one.removeprefix("user:") for one in maintainers]
    assert owner == {path: names if path in others else [] for path in judged + others}


def ignored(folder: Path, path: str) -> bool:
    found = subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=folder, check=False)
    return found.returncode == 0
