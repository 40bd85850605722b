"""index import adapterhub: the names of cards, and names and groups that are easily taken for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hubcli.api import index_check, index_import
from hubcli.index.importing import names
from tests.registry.adapterhub_cards import CARD, only, put


@pytest.mark.parametrize(
    "group, stem, variant, name",
    [
        ("ukp", "a_b-c", "", "ukp/a_b-c"),
        ("UKP Lab", "Größe--x..y", "", "ukp-lab/gr-e-x-y"),
        ("ukp", "x" * 80, "", "ukp/" + "x" * 57 + "-"),
        ("ukp", "stem", "Wd_150k", "ukp/stem-wd_150k"),
        ("g" * 90, "x", "", "g" * 64 + "/x"),
        ("ukp", "s" * 60, "v" * 80, "ukp/s"),
    ],
)
def test_names(group: str, stem: str, variant: str, name: str) -> None:
    from hubcli.index.entries import check_name

    found = names.entry_name(group, stem, variant)
    assert found.startswith(name) and not list(check_name(found))
    if len(stem) <= 64 and not variant:
        assert found == name


def test_long_names_differ_where_the_cards_do() -> None:
    assert len({names.entry_name("g", "x" * 70 + str(n)) for n in range(50)}) == 50


# Names that meet, and a folder that is there


def test_two_cards_of_one_name(tmp_path: Path) -> None:
    folder = put(put(tmp_path / "cards", CARD, "acme/X.yaml"), CARD, "acme/x.yaml")
    report = index_import("adapterhub", folder, tmp_path / "out")
    assert [row["card"] for row in report["imported"]] == ["adapters/acme/X.yaml"]
    assert report["left_out"] == [
        {
            "card": "adapters/acme/x.yaml",
            "version": "1",
            "reason": "its name would be acme/x, which adapters/acme/X.yaml has",
        }
    ]


def test_two_cards_that_look_alike_are_both_taken_and_noted(tmp_path: Path) -> None:
    folder = put(put(tmp_path / "cards", CARD, "acme/summarize.yaml"), CARD, "acme/sumarize.yaml")
    report = index_import("adapterhub", folder, tmp_path / "out")
    assert len(report["imported"]) == 2 and index_check(tmp_path / "out")["ok"]
    assert json.loads((tmp_path / "out/_index.json").read_bytes()) == {"similar": [["acme/sumarize", "acme/summarize"]]}
    assert any("acme/sumarize and acme/summarize" in note["note"] for note in report["notes"])
    assert index_import("adapterhub", folder, tmp_path / "out")["written"] == 0


def test_a_name_like_one_that_is_there_is_left_out(tmp_path: Path) -> None:
    only(tmp_path, CARD)
    put(tmp_path / "other", CARD, "acme/tiny-bert_sst-2_pfeifer.yaml")
    put(tmp_path / "other", CARD, "other/fine.yaml")
    report = index_import("adapterhub", tmp_path / "other", tmp_path / "out")
    assert [row["name"] for row in report["imported"]] == ["other/fine"]
    assert (
        "is easily taken for acme/tiny-bert_sst-2_pfeiffer, which is there already" in report["left_out"][0]["reason"]
    )
    assert index_check(tmp_path / "out")["ok"]


@pytest.mark.parametrize(
    ("there", "new", "taken"),
    [
        ("acme/summarize", ["acme/sumarize", "acme/sumarise"], ["acme/sumarise"]),
        ("acme/summarize", ["acme/sumarise", "acme/sumarize", "acme/summarise"], ["acme/sumarise"]),
        ("summaries/one", ["sumaries/two", "sumarie/three"], ["sumarie/three"]),
        ("summaries/one", ["sumaries/summarize", "sumaries/sumarize"], []),
    ],
    ids=str,
)
def test_a_name_that_is_left_out_is_not_said_to_be_meant(
    tmp_path: Path, there: str, new: list[str], taken: list[str]
) -> None:
    """A pair under 'similar' would let the name in the next time."""
    put(tmp_path / "cards", CARD, f"{there}.yaml")
    index_import("adapterhub", tmp_path / "cards", tmp_path / "out")
    for name in new:
        put(tmp_path / "other", CARD, f"{name}.yaml")
    for _ in range(2):
        report = index_import("adapterhub", tmp_path / "other", tmp_path / "out")
        assert [row["name"] for row in report["imported"]] == taken
    assert not (tmp_path / "out/_index.json").exists() and index_check(tmp_path / "out")["ok"]
    assert not any("easily taken" in note["note"] for note in report["notes"])


def test_what_only_begins_like_a_name_that_is_left_out_is_taken(tmp_path: Path) -> None:
    only(tmp_path, CARD)
    for stem in ("tiny-bert_sst-2_pfeifer", "tiny-bert_sst-2_pfeifer-large-cased"):
        put(tmp_path / "other", CARD, f"acme/{stem}.yaml")
    report = index_import("adapterhub", tmp_path / "other", tmp_path / "out")
    assert [row["name"] for row in report["imported"]] == ["acme/tiny-bert_sst-2_pfeifer-large-cased"]
    assert [row["card"] for row in report["left_out"]] == ["adapters/acme/tiny-bert_sst-2_pfeifer.yaml"]


def test_a_group_like_one_that_is_there_is_left_out(tmp_path: Path) -> None:
    put(tmp_path / "cards", CARD, "summaries/one.yaml")
    index_import("adapterhub", tmp_path / "cards", tmp_path / "out")
    put(tmp_path / "other", CARD, "sumaries/two.yaml")
    put(tmp_path / "other", CARD, "sumaries-of-mine/two.yaml")
    report = index_import("adapterhub", tmp_path / "other", tmp_path / "out")
    assert [row["name"] for row in report["imported"]] == ["sumaries-of-mine/two"]
    assert [row["card"] for row in report["left_out"]] == ["adapters/sumaries/two.yaml"]


def test_either_ending_of_a_card_is_no_part_of_its_name(tmp_path: Path) -> None:
    put(tmp_path / "cards", CARD, "acme/long.yaml")
    put(tmp_path / "cards", CARD, "acme/short.yml")
    put(tmp_path / "cards", CARD, "acme/v1.5.yml")
    report = index_import("adapterhub", tmp_path / "cards", tmp_path / "out")
    assert [row["name"] for row in report["imported"]] == ["acme/long", "acme/short", "acme/v1.5"]
