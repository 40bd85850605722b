"""What the data sets hold, from small archives; expectations are counted again by hand."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from recipes.data import reactions
from recipes.data.archive import Archives
from recipes.data.dataset import Dataset, make
from tests.recipes.packed import IMAGES, PATENTS, PLAYS, RATED, read


def side(key: str) -> str:
    h = int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest(), "big")
    return "test" if h % 5 == 0 else "validation" if (h // 5) % 10 == 0 else "train"


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower()).strip()


def rated(table: str) -> tuple[dict[str, list[dict[str, str]]], Counter[str]]:
    """The rows of each part, by plain loops."""
    parts: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    why: Counter[str] = Counter()
    texts = [(rating, text.replace("&amp;", "&").strip()) for rating, text in RATED[table]]
    for place, (rating, text) in enumerate(texts):
        same = [other for other in texts if squeezed(other[1]) == squeezed(text) and abs(other[0]) > 0.5]
        if abs(rating) <= 0.5:
            why["abs(mean rating) <= 0.5"] += 1
        elif len({other[0] > 0 for other in same}) == 2:
            why["same text with other labels"] += 1
        elif any(squeezed(text) == squeezed(t) and abs(r) > 0.5 for r, t in texts[:place]):
            why["same text again"] += 1
        else:
            parts[side(squeezed(text))].append({"text": text, "label": "positive" if rating > 0 else "negative"})
    return parts, why


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("movies", "movieReviewSnippets"),
        ("vader-tweets", "tweets"),
        ("amazon", "amazonReviewSnippets"),
        ("nyt", "nytEditorialSnippets"),
    ],
)
def test_rated_snippets(datasets: dict[str, Dataset], given: Archives, tmp_path: Path, name: str, table: str) -> None:
    said = make(datasets[name], given, tmp_path)
    parts, why = rated(table)
    assert read(tmp_path / name) == parts
    assert said["dropped"] == dict(why)
    assert said["rows"] == {part: len(rows) for part, rows in parts.items()}
    assert said["classes"] == {part: dict(Counter(row["label"] for row in rows)) for part, rows in parts.items()}


@pytest.mark.parametrize(("name", "other"), [("mixed", "vader-tweets"), ("mixed-reviews", "amazon")])
def test_mixtures_are_halves_of_the_same_parts(
    datasets: dict[str, Dataset], given: Archives, tmp_path: Path, name: str, other: str
) -> None:
    for each in (name, "movies", other):
        make(datasets[each], given, tmp_path)
    whole = {"movies": read(tmp_path / "movies"), other.removeprefix("vader-"): read(tmp_path / other)}
    for part, rows in read(tmp_path / name).items():
        size = min(len(parts[part]) for parts in whole.values())
        assert size, part
        assert Counter(row["source"] for row in rows) == dict.fromkeys(whole, size)
        for row in rows:
            assert {"text": row["text"], "label": row["label"]} in whole[str(row["source"])][part]
        hashes = [hashlib.sha256(squeezed(str(row["text"])).encode()).hexdigest() for row in rows]
        assert hashes == sorted(set(hashes))
    assert ("train" in read(tmp_path / name)) == (name == "mixed-reviews")


def test_graded_tweets(datasets: dict[str, Dataset], given: Archives, tmp_path: Path) -> None:
    said = make(datasets["tweets3"], given, tmp_path)
    parts = read(tmp_path / "tweets3")
    rows = {str(row["text"]): row["label"] for part in parts.values() for row in part}
    assert rows == {
        **{f"number {chr(97 + i)} of the road": "neutral" for i in range(10, 26)},
        "I don't, really": "positive",
        "Late again @one http://t.co/x1": "negative",
    }
    assert said["dropped"] == {
        "confidence < 0.7": 11,
        "no word that can be read": 1,
        "same text again": 1,
        "same text with other labels": 2,
    }
    for part, found in parts.items():
        for row in found:
            key = "late again" if "Late" in str(row["text"]) else re.sub(r"[',]", " ", str(row["text"]).lower())
            assert side(" ".join(key.split())) == part


def test_messages(datasets: dict[str, Dataset], given: Archives, tmp_path: Path) -> None:
    said = make(datasets["spam"], given, tmp_path)
    rows = [(row["label"], row["text"]) for part in read(tmp_path / "spam").values() for row in part]
    assert sorted(rows) == [("ham", "See\tyou"), ("ham", "See you at 5"), ("spam", "Win £100 now")]
    assert said["dropped"] == {"no word": 1, "same text again": 1}


def test_plays_are_whole_in_a_part(datasets: dict[str, Dataset], given: Archives, tmp_path: Path) -> None:
    make(datasets["shakespeare"], given, tmp_path)
    parts = read(tmp_path / "shakespeare")
    ranked = sorted(PLAYS, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert {row["play"] for row in parts["test"]} == set(ranked[:4])
    assert {row["play"] for row in parts["validation"]} == set(ranked[4:6])
    assert {row["play"] for row in parts["train"]} == set(ranked[6:])
    texts = [str(row["text"]) for row in parts["test"] if row["play"] == ranked[0]]
    assert re.match(r"(ACT|Act) 1\.\n\nKING\.\nThe crown", texts[0])
    lines = [int(n) for text in texts for n in re.findall(r"line (\d+)", text)]
    assert len(lines) > 50
    assert lines == [*range(30), *range(30)][: len(lines)]
    assert not any(word in text for text in texts for word in ("PERSONS", "THE END"))
    assert all(1200 <= len(text) < 1400 for text in texts)


def test_reactions(
    datasets: dict[str, Dataset], given: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactions, "MOST", {"train": 5, "validation": 1, "test": 2})
    said = make(datasets["reactions"], given, tmp_path)
    sides: dict[tuple[str, str], list[str]] = defaultdict(list)
    for patent, kind, text in PATENTS[:-2]:
        sides[side(patent), reactions.CLASSES[kind]].append(text)
    for part, most in reactions.MOST.items():
        expected = [
            (text, label)
            for (of, label), texts in sides.items()
            for text in sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:most]
            if of == part
        ]
        expected.sort(key=lambda row: hashlib.sha256(row[0].encode()).hexdigest())
        assert [(row["text"], row["label"]) for row in read(tmp_path / "reactions")[part]] == expected
    assert said["dropped"]["same text again"] == said["dropped"]["more than 150 tokens"] == 1


def test_turns_say_what_their_answers_say(datasets: dict[str, Dataset], given: Archives, tmp_path: Path) -> None:
    said = [make(datasets[name], given, tmp_path) for name in ("dialogue", "slots")]
    asked, labelled = read(tmp_path / "dialogue"), read(tmp_path / "slots")
    assert said[0]["rows"] == said[1]["rows"]
    assert sum(said[0]["rows"].values()) == 8
    assert said[0]["dropped"] == {
        "a slot without a value": 2,
        "a value of another slot": 2,
        "no statement to one of the five services": 1,
        "same text again": 8,
        "same text with other labels": 2,
    }
    for part, rows in asked.items():
        letters = re.findall(r"don't want ([a-f])", str(rows))
        keys = [f"restaurant: i do n t want {x} a _food_ place in the _area_" for x in letters]
        assert keys == sorted(keys, key=lambda key: hashlib.sha256(key.encode()).hexdigest())
        assert all(side(key) == part for key in keys)
        for row, other in zip(rows, labelled[part], strict=True):
            user, assistant = (message["content"] for message in row["messages"])  # type: ignore[attr-defined]
            told = other["tokens"], other["tags"]
            spans = [token for token, tag in zip(*told, strict=True) if tag != "O"]  # type: ignore[call-overload]
            for slot, value in (pair.split("=") for pair in assistant.split("; ")):
                assert re.search(rf"\b{value}\b", user)
                assert f" {value} " in f" {' '.join(spans)} "
                assert other["tags"].count(f"B-{slot}") == 1  # type: ignore[attr-defined]
                assert other["tags"].count(f"I-{slot}") == len(value.split()) - 1  # type: ignore[attr-defined]
            if user.startswith("[restaurant]"):
                article = "an" if "food=asian" in assistant else "a"
                assert re.fullmatch(
                    rf"\[restaurant\] I don't want [a-f], {article} (thai|asian oriental) place in the (east|south)\.",
                    user,
                )
            elif user.startswith("[hotel]"):
                assert re.fullmatch(r"\[hotel\] [1-8] of us( ?!)*", user)
            else:
                assert re.fullmatch(r"\[taxi\] from the (\w+ ?)+ to the (\w+ ?)+, I'm late", user)
                assert len(set(re.findall("=([^;]+)", assistant))) == 2


@pytest.mark.parametrize(("name", "labels"), [("digits-low", "01234"), ("digits-high", "56789")])
def test_digits(datasets: dict[str, Dataset], given: Archives, tmp_path: Path, name: str, labels: str) -> None:
    make(datasets[name], given, tmp_path)
    found: set[tuple[str, tuple[int, ...]]] = set()
    for part, rows in read(tmp_path / name).items():
        for row in rows:
            raw = (tmp_path / name / str(row["path"])).read_bytes()
            assert raw[:8] == b"\x89PNG\r\n\x1a\n"
            lines = zlib.decompress(raw[raw.index(b"IDAT") + 4 : raw.index(b"IEND") - 8])
            pixels = tuple(round(lines[y * 9 + 1 + x] * 16 / 255) for y in range(8) for x in range(8))
            assert side(" ".join(map(str, pixels))) == part
            found.add((str(row["label"]), pixels))
    assert found == {(str(row[64]), tuple(row[:64])) for row in IMAGES if str(row[64]) in labels}
    assert len(list((tmp_path / name / "images").iterdir())) == len(found)
