"""What is told about data that can't be used: each fault with its file and row, and never a traceback."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubcli.errors import DiskError, HubcliError, MissingExtraError, NotFoundError, UsageError
from hubcli.training.examples import load
from tests.training.written import GOOD, ODD, ROW, lines, recipe, write

# --- what can't be used

BAD: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty file": (b"", {}, r"train.csv: expected a header and rows, found an empty file"),
    "header only": ("text,label\n", {}, r"train.csv: expected rows, found none"),
    "missing column": ("Text,labels,x\na,b,c\n", {}, r'expected columns "text", "label", found "Text", "labels", "x"'),
    "column twice": ("text,label,text\na,b,c\n", {}, r'expected one column of a name, found "text" more than once'),
    "one class": ("text,label\na,x\nb,x\n", {}, r'expected at least two classes, found only "x"'),
    "unknown label": (GOOD + "so,neutral\n", {"labels": ["pos", "neg"]}, r'labels "pos", "neg": train.csv:6 \(found "neutral"\)'),
    "empty text": ("text,label\n,a\n  ,b\nx,b\n", {}, r'expected text in "text": train.csv:2 \(found empty\), train.csv:3'),
    "nan text": ("text,label\nNaN,a\nx,b\n", {}, r'expected text in .text.: train.csv:2 \(found "NaN"\)'),
    "empty label": ("text,label\nx,\ny,b\n", {}, r'expected a label in "label": train.csv:2 \(found empty\)'),
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


BAD_LINES: dict[str, tuple[str, str]] = {
    "not json": (ROW + "{'text': 1}\n", r"expected JSON: train.jsonl:2 \(Expecting property name"),
    "all of them": (ROW + "x\n" * 22, r"train.jsonl:6 \([^)]*\) and 17 more$"),
    "key twice": ('{"text": "a", "label": 1, "label": 2}\n', r'expected JSON: train.jsonl:1 \(key "label" twice\)'),
    "no object": (ROW + "[1]\n", r"expected a JSON object a line: train.jsonl:2 \(found \[1\]\)"),
    "nan": ('{"text": "a", "label": NaN}\n', r"train.jsonl:1 \(NaN is no number\)"),
    "infinity": ('{"text": "a", "label": 1, "x": -Infinity}\n', r"train.jsonl:1 \(-Infinity is no number\)"),
    "overflow": ('{"text": "a", "label": 1e999}\n', r'expected a label in "label": train.jsonl:1'),
    "digits": ('{"text": "a", "label": ' + "1" * 5000 + "}\n", r"expected JSON: train.jsonl:1 \(Exceeds the limit"),
    "deep": ("[" * 100_000 + "\n", r"expected JSON: train.jsonl:1 \(nested too deep\)"),
    "no text": ('{"label": 1}\n' + ROW, r'expected text in "text": train.jsonl:1 \(found nothing\)'),
    "null text": ('{"text": null, "label": 1}\n' + ROW, r'expected text in "text": train.jsonl:1 \(found nothing\)'),
    "number for text": ('{"text": 5, "label": 1}\n' + ROW, r'expected text in "text": train.jsonl:1 \(found 5\)'),
    "half a pair": (r'{"text": "\ud800", "label": 1}' + "\n" + ROW, r"found half of a surrogate pair"),
    "list for label": ('{"text": "a", "label": [1]}\n' + ROW, r'expected a label in "label": train.jsonl:1 \(found a list\)'),
    "two kinds": ('{"text": "", "label": null}\n', r'expected text in "text": .*; expected a label in "label": .*'),
    "no column": ('{"Text": "a", "label": 1}\n', r'train.jsonl: expected column "text", found "Text", "label"'),
    "empty": ("\n \n", r"train.jsonl: expected rows, found none"),
    "long": (json.dumps({"text": "x" * (1 << 20 | 1), "label": 1}), r"1048577 characters, more than 1 MiB"),
    "control": (r'{"text": "a", "label": "\u001b[2J\u0000\u202e"}' + "\n" + ROW, r'expected a label in "label": train.jsonl:1'),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_json_lines(case: str, tmp_path: Path) -> None:
    content, expected = BAD_LINES[case]
    write(tmp_path, "train.jsonl", content)
    with pytest.raises(UsageError, match=expected) as found:
        load(recipe(tmp_path, train="train.jsonl"))
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
    "target": ("SEQ_2_SEQ_LM", {"text": "a", "target": ""}, r'expected text in "target": train.jsonl:1 \(found empty\)'),
    "no image": ("IMG_CLS", {"image": "no.png", "label": 1}, r'no file "no.png"'),
    "folder": ("IMG_CLS", {"image": ".", "label": 1}, r'no file "."'),
    "nul": ("IMG_CLS", {"image": "a\0b", "label": 1}, r'(no file|no path) "a\\u0000b"'),
    "long path": ("IMG_CLS", {"image": "x" * 5000, "label": 1}, r"(no file|no path) \"x+\.\.\."),
    "jagged": ("IMG_CLS", {"image": [[1, 2], [3]], "label": 1}, r"H x W"),
    "flat": ("IMG_CLS", {"image": [1, 2], "label": 1}, r"H x W"),
    "deep": ("IMG_CLS", {"image": [[[[1]]]], "label": 1}, r"H x W"),
    "text in it": ("IMG_CLS", {"image": [["a"]], "label": 1}, r"H x W"),
    "null image": ("IMG_CLS", {"image": None, "label": 1}, r'expected an image in "image": train.jsonl:1 \(found nothing\)'),
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


def test_a_column_of_numbers_is_none_of_labels(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "text,label\n" + "".join(f"row {i},{i}.5\n" for i in range(10_001)))
    with pytest.raises(UsageError, match="expected at most 10000 labels, found 10001"):
        load(recipe(tmp_path))
    with pytest.raises(UsageError, match=r'train.csv:6 \(found "4.5"\) and 9996 more$'):
        load(recipe(tmp_path, train="train.csv", labels=["a", "b"]))


def test_a_fault_names_the_column_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "review,label\n,a\n")
    with pytest.raises(UsageError, match=r'expected text in "review": train\.csv:2'):
        load(recipe(tmp_path, train="train.csv", columns={"text": "review"}))


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
