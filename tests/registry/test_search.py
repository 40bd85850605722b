"""Search against a scan of the words, and its order against plain FTS5."""

from __future__ import annotations

import itertools
import re
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubcli.resolver import to_json
from tests.registry.entrydocs import entry, index, release, resolver

WORDS = ["film", "films", "legal", "bert", "tweets", "summary", "naïve", "good", "zoo"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=8),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=2),
)
def test_search_finds_what_a_scan_finds(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], query: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    documents = [entry(f"g{n}/x{n}", release(metrics=[]), description=" ".join(words)) for n, words in enumerate(texts)]
    hits = {hit.name for hit in resolver(index(folder, "one", *documents)).search(" ".join(query), limit=99)}

    def stem(word: str) -> str:
        return {"films": "film", "naïve": "naiv", "tweets": "tweet", "summary": "summari"}.get(word, word)

    texts_by_stem = [{stem(word) for word in words} for words in texts]
    wanted = {stem(word) for word in query}
    everything = {f"g{n}/x{n}" for n, words in enumerate(texts_by_stem) if wanted <= words}
    something = {f"g{n}/x{n}" for n, words in enumerate(texts_by_stem) if wanted & words}
    assert hits == (everything or something)


@pytest.mark.parametrize(
    "filters, names",
    [
        ({"task": "text-classification"}, "a/one a/two"),
        ({"method": "prefix"}, "a/two"),
        ({"method": "PREFIX"}, "a/two"),
        ({"base": "acme/big"}, "a/three"),
        ({"language": "de"}, "a/two a/three"),
        ({"language": "d"}, ""),
        ({"license": "mit"}, "a/three"),
        ({"language": "de", "license": "mit"}, "a/three"),
        ({"method": "x' OR 1=1 --"}, ""),
        ({"task": None}, "a/one a/two a/three"),
    ],
)
@pytest.mark.parametrize("query", ["", "words"])
def test_filters(tmp_path: Path, filters: dict[str, str], names: str, query: str) -> None:
    documents = [
        entry("a/one", release(), description="words"),
        entry("a/two", release(method="prefix", language=["en", "de"]), description="words"),
        entry(
            "a/three",
            release(task="summarization", base={"id": "acme/big"}, language=["de"], license="mit"),
            description="words",
        ),
    ]
    found = resolver(index(tmp_path, "one", *documents)).search(query, **filters)
    assert {hit.name for hit in found} == set(names.split())


def test_names_outrank_descriptions_and_limits_hold(tmp_path: Path) -> None:
    documents = [entry(f"a/other{n}", description="all about film and film") for n in range(20)]
    found = resolver(index(tmp_path, "one", *documents, entry("a/film-mood", description="moods")))
    hits = found.search("film", limit=5)
    assert hits[0].name == "a/film-mood" and len(hits) == 5
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    keys = {"name", "version", "method", "task", "base", "description", "score", "installable"}
    assert set(to_json(hits)["hits"][0]) == keys


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        "a OR",
        "NEAR(",
        "name:film",
        "film*",
        "-film",
        "^film",
        "film AND NOT x",
        "{a b}: c",
        "' OR 1=1 --",
        "\x00film",
        "(" * 500,
        "a " * 5000,
        "x" * 100_000,
        "%",
        "_",
        "\ud800",
    ],
    ids=lambda query: ascii(query[:12]),
)
def test_hostile_queries_are_only_words(tmp_path: Path, query: str) -> None:
    found = resolver(index(tmp_path, "one", entry("a/film", description="a film")))
    hits = found.search(query)
    if "film" in re.findall(r"\w+", query):
        assert [hit.name for hit in hits] == ["a/film"]


def test_rank_is_that_of_raw_fts5(tmp_path: Path) -> None:
    """The same order as one plain FTS5 table with the same weights, made here by hand."""
    texts = [" ".join(words) for words in itertools.islice(itertools.product(WORDS, repeat=3), 0, 700, 9)]
    documents = [entry(f"g/x{n:03}", description=text) for n, text in enumerate(texts)]
    catalog = index(tmp_path, "one", *documents)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(n, d, f, tokenize='porter unicode61 remove_diacritics 2')")
    facts = "adapter lora text-classification acme/tiny en films"
    for number, text in enumerate(texts):
        db.execute("INSERT INTO t VALUES (?, ?, ?)", (f"g/x{number:03}", text, facts))
    for query in ("film", "bert legal", "zoo"):
        sql = "SELECT n FROM t WHERE t MATCH ? ORDER BY bm25(t, 10.0, 3.0, 1.0), n LIMIT 1000"
        assert [hit.name for hit in catalog.search(query, limit=1000)] == [row[0] for row in db.execute(sql, (query,))]
