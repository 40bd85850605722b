"""adapters.toml and adapters.lock: exact, deterministic, stale when it should be, without credentials (THREATS 38, 39)."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubcli import lockfile
from hubcli.config import BUNDLED, IndexConfig
from hubcli.errors import EntryError, HubcliError, LockError, NotFoundError, UsageError, YankedError
from hubcli.index.catalog import Catalog
from hubcli.lockfile import check, lock_to_resolved, make_lock, read_lock, write_lock
from hubcli.manifest import BaseModel, FileSpec, HubLocation, Metric, Release, Resolved
from hubcli.project_file import load_project, save_wanted, spec_to_save
from hubcli.refs import parse_ref
from hubcli.resolver import Resolver
from tests.registry.entrydocs import COMMIT, entry, release, write, yank

WANTED = """\
# what we need
[adapters]
"zoo/ape" = "^1"        # apes
"acme/legal" = "*"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapters.toml").write_text(WANTED)
    write(tmp_path / "index", entry("zoo/ape", release(), release("1.1.0")), entry("acme/legal"), entry("acme/tax"))
    return tmp_path


def indexes(folder: Path) -> list[IndexConfig]:
    return [IndexConfig("team", str(folder / "index")), IndexConfig("unused", "/nowhere")]


def resolved(folder: Path) -> list[Resolved]:
    resolver = Resolver([Catalog(indexes(folder)[0])])
    return [resolver.resolve(ref) for ref in load_project(folder).wants.values()]


def lock(folder: Path) -> str:
    return make_lock(load_project(folder), resolved(folder), indexes(folder))


def test_two_runs_give_the_same_bytes(folder: Path) -> None:
    first = lock(folder)
    shuffled = resolved(folder)
    random.Random(1).shuffle(shuffled)
    assert make_lock(load_project(folder), shuffled, indexes(folder)) == first == lock(folder)
    assert "\r" not in first and first.endswith("\n") and first.index('"acme/legal"') < first.index('"zoo/ape"')
    assert write_lock(folder / "adapters.lock", first) and not write_lock(folder / "adapters.lock", first)
    assert (folder / "adapters.lock").read_bytes() == first.encode()


def test_what_is_locked_comes_back(folder: Path) -> None:
    write_lock(folder / "adapters.lock", lock(folder))
    found = lock_to_resolved(read_lock(folder))
    expected = sorted(resolved(folder), key=lambda item: item.name)
    expected = [dataclasses.replace(item, file_roots=(str(folder / "index" / "_files"),)) for item in expected]
    assert found == expected
    assert check(load_project(folder), read_lock(folder)) == []


def test_a_lock_moves_with_its_project(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_lock(folder / "adapters.lock", lock(folder))
    assert str(folder) not in (folder / "adapters.lock").read_text()
    other = tmp_path_factory.mktemp("clone")
    (other / "adapters.lock").write_bytes((folder / "adapters.lock").read_bytes())
    assert lock_to_resolved(read_lock(other))[0].file_roots == (str(other / "index" / "_files"),)


@pytest.mark.parametrize(
    "before, after, reason",
    [
        ('"acme/legal" = "*"', '"acme/tax" = "*"', "acme/tax is wanted and not locked"),
        ('"acme/legal" = "*"', "", "acme/legal is locked and no longer wanted"),
        ('"^1"', '"^1.1"', "zoo/ape: adapters.toml wants zoo/ape@^1.1, the lock was made for zoo/ape@^1"),
        ('"acme/legal" = "*"', '"acme/legal" = {index = "team"}', "adapters.toml wants team:acme/legal"),
        (
            "# what",
            '[indexes]\nteam = "elsewhere"\n# what',
            "index 'team' is another: elsewhere in adapters.toml, index",
        ),
    ],
)
def test_a_stale_lock_says_why(folder: Path, before: str, after: str, reason: str) -> None:
    write_lock(folder / "adapters.lock", lock(folder))
    (folder / "adapters.toml").write_text(WANTED.replace(before, after))
    assert any(reason in line for line in check(load_project(folder), read_lock(folder)))


@pytest.mark.parametrize(
    "text",
    [WANTED.replace("# what", '[indexes]\nteam = "./index/"\n# what'), WANTED.replace("^1", " ^1 "), WANTED + "\n\n"],
)
def test_what_does_not_matter_makes_no_lock_stale(folder: Path, text: str) -> None:
    write_lock(folder / "adapters.lock", lock(folder))
    (folder / "adapters.toml").write_text(text)
    assert check(load_project(folder), read_lock(folder)) == []


def test_the_bundled_index_of_a_project_makes_no_lock_stale(folder: Path) -> None:
    (folder / "adapters.toml").write_text("[indexes]\nbundled = true\n" + WANTED)
    project, found = load_project(folder), [dataclasses.replace(item, index=BUNDLED) for item in resolved(folder)]
    write_lock(folder / "adapters.lock", make_lock(project, found, [IndexConfig(BUNDLED, BUNDLED)]))
    assert check(project, read_lock(folder)) == []


def test_what_a_composition_requires_is_locked_with_it(folder: Path) -> None:
    composed = release(expression="stack(acme/tax)", requires={"acme/tax": "^1"}, method=None)
    write(folder / "index", entry("zoo/ape", composed, kind="composition"))
    project, found = load_project(folder), resolved(folder)
    write_lock(folder / "adapters.lock", make_lock(project, found, indexes(folder)))
    assert check(project, read_lock(folder)) == ["acme/tax is required by a composition and not locked"]
    found.append(Resolver([Catalog(indexes(folder)[0])]).resolve(parse_ref("acme/tax@^1")))
    write_lock(folder / "adapters.lock", make_lock(project, found, indexes(folder)))
    assert check(project, read_lock(folder)) == []


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(LockError) as error:
        read_lock(tmp_path)
    assert (error.value.exit_code, error.value.hint) == (5, "write it: hubcli lock")
    with pytest.raises(NotFoundError):
        load_project(tmp_path)


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            ('lock-version = "1.0"', 'lock-version = "2.0"'),
            r"lock-version 2\.0, this hubcli reads 1\.0 \(it was written by hubcli",
        ),
        (('lock-version = "1.0"', ""), "lock-version: expected string, found nothing"),
        (("size = 10", 'size = "ten"'), r"files\[0\]\.size: expected integer"),
        (("[[adapter]]", "[[adapter]"), "not TOML"),
        ((r'"{\"r\": 8}"', '"{"'), "expected JSON text"),
        ((f'commit = "{COMMIT}"', 'commit = "main"'), r"hub\.commit: expected 40 hex digits"),
    ],
)
def test_a_lock_that_can_not_be_used(folder: Path, edit: tuple[str, str], message: str) -> None:
    text = lock(folder)
    assert edit[0] in text
    (folder / "adapters.lock").write_text(text.replace(*edit))
    with pytest.raises(LockError, match=message) as error:
        read_lock(folder)
    assert error.value.exit_code == 5


def test_a_path_in_a_lock_is_not_trusted(folder: Path) -> None:
    (folder / "adapters.lock").write_text(lock(folder).replace('"adapter_config.json"', '"../../x"'))
    with pytest.raises(EntryError) as error:
        read_lock(folder)
    assert error.value.id == "E_PATH_UNSAFE"


def test_a_newer_minor_version_is_read_with_a_warning(folder: Path) -> None:
    text = lock(folder).replace('lock-version = "1.0"', 'lock-version = "1.7"\nmoon = "full"')
    (folder / "adapters.lock").write_text(text)
    found = read_lock(folder)
    assert len(found.adapters) == 2 and ["moon" in warning for warning in found.warnings] == [True]


def test_a_yanked_release_in_a_lock_warns_and_a_quarantined_one_stops(folder: Path) -> None:
    write(folder / "index", entry("acme/legal", release(yanked=yank())))
    (folder / "adapters.toml").write_text('[adapters]\n"acme/legal" = "1.0.0"\n')
    write_lock(folder / "adapters.lock", lock(folder))
    assert ["was yanked" in warning for warning in lock_to_resolved(read_lock(folder))[0].warnings] == [True]
    text = (folder / "adapters.lock").read_text().replace('status = "active"', 'status = "quarantined"')
    (folder / "adapters.lock").write_text(text)
    with pytest.raises(YankedError) as error:
        lock_to_resolved(read_lock(folder))
    assert error.value.id == "E_QUARANTINED"


def test_a_hub_repository_is_locked_by_commit(folder: Path) -> None:
    (folder / "adapters.toml").write_text('[adapters]\n"hf:org/repo" = "main"\n')
    spec = FileSpec("adapter_config.json", 3, "ab" * 32, "config")
    made = Release(
        COMMIT, "unknown", "", method="lora", base=BaseModel("a/b"), files=(spec,), hub=HubLocation("org/repo", COMMIT)
    )
    for endpoint in (None, "https://hub.acme.example"):
        item = Resolved("hf:org/repo", COMMIT, "hf:org/repo@main", made, "hf", endpoint=endpoint)
        write_lock(folder / "adapters.lock", make_lock(load_project(folder), [item], indexes(folder)))
        assert lock_to_resolved(read_lock(folder)) == [item] and check(load_project(folder), read_lock(folder)) == []
    assert read_lock(folder).warnings == ()


@pytest.mark.parametrize("base", ["C:\\models\\Fran\u00e7ois B\u00e9", "/srv/models/b", "./x", "/" + "x" * 4095])
def test_a_base_that_is_a_folder_of_its_author_is_locked(folder: Path, base: str) -> None:
    (item,) = (r for r in resolved(folder) if r.name == "acme/legal")
    item = dataclasses.replace(item, release=dataclasses.replace(item.release, base=BaseModel(base)))
    write_lock(folder / "adapters.lock", make_lock(load_project(folder), [item], indexes(folder)))
    (locked,) = lock_to_resolved(read_lock(folder))
    assert locked.release.base == BaseModel(base)


@pytest.mark.parametrize("base", ["", "a\\nb", "a\\u001bb", "x" * 4097])
def test_a_base_in_a_lock_is_one_line(folder: Path, base: str) -> None:
    text = lock(folder)
    assert 'id = "acme/tiny"' in text
    (folder / "adapters.lock").write_text(text.replace('id = "acme/tiny"', f'id = "{base}"'))
    with pytest.raises(LockError, match=r"base\.id: expected"):
        read_lock(folder)


plain = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=9)
free = st.dictionaries(
    plain,
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | plain,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    method_config=free,
    training=free,
    quantization=st.none() | free,
    labels=st.lists(plain, max_size=2),
    value=st.floats(0, 1),
)
def test_every_release_survives_a_lock(folder: Path, **drawn: Any) -> None:
    item = resolved(folder)[0]
    base = dataclasses.replace(item.release.base, quantization=drawn["quantization"], revision=None)
    changed = dataclasses.replace(
        item.release,
        base=base,
        method_config=drawn["method_config"],
        training=drawn["training"],
        metrics=(Metric("m", drawn["value"], "d", "s", n=3, interval=(0.0, drawn["value"])),),
        head=dataclasses.replace(item.release.head, labels=tuple(drawn["labels"])),
    )
    written = make_lock(load_project(folder), [dataclasses.replace(item, release=changed)], indexes(folder))
    (folder / "adapters.lock").write_text(written)
    assert lock_to_resolved(read_lock(folder))[0].release == changed


@pytest.mark.parametrize(
    "text",
    [
        "adapters = 3",
        '[adapters]\n"acme/legal" = 3',
        '[adapters]\n"acme/legal" = "newest"',
        '[adapters]\n"acme/legal" = {version = "^1", hub = "x"}',
        '[adapters]\n"acme/legal@^1" = "^1"',
        '[adapters]\n"./folder" = "*"',
        '[adapters]\n"Acme/legal" = "*"',
        '[adapters]\n"acme/legal" = {index = "NO"}',
        "[adapters",
    ],
)
def test_a_project_that_can_not_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapters.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        load_project(tmp_path)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "before, name, spec, after",
    [
        ("", "a/b", "^1", '[adapters]\n"a/b" = "^1"\n'),
        ("# top\nmirrors = []\n", "a/b", "^1", '# top\nmirrors = []\n\n[adapters]\n"a/b" = "^1"\n'),
        (WANTED, "a/b", "^1", WANTED + '"a/b" = "^1"\n'),
        (WANTED, "zoo/ape", "^2", WANTED.replace('"^1"        # apes', '"^2"')),
        (
            "[adapters] # x\n\n[indexes]\nt = '/t'\n",
            "a/b",
            "1",
            '[adapters] # x\n"a/b" = "1"\n\n[indexes]\nt = \'/t\'\n',
        ),
        ("[adapters]\n'a/b' = '^1' # one\n[indexes]\n", "a/b", "^2", '[adapters]\n"a/b" = "^2"\n[indexes]\n'),
    ],
)
def test_save_changes_one_line(tmp_path: Path, before: str, name: str, spec: str, after: str) -> None:
    file = tmp_path / "adapters.toml"
    if before:
        file.write_text(before)
    assert save_wanted(file, name, spec) and file.read_text() == after
    assert not save_wanted(file, name, spec)
    assert load_project(tmp_path).wants[name].spec == spec


def test_save_with_an_index(tmp_path: Path) -> None:
    file = tmp_path / "adapters.toml"
    assert save_wanted(file, "a/b", "^1", index="team")
    assert str(load_project(tmp_path).wants["a/b"]) == "team:a/b@^1"


@pytest.mark.parametrize("text", ['adapters = {"x/y" = "1"}\n', '[adapters]\nx = """\n"a/b" = 1\n"""\n', "[adapters."])
def test_save_leaves_a_file_alone_that_it_does_not_understand(tmp_path: Path, text: str) -> None:
    file = tmp_path / "adapters.toml"
    file.write_text(text)
    with pytest.raises(HubcliError) as error:
        save_wanted(file, "a/b", "^1")
    assert error.value.id == "E_CONFIG" and file.read_text() == text


@pytest.mark.parametrize(
    "ref, version, spec",
    [
        ("a/b", "1.2.3", "^1.2.3"),
        ("a/b@~1.2", "1.2.3", "~1.2"),
        ("hf:o/r", COMMIT, COMMIT),
        ("hf:o/r@main", COMMIT, "main"),
    ],
)
def test_what_save_writes(ref: str, version: str, spec: str) -> None:
    assert spec_to_save(parse_ref(ref), version) == spec


def test_no_token_gets_into_a_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "s3cret")
    configured = [IndexConfig("team", "https://index.example/", "TEAM_TOKEN")]
    text = make_lock(load_project(folder), resolved(folder), configured)
    assert "s3cret" not in text and "TEAM_TOKEN" not in text
    assert lockfile.LOCK_VERSION == "1.0"
