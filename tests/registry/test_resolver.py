"""Refs to releases, against brute force (THREATS 37, 39, 40)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubcli.errors import HubcliError, NetworkError, NotFoundError, RefError, YankedError
from hubcli.manifest import Entry
from hubcli.refs import Ref, parse_ref
from hubcli.resolver import Resolver, choose
from hubcli.versions import Range, in_order, newest
from tests.registry.entrydocs import entry, index, release, resolver, yank

VERSIONS = [
    "0.1.0",
    "0.1.5",
    "0.2.0",
    "1.0.0",
    "1.0.1",
    "1.2.0-rc.1",
    "1.2.0",
    "1.2.3",
    "1.10.0",
    "2.0.0-beta.2",
    "2.0.0",
    "3.0.0-a",
]


@pytest.mark.parametrize(
    "spec, allowed",
    [
        ("", "0.1.0 0.1.5 0.2.0 1.0.0 1.0.1 1.2.0 1.2.3 1.10.0 2.0.0"),
        ("*", "0.1.0 0.1.5 0.2.0 1.0.0 1.0.1 1.2.0 1.2.3 1.10.0 2.0.0"),
        ("1", "1.0.0 1.0.1 1.2.0 1.2.3 1.10.0"),
        ("1.2", "1.2.0 1.2.3"),
        ("1.2.3", "1.2.3"),
        ("=1.2.3", "1.2.3"),
        ("1.2.3+meta", "1.2.3"),
        ("^1.2", "1.2.0 1.2.3 1.10.0"),
        ("^0.1", "0.1.0 0.1.5"),
        ("~1.2", "1.2.0 1.2.3"),
        ("~1", "1.0.0 1.0.1 1.2.0 1.2.3 1.10.0"),
        (">=1.2,<2", "1.2.0 1.2.3 1.10.0"),
        (">=1.2 <2", "1.2.0 1.2.3 1.10.0"),
        (">1.2.3", "1.10.0 2.0.0"),
        ("<1", "0.1.0 0.1.5 0.2.0"),
        ("1.2.0-rc.1", "1.2.0-rc.1"),
        (">=1.2.0-rc.1", "1.2.0-rc.1 1.2.0 1.2.3 1.10.0 2.0.0"),
        ("^2.0.0-beta", "2.0.0-beta.2 2.0.0"),
        ("9", ""),
    ],
)
def test_ranges(spec: str, allowed: str) -> None:
    assert [v for v in VERSIONS if Range(spec).allows(v)] == allowed.split()
    assert Range(spec).newest(reversed(VERSIONS)) == (allowed.split() or [None])[-1]


@pytest.mark.parametrize("spec", ["newest", "1.2.3.4", "^", ">=", "1..2", "==1", "01.2.3", "٣.0.0", "v"])
def test_what_is_no_range(spec: str) -> None:
    with pytest.raises(RefError) as error:
        Range(spec)
    assert error.value.exit_code == 2 and error.value.message.isascii()


def test_versions_are_ordered_as_semver_says() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    assert in_order(reversed(ordered)) == ordered and newest(ordered) == "1.0.0" and newest([]) is None


class Down:
    """An index that does not answer."""

    name = "down"

    def serves(self, _: str) -> bool:
        return True

    def pins(self, _: str) -> bool:
        return False

    def lookup(self, _: str) -> bytes:
        raise NetworkError("no", id=self.id)

    def __init__(self, id: str = "E_DENIED"):
        self.id = id


def failure(found: Resolver, ref: str) -> HubcliError:
    with pytest.raises(HubcliError) as error:
        found.resolve(parse_ref(ref))
    return error.value


def test_a_resolved_release_says_where_it_is_from(tmp_path: Path) -> None:
    catalog = index(tmp_path, "one", entry("acme/legal", release(), release("1.1.0")))
    resolved = resolver(catalog).resolve(parse_ref("acme/legal@^1"))
    assert (resolved.name, resolved.version, resolved.index) == ("acme/legal", "1.1.0", "one")
    assert (resolved.requested, resolved.kind, resolved.description) == (
        "acme/legal@^1",
        "adapter",
        "Sums up contracts.",
    )
    assert resolved.snapshot_sha256 == catalog.snapshot_sha256 and len(str(resolved.entry_sha256)) == 64
    assert resolved.release.files[1].path == "adapter_model.safetensors" and resolved.warnings == ()


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_the_first_index_that_has_the_name_wins_whatever_the_version(tmp_path: Path, order: tuple[str, str]) -> None:
    indexes = {
        "one": index(tmp_path, "one", entry("acme/legal", release("1.0.0"))),
        "two": index(tmp_path, "two", entry("acme/legal", release("9.0.0")), entry("acme/tax")),
    }
    found = resolver(*(indexes[name] for name in order))
    assert found.resolve(parse_ref("acme/legal")).index == order[0]
    assert found.resolve(parse_ref("acme/tax")).index == "two"
    assert found.resolve(parse_ref("two:acme/legal")).version == "9.0.0"
    other = {"one": "9.0.0", "two": "1.0.0"}[order[0]]
    assert failure(found, f"acme/legal@{other}").id == "E_NOT_FOUND"
    assert [hit.version for hit in found.search("legal")] == [{"one": "1.0.0", "two": "9.0.0"}[order[0]]]


@pytest.mark.parametrize("id", ["E_DENIED", "E_TIMEOUT", "E_NETWORK"])
def test_an_index_that_does_not_answer_stops(tmp_path: Path, id: str) -> None:
    good = index(tmp_path, "one", entry("acme/legal"))
    error = failure(resolver(Down(id), good), "acme/legal")
    assert (error.id, error.exit_code) == (id, 7)
    assert resolver(good, Down(id)).resolve(parse_ref("acme/legal")).index == "one"
    assert resolver(Down(id), good).resolve(parse_ref("one:acme/legal")).index == "one"


def test_a_faulty_entry_stops_too(tmp_path: Path) -> None:
    bad = index(tmp_path, "bad", entry("acme/legal", release("1")))
    good = index(tmp_path, "good", entry("acme/legal"))
    assert failure(resolver(bad, good), "acme/legal").id == "E_SCHEMA"
    assert resolver(bad, good).search("legal") == []
    assert (
        resolver(bad, good)
        .faults()[0]
        .startswith("bad: acme/legal.json: releases[0].version: expected a SemVer version")
    )


def test_a_scope_pins_names_to_its_index(tmp_path: Path) -> None:
    public = index(tmp_path, "public", entry("acme/legal", release("9.0.0")), entry("acme/open"), entry("zoo/ape"))
    private = index(tmp_path, "private", entry("acme/legal"), entry("zoo/ape", release("5.0.0")), scopes=("acme/*",))
    for found in (resolver(public, private), resolver(private, public)):
        assert found.resolve(parse_ref("acme/legal")).index == "private"
        assert found.resolve(parse_ref("zoo/ape")).index == "public"
        assert failure(found, "acme/open").id == "E_NOT_FOUND"
        assert {(hit.name, hit.version) for hit in found.search("")} == {("acme/legal", "1.0.0"), ("zoo/ape", "1.0.0")}
    assert resolver(Down(), private).resolve(parse_ref("acme/legal")).index == "private"


def test_names_and_versions_that_are_not_there(tmp_path: Path) -> None:
    found = resolver(
        index(
            tmp_path, "one", entry("acme/legal", release(), release("1.1.0")), entry("acme/pre", release("1.0.0-rc.1"))
        )
    )
    error = failure(found, "acme/leagl")
    assert (
        isinstance(error, NotFoundError)
        and error.hint == "did you mean 'acme/legal'?"
        and "indexes asked: one" in str(error)
    )
    assert "there are: 1.1.0, 1.0.0" in str(failure(found, "acme/legal@^2"))
    assert "no prerelease" in str(failure(found, "acme/pre")) and failure(found, "acme/pre").exit_code == 3
    assert found.resolve(parse_ref("acme/pre@1.0.0-rc.1")).version == "1.0.0-rc.1"
    assert failure(found, "two:acme/legal").id == "E_NOT_FOUND"
    assert failure(found, "acme/legal@newest").id == "E_REF"
    assert failure(found, "hf:acme/legal").id == "E_USAGE"


STATES = {
    "active": {},
    "yanked": {"yanked": yank(replacement="acme/new")},
    "quarantined": {"status": "quarantined", "status_reason": "backdoor"},
    "deprecated": {"status": "deprecated", "status_reason": "old"},
    "archived": {"status": "archived"},
    "both": {"yanked": yank(), "status": "quarantined"},
}


@pytest.mark.parametrize(
    "state, how, outcome",
    [
        ("yanked", "new", "E_YANKED"),
        ("yanked", "range", "E_YANKED"),
        ("yanked", "exact", "was yanked on 2026-02-01: wrong labels; use acme/new instead"),
        ("yanked", "lock", "was yanked"),
        ("quarantined", "new", "E_QUARANTINED"),
        ("quarantined", "exact", "E_QUARANTINED"),
        ("quarantined", "lock", "E_QUARANTINED"),
        ("both", "exact", "E_QUARANTINED"),
        ("deprecated", "new", "is deprecated: old"),
        ("deprecated", "exact", "is deprecated: old"),
        ("deprecated", "lock", "is deprecated: old"),
        ("archived", "new", "is archived"),
        ("active", "lock", ""),
    ],
)
def test_withdrawn_releases(tmp_path: Path, state: str, how: str, outcome: str) -> None:
    before = resolver(index(tmp_path, "one", entry("acme/legal"))).resolve(parse_ref("acme/legal"))
    found = resolver(index(tmp_path, "one", entry("acme/legal", release(**STATES[state]))))
    spec = {"exact": "1.0.0", "range": "^1"}.get(how, "")

    def act() -> tuple[str, ...]:
        if how == "lock":
            return found.review(before).warnings
        return found.resolve(Ref("index", "acme/legal", spec)).warnings

    if outcome.startswith("E_"):
        with pytest.raises(YankedError) as error:
            act()
        assert error.value.id == outcome and error.value.exit_code == 6
        assert "backdoor" in str(error.value) or state != "quarantined"
    else:
        assert [outcome in warning for warning in act()] == ([True] if outcome else [])


def test_a_yanked_version_gives_way_and_is_hidden_from_search(tmp_path: Path) -> None:
    documents = [
        entry("acme/legal", release(), release("1.1.0", **STATES["yanked"]), release("1.2.0", **STATES["quarantined"])),
        entry("acme/gone", release(**STATES["yanked"])),
        entry("acme/evil", release(**STATES["quarantined"])),
    ]
    found = resolver(index(tmp_path, "one", *documents))
    assert found.resolve(parse_ref("acme/legal")).version == "1.0.0"
    assert [(hit.name, hit.version) for hit in found.search("acme")] == [("acme/legal", "1.0.0")]
    assert [hit.name for hit in found.search("")] == ["acme/legal"]


def test_review_of_what_its_index_no_longer_knows(tmp_path: Path) -> None:
    found = resolver(index(tmp_path, "one", entry("acme/legal"), entry("acme/tax")))
    resolved = found.resolve(parse_ref("acme/legal"))
    (tmp_path / "one" / "acme" / "legal.json").unlink()
    assert "has it no more" in resolver(index(tmp_path, "one")).review(resolved).warnings[0]
    assert "is not configured" in resolver().review(resolved).warnings[0]


specs = st.sampled_from(["", "1", "1.2", "1.2.3", "^1", "^1.2", "~1.2", ">=1,<2", "2.0.0-beta.2", ">=2.0.0-beta", "7"])


releases = st.lists(
    st.tuples(st.sampled_from(VERSIONS), st.sampled_from(sorted(STATES))),
    min_size=1,
    max_size=6,
    unique_by=lambda pair: pair[0],
)


@given(releases, specs)
def test_choice_against_brute_force(pairs: list[tuple[str, str]], spec: str) -> None:
    """Walk versions from the newest down and take the first that every rule lets through."""
    from semantic_version import NpmSpec, Version

    document = Entry.from_json(entry("acme/legal", *(release(version, **STATES[state]) for version, state in pairs)))
    states = dict(pairs)
    ordered = sorted(states, key=Version, reverse=True)
    npm = NpmSpec(spec.replace(",", " ") or "*")
    fits = [v for v in ordered if (v == spec if spec in VERSIONS else npm.match(Version(v)))]
    usable = [v for v in fits if states[v] not in ("quarantined", "both")]
    offered = [v for v in usable if states[v] != "yanked" or spec == v]
    expected = (offered or [None])[0]
    try:
        found = choose(Ref("index", "acme/legal", spec), document).version
    except (NotFoundError, YankedError) as error:
        found = None
        assert error.id == ("E_NOT_FOUND" if not fits else "E_YANKED" if usable else "E_QUARANTINED")
    assert found == expected


def test_only_what_is_needed_is_opened(tmp_path: Path) -> None:
    first, second = index(tmp_path, "one", entry("acme/legal")), index(tmp_path, "two", entry("acme/tax"))
    resolver(first, second).resolve(parse_ref("acme/legal"))
    assert "view" in first.__dict__ and "view" not in second.__dict__
