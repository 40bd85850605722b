"""Rows read from files, labelled and parted, against other readers of the same files."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from pyarrow import parquet

from hubcli.errors import UsageError
from hubcli.training import splits
from hubcli.training.examples import load
from tests.training.written import GOOD, ODD, fields, lines, many, places, recipe, write

# --- what is read


def write_odd(folder: Path, kind: str) -> Path:
    file = folder / f"train.{kind}"
    frame = pandas.DataFrame(ODD)
    if kind == "parquet":
        frame.to_parquet(file)
    elif kind in ("jsonl", "ndjson"):
        file.write_text(lines(ODD), encoding="utf-8")
    else:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t" if kind == "tsv" else ",")
            writer.writerows([["text", "label"], *([row["text"], row["label"]] for row in ODD)])
    return file


READERS: dict[str, Callable[[Path], Any]] = {
    "csv": pandas.read_csv,
    "tsv": lambda file: pandas.read_csv(file, sep="\t"),
    "jsonl": lambda file: pandas.DataFrame([json.loads(line) for line in file.read_text().split("\n")[:-1]]),
    "ndjson": lambda file: pandas.read_json(file, lines=True),
    "parquet": lambda file: parquet.read_table(file).to_pandas(),
}


@pytest.mark.parametrize("kind", READERS)
def test_each_format_gives_what_another_reader_gives(kind: str, tmp_path: Path) -> None:
    file = write_odd(tmp_path, kind)
    found = load(recipe(tmp_path, train=file.name))
    told = READERS[kind](file)
    assert [row["text"] for row in fields(found)] == list(told["text"])
    assert [found.labels[row["label"]] for row in fields(found)] == list(told["label"])
    assert found.labels == ("neg", "pos")
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    facts = {"part": "train", "path": file.name, "size": len(content), "sha256": sha256, "rows": 4}
    assert found.files == (facts,)


def test_a_row_stands_in_the_line_it_starts_in(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", 'text,label\n"two\nlines",a\n\nb,b\n"x\r\n\r\ny",a\nlast,b')
    assert places(load(recipe(tmp_path))) == ["train.csv:2", "train.csv:5", "train.csv:6", "train.csv:9"]
    write(tmp_path, "train.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": 2}\n')
    assert places(load(recipe(tmp_path, train="train.jsonl"))) == ["train.jsonl:1", "train.jsonl:3"]
    pandas.DataFrame(ODD).to_parquet(tmp_path / "train.parquet")
    assert places(load(recipe(tmp_path, train="train.parquet")))[-1] == "train.parquet:4"


def test_files_of_a_part_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", GOOD)
    (tmp_path / "more").mkdir()
    write(tmp_path, "more/b.jsonl", lines([{"text": "other", "label": "pos"}]))
    found = load(recipe(tmp_path, train=["a.csv", "more/b.jsonl"]))
    assert places(found)[3:] == ["a.csv:5", "more/b.jsonl:1"]
    assert [(told["path"], told["rows"]) for told in found.files] == [("a.csv", 4), ("more/b.jsonl", 1)]


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), {}),
        (GOOD.encode("utf-16"), {"encoding": "utf-16"}),
        (GOOD.replace("good", "gööd").encode("latin-1"), {"encoding": "latin-1"}),
        (GOOD.replace(",", ";").encode(), {"delimiter": ";"}),
        (GOOD.replace("\n", "\r\n").encode(), {}),
        (GOOD.replace("\n", "\r").encode(), {}),
        (
            GOOD.replace("text,label", "review,sentiment").encode(),
            {"columns": {"text": "review", "label": "sentiment"}},
        ),
    ],
    ids=["bom", "utf-16", "latin-1", "delimiter", "crlf", "cr", "columns"],
)
def test_ways_to_write_a_csv(content: bytes, data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "train.csv", content)
    found = load(recipe(tmp_path, train="train.csv", **data))
    assert [row["text"].replace("ö", "o") for row in fields(found)] == ["a good film", "a bad film", "fine", "dull"]
    assert [row["label"] for row in fields(found)] == [1, 0, 1, 0]


def test_format_is_taken_before_the_suffix(tmp_path: Path) -> None:
    write(tmp_path, "train.data", GOOD)
    assert len(load(recipe(tmp_path, train="train.data", format="csv")).parts["train"]) == 4


TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ho"},
]


@pytest.mark.parametrize(
    ("task", "rows", "columns", "expected"),
    [
        ("CAUSAL_LM", [{"text": "to be"}], {}, [{"text": "to be"}]),
        ("CAUSAL_LM", [{"prompt": "q", "answer": "a"}], {"prompt": "prompt"}, [{"prompt": "q", "answer": "a"}]),
        ("CAUSAL_LM", [{"messages": TURNS}], {"messages": "messages"}, [{"messages": TURNS}]),
        ("CAUSAL_LM", [{"messages": json.dumps(TURNS)}], {"messages": "messages"}, [{"messages": TURNS}]),
        ("SEQ_2_SEQ_LM", [{"text": "in", "target": "out"}], {}, [{"text": "in", "target": "out"}]),
        (
            "SEQ_CLS",
            [{"text": "a", "b": "x", "label": True}, {"text": "c", "b": "y", "label": False}],
            {"text_pair": "b"},
            [{"text": "a", "text_pair": "x", "label": 1}, {"text": "c", "text_pair": "y", "label": 0}],
        ),
        (
            "TOKEN_CLS",
            [{"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}, {"tokens": "[ a", "tags": "O O"}],
            {},
            [{"tokens": ["in", "Rome"], "tags": [1, 0]}, {"tokens": ["[", "a"], "tags": [1, 1]}],
        ),
        (
            "TOKEN_CLS",
            [{"tokens": '["a b", "c"]', "tags": "[1, 0]"}],
            {},
            [{"tokens": ["a b", "c"], "tags": [1, 0]}],
        ),
        (
            "IMG_CLS",
            [{"image": [[0, 1.5], [2, 3]], "label": 0}, {"image": [[[0], [1]]], "label": 10}, {"image": "[[1]]", "label": 9}],
            {},
            [{"image": [[0, 1.5], [2, 3]], "label": 0}, {"image": [[[0], [1]]], "label": 2}, {"image": [[1]], "label": 1}],
        ),
    ],
)  # fmt: skip
def test_what_each_task_reads(task: str, rows: list[Any], columns: Any, expected: list[Any], tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", lines(rows))
    found = load(recipe(tmp_path, task, train="train.jsonl", columns=columns))
    assert fields(found) == expected
    if not any("messages" in row or isinstance(row.get("image"), list) or "tokens" in row for row in rows):
        pandas.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
        assert fields(load(recipe(tmp_path, task, train="train.parquet", columns=columns))) == expected


def test_nested_columns_of_parquet(tmp_path: Path) -> None:
    turns = pyarrow.table({"messages": [TURNS], "other": [1]})
    parquet.write_table(turns, tmp_path / "train.parquet")
    found = load(recipe(tmp_path, "CAUSAL_LM", train="train.parquet", columns={"messages": "messages"}))
    assert fields(found) == [{"messages": TURNS}]


def test_images_are_paths_beside_the_data(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    write(tmp_path, "outside.png", b"other bytes")
    write(tmp_path, "digits/a.png", b"some bytes")
    write(tmp_path, "digits/train.csv", "image,label\na.png,0\n../outside.png,1\n")
    found = load(recipe(tmp_path, "IMG_CLS", train="digits/train.csv"))
    assert [Path(row["image"]).read_bytes() for row in fields(found)] == [b"some bytes", b"other bytes"]
    table = pyarrow.table(
        {"image": [{"bytes": b"png", "path": None}, {"bytes": None, "path": "digits/a.png"}], "label": [0, 1]}
    )
    parquet.write_table(table, tmp_path / "train.parquet")
    found = load(recipe(tmp_path, "IMG_CLS", train="train.parquet"))
    assert [row["image"] for row in fields(found)] == [{"bytes": b"png", "path": None}, str(tmp_path / "digits/a.png")]


# --- labels


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "b", "c"], ("a", "b", "c")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([10, 9, 1.0, "1"], ("1", "9", "10")),
        ([0.5, 0.25], ("0.25", "0.5")),
        ([True, False, "true"], ("false", "true")),
        (["10", "x", "9"], ("10", "9", "x")),
        ([" a", "a ", "b"], ("a", "b")),
    ],
)
def test_labels_are_the_distinct_texts_in_order(values: list[Any], labels: tuple[str, ...], tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": value} for i, value in enumerate(values)]
    write(tmp_path, "train.jsonl", lines(rows))
    assert load(recipe(tmp_path, train="train.jsonl")).labels == labels


def test_the_map_is_asked_first_and_labels_give_the_order(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": value} for i, value in enumerate([1, "1", 1.0, 0, False, "good"])]
    write(tmp_path, "train.jsonl", lines(rows))
    data: dict[str, Any] = {"labels": ["good", "bad"], "map": {"1": "good", "0": "bad", "false": "bad"}}
    found = load(recipe(tmp_path, train="train.jsonl", **data))
    assert found.labels == ("good", "bad")
    assert [row["label"] for row in fields(found)] == [0, 0, 0, 1, 1, 0]
    own = load(recipe(tmp_path, train="train.jsonl", **data), only="train", labels=("bad", "other", "good"))
    assert [row["label"] for row in fields(own)] == [2, 2, 2, 0, 0, 2] and own.labels == ("bad", "other", "good")


# --- parts


def test_parts_are_cut_from_train_by_content(tmp_path: Path) -> None:
    many(tmp_path)
    shares = {"validation": 0.2, "test": 0.1}
    found = load(recipe(tmp_path, split=shares))
    for part in ("train", "validation", "test"):
        for row in fields(found, part):
            position = int(hashlib.sha256(row["text"].encode()).hexdigest()[:16], 16) / 2**64
            assert part == ("test" if position < 0.1 else "validation" if position < 0.3 else "train")
    assert sum(map(len, found.parts.values())) == 400
    assert load(recipe(tmp_path, split=shares), only="test").parts == {**found.parts, "train": [], "validation": []}
    write(tmp_path, "test.csv", GOOD.replace("pos", "a").replace("neg", "b"))
    given_one = load(recipe(tmp_path, split=shares, train="train.csv", test="test.csv"))
    assert len(given_one.parts["test"]) == 4
    assert sum(map(len, given_one.parts.values())) == 404


def test_parts_are_cut_from_train_by_the_seed(tmp_path: Path) -> None:
    many(tmp_path)
    found = load(recipe(tmp_path, split={"validation": 0.2, "test": 0.1, "by": "random"}))
    assert {part: len(rows) for part, rows in found.parts.items()} == {"train": 280, "validation": 80, "test": 40}
    ranked = sorted(range(400), key=lambda row: hashlib.sha256(f"0:split:{row}".encode()).digest())
    assert places(found, "test") == [f"train.csv:{row + 2}" for row in sorted(ranked[:40])]


def test_the_same_input_never_straddles(tmp_path: Path) -> None:
    turns = [{"messages": [{"role": "user", "content": f"Q  {i % 50}"}, {"role": "assistant", "content": f"{i}"}]} for i in range(200)]  # fmt: skip
    write(tmp_path, "train.jsonl", lines(turns))
    split = {"validation": 0.3, "test": 0.3}
    found = load(recipe(tmp_path, "CAUSAL_LM", split, train="train.jsonl", columns={"messages": "messages"}))
    asked = [{row["messages"][0]["content"] for row in fields(found, part)} for part in found.parts]
    assert sum(map(len, asked)) == 50 == len(set().union(*asked))


def test_only_reads_what_it_needs(tmp_path: Path) -> None:
    many(tmp_path)
    write(tmp_path, "test.csv", "text,label\nbroken\n")
    one = recipe(tmp_path, train="train.csv", test="test.csv", labels=["a", "b"])
    assert [told["part"] for told in load(one, only="train").files] == ["train"]
    write(tmp_path, "train.csv", "broken")
    write(tmp_path, "test.csv", "text,label\nx,a\ny,b\n")
    assert [told["part"] for told in load(one, only="test").files] == ["test"]
    undeclared = recipe(tmp_path, train="train.csv", test="test.csv")
    assert fields(load(undeclared, only="test", labels=("b", "a")), "test")[0] == {"text": "x", "label": 1}
    with pytest.raises(UsageError, match=r"train\.csv"):
        load(undeclared, only="test")  # what the labels are is train's to say
    with pytest.raises(UsageError, match="expected a part validation, found train, test"):
        load(one, only="validation")


def test_a_limit_takes_rows_of_a_part_in_file_order(tmp_path: Path) -> None:
    many(tmp_path)
    many(tmp_path, 50, "test.csv")
    data: dict[str, Any] = {"train": "train.csv", "test": "test.csv"}
    found = load(recipe(tmp_path, **data, limit={"train": 30, "test": 1000}))
    assert places(found) == [f"train.csv:{row + 2}" for row in splits.chosen(400, 30, 0, "train")]
    assert len(found.parts["test"]) == 50
    assert found.files[0]["rows"] == 400


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "-inf"])
def test_a_word_is_a_word(word: str, tmp_path: Path) -> None:
    """Among others: a text of that alone is what a program writes for a number that is none."""
    rows = [{"tokens": ["my", word, "said"], "tags": ["O", "B-X", "O"]}, {"tokens": [word], "tags": ["O"]}]
    write(tmp_path, "train.jsonl", lines(rows))
    found = load(recipe(tmp_path, "TOKEN_CLS", train="train.jsonl"))
    assert [row["tokens"] for row in fields(found)] == [["my", word, "said"], [word]]
