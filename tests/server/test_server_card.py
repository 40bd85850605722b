"""Front matter and adapter configs as tags; whatever is written there, a repo can still be listed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import pytest

from hubcli.server.card import Card, check_front_matter, read_card
from hubcli.server.replies import text_line

LORA = '{"peft_type": "LORA", "base_model_name_or_path": "org/base", "task_type": "SEQ_CLS"}'


def card(readme: str = "", config: str = "") -> Card:
    files = {"README.md": readme.encode(), "adapter_config.json": config.encode()}
    return read_card(lambda path, limit: files[path][:limit] or None)


def front(text: str) -> str:
    return f"---\n{text}\n---\nthe rest\n"


@pytest.mark.parametrize(
    ("readme", "config", "tags"),
    [
        ("", "", set()),
        ("# no front matter", "", set()),
        (front("tags: [a, b]"), "", {"a", "b"}),
        (front("tags: a"), "", {"a"}),
        (front("license: mit\nlanguage: [en, de]\ndatasets: [d/x]"), "", {"license:mit", "en", "de", "dataset:d/x"}),
        (front("base_model: o/b"), "", {"base_model:o/b", "base_model:finetune:o/b"}),
        (front("base_model: o/b\nbase_model_relation: merge"), "", {"base_model:o/b", "base_model:merge:o/b"}),
        (front("library_name: peft\nbase_model: o/b"), "", {"peft", "base_model:o/b", "base_model:adapter:o/b"}),
        ("", LORA, {"peft", "base_model:org/base", "base_model:adapter:org/base"}),
        (front("base_model: o/b"), LORA, {"peft", "base_model:o/b", "base_model:adapter:o/b"}),
        ("", LORA.replace("org/base", "/home/me/base"), {"peft"}),
        ("\ufeff---\r\ntags: [x]\r\n---\r\n", "", {"x"}),
        (front("tags: [1, null, {a: b}, y]"), "", {"y"}),
    ],
)
def test_tags(readme: str, config: str, tags: set[str]) -> None:
    assert set(card(readme, config).tags) == tags


HOSTILE = {
    "aliases": "a: &a [x, x]\nb: [*a, *a]",
    "bomb": "\n".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9) if n else 'x'}]" for n in range(9)),
    "object": "a: !!python/object/apply:os.system [true]",
    "deep": "a: " + "[" * 5_000,
    "deep and closed": "a: " + "[" * 500 + "]" * 500,
    "not a mapping": "- a\n- b",
    "broken": "a: [",
    "tab": "a:\t- b: c: d",
    "bytes": "a: \x00",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_front_matter_counts_as_none(text: str) -> None:
    started = time.process_time()
    assert card(front(text)).data == {}
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "number",
    ["1:" * 100_000 + "1", "1:" * 100_000 + "1.5", "!!int '" + "1:" * 100_000 + "1'"],
    ids=["int", "float", "tag"],
)
def test_a_number_that_takes_long_to_read_is_a_text(number: str) -> None:
    started = time.process_time()
    assert card(front(f"tags: [x]\nlong: {number}")).tags == ("x",)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["!!timestamp x", "!!bool x", "!!int ''", "2001-13-45"])
def test_a_value_that_its_tag_does_not_fit(text: str) -> None:
    assert card(front(f"a: {text}")) == Card()


def test_values_that_json_has_not() -> None:
    data = card(
        front("day: 2024-01-02\nnan: .nan\ninf: -.inf\n1: one\nbig: 123456789012345678901234567890\nok: 1.5")
    ).data
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data == {
        "day": "2024-01-02",
        "nan": "nan",
        "inf": "-inf",
        "1": "one",
        "big": "1" + "23456789012345678901234567890",
        "ok": 1.5,
    }


@pytest.mark.parametrize("config", ["[]", "{", "[" * 100_000, '{"peft_type": 1}', '{"peft_type": ["LORA"]}', "\xff"])
def test_a_config_that_is_none(config: str) -> None:
    assert card("", config) == Card()


def test_a_card_is_read_to_a_limit() -> None:
    asked: Mapping[str, int] = {}

    def read(path: str, limit: int) -> bytes:
        asked[path] = limit  # type: ignore[index]
        return b"---\n" + b"a" * limit

    assert read_card(read) == Card()
    assert set(asked) == {"README.md", "adapter_config.json"} and max(asked.values()) <= 1 << 20


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("a\r\nSet-Cookie: x", r"a\r\nSet-Cookie: x"),
        ("\x1b[31m", r"\x1b[31m"),
        ("ü\u202e", r"\xfc\u202e"),
        ("x" * 5000, "x" * 1000),
    ],
)
def test_text_from_outside_is_one_line(text: str, line: str) -> None:
    assert text_line(text) == line


CHECKED = {
    "fine": (front("library_name: peft\nlicense: mit\ntags: [a]\nbase_model:"), 0, 0),
    "none": ("# hello", 0, 1),
    "no YAML": (front("a: ["), 1, 0),
    "an alias": (front("a: &x [1]\nb: *x"), 1, 0),
    "a list": (front("- a"), 1, 0),
    "tags of another kind": (front("tags: [1, {a: b}]\nlicense: {a: 1}"), 2, 0),
    "a library of another kind": (front("library_name: [peft]\npipeline_tag: 1"), 2, 0),
    "a language that YAML reads as no": (front("language: [no]"), 1, 0),
}


@pytest.mark.parametrize(("text", "errors", "warnings"), CHECKED.values(), ids=CHECKED)
def test_what_a_push_says_of_the_front_matter(text: str, errors: int, warnings: int) -> None:
    found = check_front_matter(text.encode())
    assert (len(found[0]), len(found[1])) == (errors, warnings), found
