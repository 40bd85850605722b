"""Rows read from files, against other readers of the same files; and what is told about data that can't be used."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hubcli.errors import DiskError, HubcliError, MissingExtraError, NotFoundError, UsageError
from hubcli.method import HubcliWarning
from hubcli.recipe import Recipe, made
from hubcli.training import splits
from hubcli.training.examples import Examples, load

GOOD = "text,label\na good film,pos\na bad film,neg\nfine,pos\ndull,neg\n"
ODD = [
    {"text": 'quotes "inside", commas', "label": "neg"},
    {"text": "two\nlines", "label": "pos"},
    {"text": "ünïcode \u2028 café 映画", "label": "neg"},
    {"text": "ends with CR\r\nLF", "label": "pos"},
]


def recipe(folder: Path, task: str = "SEQ_CLS", split: dict[str, Any] | None = None, **data: Any) -> Recipe:
    document = {
        "v": 1,
        "task": task,
        "base": {"id": "some/base"},
        "method": {"name": "full"},
        "data": data or {"train": "train.csv"},
        "split": split or {"validation": 0.0, "test": 0.0},
    }
    return made(document, folder)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def fields(found: Examples, part: str = "train") -> list[dict[str, Any]]:
    return [dict(example.fields) for example in found.parts[part]]


def places(found: Examples, part: str = "train") -> list[str]:
    return [example.place for example in found.parts[part]]


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


def many(folder: Path, count: int = 400, name: str = "train.csv") -> None:
    write(folder, name, "text,label\n" + "".join(f"row {i} of {name},{'ab'[i % 2]}\n" for i in range(count)))


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


# --- what can't be used

BAD: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty file": (b"", {}, r"train.csv: expected a header and rows, found an empty file"),
    "header only": ("text,label\n", {}, r"train.csv: expected rows, found none"),
    "missing column": ("Text,labels,x\na,b,c\n", {}, r'expected columns "text", "label", found "Text", "labels", "x"'),
    "column twice": ("text,label,text\na,b,c\n", {}, r'expected one column of a name, found "text" more than once'),
    "one class": ("text,label\na,x\nb,x\n", {}, r'expected at least two classes, found only "x"'),
    "unknown label": (GOOD + "so,neutral\n", {"labels": ["pos", "neg"]}, r'labels "pos", "neg": train.csv:6 \(found "neutral"\)'),
    "empty text": ("text,label\n,a\n  ,b\nx,b\n", {}, r"expected text in 'text': train.csv:2 \(found empty\), train.csv:3"),
    "nan text": ("text,label\nNaN,a\nx,b\n", {}, r'expected text in .text.: train.csv:2 \(found "NaN"\)'),
    "empty label": ("text,label\nx,\ny,b\n", {}, r"expected a label in 'label': train.csv:2 \(found empty\)"),
    "nan label": ("text,label\nx,nan\ny,inf\n", {}, r'train.csv:2 \(found "nan"\), train.csv:3 \(found "inf"\)'),
    "not utf-8": (b"text,label\nfine,a\ncaf\xe9,b\n", {}, r"expected utf-8, found byte 0xe9 at offset 21 \(line 3\)"),
    "utf-16": (GOOD.encode("utf-16"), {}, r"expected utf-8, found byte 0xff at offset 0 \(line 1\)"),
    "open quote": ('text,label\nx,a\n"y,b\nz,a\n', {}, r"starts in line 3: a quote is never closed"),
    "broken quote": ('text,label\n"x"y,a\n', {}, r"starts in line 2: ',' expected after '\"'"),
    "ragged": ("text,label\nx,a\ny,b,c\nz\n", {}, r"expected 2 cells: train.csv:3 \(found 3\), train.csv:4 \(found 1\)"),
    "long cell": (f"text,label\n{'x' * (1 << 20 | 1)},a\n", {}, r"train.csv:2: a cell of over 1 MiB"),
    "encoding": (GOOD, {"encoding": "klingon"}, r'expected a text encoding, found "klingon"'),
    "no text encoding": (GOOD, {"encoding": "hex"}, r'expected a text encoding, found "hex"'),
    "delimiter": (GOOD, {"delimiter": '"'}, r"data.delimiter: .* can't be one"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_csv(case: str, tmp_path: Path) -> None:
    content, data, expected = BAD[case]
    write(tmp_path, "train.csv", content)
    with pytest.raises(UsageError, match=expected) as found:
        load(recipe(tmp_path, train="train.csv", **data))
    assert found.value.id == "E_DATA"
    assert found.value.message.isprintable()


ROW = '{"text": "a", "label": 1}\n'
BAD_LINES: dict[str, tuple[str, str]] = {
    "not json": (ROW + "{'text': 1}\n", r"expected JSON: train.jsonl:2 \(Expecting property name"),
    "all of them": (ROW + "x\n" * 22, r"train.jsonl:6 \([^)]*\) and 17 more$"),
    "no object": (ROW + "[1]\n", r"expected a JSON object a line: train.jsonl:2 \(found \[1\]\)"),
    "nan": ('{"text": "a", "label": NaN}\n', r"train.jsonl:1 \(NaN is no number\)"),
    "infinity": ('{"text": "a", "label": 1, "x": -Infinity}\n', r"train.jsonl:1 \(-Infinity is no number\)"),
    "overflow": ('{"text": "a", "label": 1e999}\n', r"expected a label in 'label': train.jsonl:1"),
    "digits": ('{"text": "a", "label": ' + "1" * 5000 + "}\n", r"expected JSON: train.jsonl:1 \(Exceeds the limit"),
    "deep": ("[" * 100_000 + "\n", r"expected JSON: train.jsonl:1 \(nested too deep\)"),
    "no text": ('{"label": 1}\n' + ROW, r"expected text in 'text': train.jsonl:1 \(found nothing\)"),
    "null text": ('{"text": null, "label": 1}\n' + ROW, r"expected text in 'text': train.jsonl:1 \(found nothing\)"),
    "number for text": ('{"text": 5, "label": 1}\n' + ROW, r"expected text in 'text': train.jsonl:1 \(found 5\)"),
    "half a pair": (r'{"text": "\ud800", "label": 1}' + "\n" + ROW, r"found half of a surrogate pair"),
    "list for label": ('{"text": "a", "label": [1]}\n' + ROW, r"expected a label in 'label': train.jsonl:1 \(found a list\)"),
    "two kinds": ('{"text": "", "label": null}\n', r"expected text in 'text': .*; expected a label in 'label': .*"),
    "no column": ('{"Text": "a", "label": 1}\n', r'train.jsonl: expected column "text", found "Text", "label"'),
    "empty": ("\n \n", r"train.jsonl: expected rows, found none"),
    "long": (json.dumps({"text": "x" * (1 << 20 | 1), "label": 1}), r"1048577 characters, more than 1 MiB"),
    "control": (r'{"text": "a", "label": "\u001b[2J\u0000\u202e"}' + "\n" + ROW, r"expected one of the labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_json_lines(case: str, tmp_path: Path) -> None:
    content, expected = BAD_LINES[case]
    write(tmp_path, "train.jsonl", content)
    data = {"labels": ["1", "2"]} if case == "control" else {}
    with pytest.raises(UsageError, match=expected) as found:
        load(recipe(tmp_path, train="train.jsonl", **data))
    assert found.value.id == "E_DATA"
    assert found.value.message.isprintable() and len(found.value.message) < 1000


def turns(*roles: str, content: Any = "x") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role in roles]}


BAD_ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "unequal": ("TOKEN_CLS", {"tokens": ["a", "b"], "tags": ["O"]}, r"found 2 tokens, 1 tags"),
    "no tokens": ("TOKEN_CLS", {"tokens": [], "tags": []}, r"found an empty list"),
    "empty token": ("TOKEN_CLS", {"tokens": ["a", " "], "tags": ["O", "O"]}, r"tokens .*found empty"),
    "no tag": ("TOKEN_CLS", {"tokens": ["a"], "tags": [None]}, r"tags .*found nothing"),
    "role": ("CAUSAL_LM", turns("user", "robot"), r'message 2: expected role system, user, assistant, found "robot"'),
    "no role": ("CAUSAL_LM", {"messages": [{"content": "x"}]}, r"message 1: expected role .* found nothing"),
    "content": ("CAUSAL_LM", turns("assistant", content=" "), r"message 1: expected content, found empty"),
    "no answer": ("CAUSAL_LM", turns("assistant", "user"), r"the last is the user's"),
    "no messages": ("CAUSAL_LM", {"messages": []}, r"found an empty list"),
    "no object": ("CAUSAL_LM", {"messages": ["hi"]}, r'message 1: expected role and content, found "hi"'),
    "text": ("CAUSAL_LM", {"messages": "hi"}, r'expected messages, .* \(found "hi"\)'),
    "target": ("SEQ_2_SEQ_LM", {"text": "a", "target": ""}, r"expected text in 'target': train.jsonl:1 \(found empty\)"),
    "no image": ("IMG_CLS", {"image": "no.png", "label": 1}, r'no file "no.png"'),
    "folder": ("IMG_CLS", {"image": ".", "label": 1}, r'no file "."'),
    "nul": ("IMG_CLS", {"image": "a\0b", "label": 1}, r'(no file|no path) "a\\u0000b"'),
    "long path": ("IMG_CLS", {"image": "x" * 5000, "label": 1}, r"(no file|no path) \"x+\.\.\."),
    "jagged": ("IMG_CLS", {"image": [[1, 2], [3]], "label": 1}, r"H x W"),
    "flat": ("IMG_CLS", {"image": [1, 2], "label": 1}, r"H x W"),
    "deep": ("IMG_CLS", {"image": [[[[1]]]], "label": 1}, r"H x W"),
    "text in it": ("IMG_CLS", {"image": [["a"]], "label": 1}, r"H x W"),
    "null image": ("IMG_CLS", {"image": None, "label": 1}, r"expected an image in 'image': train.jsonl:1 \(found nothing\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows(case: str, tmp_path: Path) -> None:
    task, row, expected = BAD_ROWS[case]
    write(tmp_path, "train.jsonl", lines([row]))
    columns = {"messages": "messages"} if "messages" in row else {}
    with pytest.raises(UsageError, match=expected) as found:
        load(recipe(tmp_path, task, train="train.jsonl", columns=columns))
    assert found.value.id == "E_DATA" and found.value.message.isprintable()


def test_findings_of_all_parts_come_together(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "text,label\n" + ",a\n" * 3 + "x,b\n")
    write(tmp_path, "test.csv", "text,label\n" + ",a\n" * 19)
    with pytest.raises(
        UsageError, match=r"train.csv:4 \(found empty\), test.csv:2 .* test.csv:3 \(found empty\) and 17 more$"
    ):
        load(recipe(tmp_path, train="train.csv", test="test.csv"))


@pytest.mark.parametrize(
    ("data", "error", "expected"),
    [
        ({"train": "none.csv"}, NotFoundError, "no data file none.csv"),
        ({"train": "."}, UsageError, "expected a file, found a folder"),
        ({"train": "a\0.csv"}, NotFoundError, r"no data file a.x00.csv"),
        ({"train": "x" * 300 + ".csv"}, DiskError, "can't read x+"),
        ({"train": "fifo.csv"}, UsageError, "expected a file, found something else"),
        ({"train": "train.xlsx"}, UsageError, r"expected .csv, .tsv, .jsonl, .ndjson, .parquet, found .xlsx"),
        ({"train": "train"}, UsageError, "found no suffix"),
        ({"train": "train.jsonl", "delimiter": ";"}, UsageError, "data.delimiter is for csv and tsv, found jsonl"),
        ({"train": "train.parquet", "encoding": "latin-1"}, UsageError, "data.encoding is for text, found parquet"),
        ({"train": "train.parquet"}, UsageError, "not a Parquet file that can be read"),
        ({"train": "train.csv", "only": "tests"}, UsageError, "only: expected train, validation, test"),
    ],
)
def test_what_is_no_data_file(data: dict[str, Any], error: type[HubcliError], expected: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    for name in ("train", "train.xlsx", "train.jsonl", "train.parquet", "train.csv"):
        write(tmp_path, name, GOOD)
    only = data.pop("only", None)
    with pytest.raises(error, match=expected):
        load(recipe(tmp_path, **data), only=only)


def test_hints(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "Text,lable,x\na,b,c\n")
    with pytest.raises(UsageError) as found:
        load(recipe(tmp_path))
    assert found.value.hint == 'did you mean data.columns = { text = "Text", label = "lable" }?'
    write(tmp_path, "train.csv", GOOD + "x,Pos\n")
    with pytest.raises(UsageError) as found:
        load(recipe(tmp_path, train="train.csv", labels=["pos", "neg"]))
    assert str(found.value.hint).startswith('did you mean "pos"?')


def test_parts_without_rows(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "text,label\na,x\nb,y\n")
    with pytest.raises(UsageError, match="validation: expected rows, found none") as found:
        load(recipe(tmp_path, split={"validation": 0.1, "test": 0.0, "by": "random"}))
    assert "split.validation" in str(found.value.hint)


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas.DataFrame(ODD).to_parquet(tmp_path / "train.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow") as found:
        load(recipe(tmp_path, train="train.parquet"))
    assert found.value.hint == "pip install 'hubcli[train]'"


# --- what is a warning

WARNED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "class missing": (GOOD, "text,label\nnew,pos\n", {}, r'^test has no row of "neg"$'),
    "class unseen": (
        GOOD, "text,label\nnew,pos\nn,neg\no,other\n", {"labels": ["pos", "neg", "other"]},
        r'^test has rows of "other", which train has none of$',
    ),
    "rows in both": (
        GOOD, "text,label\nA  good FILM,pos\nfine,pos\nnew,neg\n", {},
        "^rows with the same input as a row of train: 2 rows of test$",
    ),
    "contradiction": (
        GOOD + "Fine,neg\nfine ,neg\n", "text,label\nnew,pos\nn,neg\n", {},
        r'^rows with the same input and another label: train.csv:6 \("neg", but "pos" in train.csv:4\), train.csv:7 ',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNED)
def test_warnings(case: str, tmp_path: Path) -> None:
    train, test, data, expected = WARNED[case]
    write(tmp_path, "train.csv", train)
    write(tmp_path, "test.csv", test)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load(recipe(tmp_path, train="train.csv", test="test.csv", **data))
    assert all(issubclass(one.category, HubcliWarning) for one in told)
    assert len([one for one in told if re.search(expected, str(one.message))]) == 1


# --- anything at all


def tried(folder: Path, name: str, content: bytes, task: str, data: dict[str, Any]) -> None:
    write(folder, name, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(recipe(folder, task, {"validation": 0.2, "test": 0.2}, train=name, **data))
    except HubcliError as error:
        assert error.message.isprintable()


PIECES = st.lists(
    st.sampled_from([b"text", b"label", b",", b"\n", b"\r", b'"', b"a", b"b", b"\xff", b"\0", b"\xef\xbb\xbf", b"nan", b"\xe2\x80\xae", b"1"])
    | st.binary(max_size=3),
    max_size=30,
).map(b"".join)  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["user", "assistant"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "path", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
anything = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@anything
@given(content=st.booleans().flatmap(lambda headed: PIECES.map(lambda rest: b"text,label\n" * headed + rest)),
       encoding=st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-7", "cp1252", "shift_jis", "punycode", "undefined", "idna"]))  # fmt: skip
def test_no_csv_is_a_traceback(content: bytes, encoding: str, tmp_path: Path) -> None:
    tried(tmp_path, "train.csv", content, "SEQ_CLS", {"encoding": encoding})


@anything
@given(content=PIECES | JSON_VALUES.map(lambda value: json.dumps(value).encode()), good=st.booleans())
def test_no_json_line_is_a_traceback(content: bytes, good: bool, tmp_path: Path) -> None:
    tried(tmp_path, "train.jsonl", ROW.encode() * good + content, "SEQ_CLS", {})


TASKS = {"SEQ_CLS": ("text", "label"), "TOKEN_CLS": ("tokens", "tags"), "IMG_CLS": ("image", "label"), "CAUSAL_LM": ("messages",), "SEQ_2_SEQ_LM": ("text", "target")}  # fmt: skip


@anything
@given(st.sampled_from(sorted(TASKS)), st.lists(st.tuples(JSON_VALUES, JSON_VALUES), min_size=1, max_size=3))
def test_no_row_is_a_traceback(tmp_path: Path, task: str, cells: list[tuple[Any, Any]]) -> None:
    rows = [dict(zip(TASKS[task], row, strict=False)) for row in cells]
    content = lines(rows).replace("NaN", "null").replace("Infinity", "1e999").encode()
    tried(tmp_path, "train.jsonl", content, task, {"columns": {TASKS[task][0]: TASKS[task][0]}})


@anything
@given(st.integers(0, 700), st.binary(max_size=4))
def test_no_parquet_is_a_traceback(tmp_path: Path, at: int, change: bytes) -> None:
    file = tmp_path / "whole.parquet"
    if not file.exists():
        pandas.DataFrame(ODD).to_parquet(file)
    content = file.read_bytes()
    tried(tmp_path, "train.parquet", content[:at] + change + content[at + len(change) :], "SEQ_CLS", {})
