"""Compositions into an index: their parts are that index's own where it has them, and the rules of names and owners hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli import api
from hubcli.errors import HubcliError
from tests.publish.pushed import listing, owners
from tests.support.adapters import IndexFolder

EXPR = "average(acme/films, acme/books)"
SAID: dict[str, Any] = {"version": "1.0.0", "description": "Both.", "authors": ["Acme"]}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index that has both parts, configured behind another that has newer ones; nobody is logged in."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    one, own = IndexFolder(tmp_path / "one"), IndexFolder(tmp_path / "own")
    for name in ("acme/films", "acme/books"):
        one.add(name, "1.0.0", "3.0.0")
        own.add(name, "1.0.0")
    api.index_add("one", str(one.folder), scopes=("acme/*",))
    api.index_add("own", str(own.folder))
    return own.folder


def release(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_bytes())["releases"][-1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("configured", [True, False])
def test_parts_are_of_the_index_it_goes_to(
    configured: bool, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not configured:
        api.index_remove("own")
    done = api.publish(EXPR, name="acme/both", index=own, **SAID)
    assert release(own, "acme/both")["requires"] == {"acme/films": "^1.0.0", "acme/books": "^1.0.0"}
    assert not [note for note in done["notes"] if "needs both" in note]
    assert api.index_check(own)["ok"]
    monkeypatch.setenv("HUBCLI_HOME", str(tmp_path / "another"))
    api.index_add("own", str(own))
    assert {row["version"] for row in api.install("own:acme/both")["installed"]} == {"1.0.0"}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a near name": ({"name": "acme/fi1ms"}, "E_NAME_COLLISION", "acme/films"),
    "a group with owners": ({"name": "others/both"}, "E_OWNER", "owned by someone"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_rules_of_the_index_hold(case: str, own: Path) -> None:
    more, id, text = REFUSED[case]
    if id == "E_OWNER":
        (own / "_owners.json").write_text(owners(others=["someone"]))
    before = listing(own)
    with pytest.raises(HubcliError, match=text) as refused:
        api.publish(EXPR, index=own, **{**SAID, **more})
    assert refused.value.id == id and listing(own) == before


def test_a_name_that_is_there_needs_no_other(own: Path) -> None:
    IndexFolder(own).add("acme/revievvs")
    api.index_compose(
        EXPR, own, name="acme/reviews", version="0.9.0", description="Both.", authors=["Acme"], license="mit"
    )
    assert release(own, "acme/reviews")["requires"] == {"acme/films": "^1.0.0", "acme/books": "^1.0.0"}
    done = api.publish(EXPR, name="acme/reviews", index=own, **SAID)
    assert done["changed"] and release(own, "acme/reviews")["license"] == "mit" and not done["notes"]


def test_a_licence_that_nobody_names_is_said(own: Path) -> None:
    done = api.publish(EXPR, name="acme/both", index=own, **SAID)
    assert release(own, "acme/both")["license"] == "none"
    assert any("no licence is named" in note and "acme/films: apache-2.0" in note for note in done["notes"])
    named = api.publish(EXPR, name="acme/twice", index=own, **SAID, license="mit")
    assert release(own, "acme/twice")["license"] == "mit" and not named["notes"]


def test_parts_that_no_install_brings_together_are_refused(own: Path) -> None:
    api.publish(EXPR, name="acme/inner", index=own, **SAID)
    IndexFolder(own).add("acme/films", "1.0.0", "2.0.0")
    call = {"name": "acme/outer", "index": own, **SAID}
    with pytest.raises(HubcliError, match=r"what all ask for.*acme/inner 1\.0\.0: \^1\.0\.0") as refused:
        api.publish("average(acme/inner, acme/films)", **call)
    assert refused.value.id == "E_CONFLICT" and not (own / "acme/outer.json").exists()
    api.publish('average(acme/inner, "acme/films@^1")', **call)
    api.index_remove("one")
    assert {row["version"] for row in api.install("own:acme/outer")["installed"]} == {"1.0.0"}


@pytest.mark.parametrize("named", [(), ("Bo",)])
def test_who_made_it_stays_with_all_that_is_said_of_them(own: Path, named: tuple[str, ...]) -> None:
    api.publish(EXPR, name="acme/both", index=own, **SAID)
    document = json.loads((own / "acme/both.json").read_bytes())
    document["authors"] = [{"name": "Acme", "contact": "a@acme.example", "hub_user": "acme"}]
    (own / "acme/both.json").write_text(json.dumps(document))
    api.publish(EXPR, name="acme/both", index=own, version="1.1.0", authors=named)
    after = json.loads((own / "acme/both.json").read_bytes())
    assert after["authors"] == ([{"name": "Bo"}] if named else document["authors"]) and len(after["releases"]) == 2
