"""Bounded patterns against Python's own engine, target rules against peft's."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from hubcli.errors import ConfigKeyError
from hubcli.patterns import compile_pattern
from hubcli.targets import Targets, pattern_value

SEEN = [
    r".*\.(q_proj|v_proj)",
    r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:k_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.self_attn\.q_proj)",
    r"^(?!.*visual).*(?:q_proj)$",
    r"^(language_model|model.language_model)(?=\.).*\.(k_proj|q_proj)$",
    r"[^a-c]+x|\w+\.\d+\.\D*|(a|ab)(c|bcd)*|(a?){3}b|\S+\s?|\bfoo\B.*",
]
NAMES = [
    *(
        "model.layers.0.self_attn.q_proj",
        "visual.blocks.1.q_proj",
        "language_model.layers.3.k_proj",
        "model.text.mlp.k_proj.z",
    ),
    *("model.language_model.x.q_proj", "", "aab", "dx", "abcbcd", "a.12.bc", "fooo.bar", "dd\nx"),
]


@pytest.mark.parametrize("pattern", SEEN)
def test_patterns_of_published_adapters(pattern: str) -> None:
    for name in NAMES:
        assert compile_pattern(pattern)(name) is bool(re.fullmatch(pattern, name)), name


pieces = st.sampled_from([*"ab.()*+?|^$", "[ab]", "[^a]", "{2}", "{1,3}", r"\b", r"\w", "(?=", "(?!", "(?:", "*?"])


@settings(max_examples=400)
@given(st.lists(pieces, max_size=9).map("".join), st.text("ab.", max_size=6))
def test_agrees_with_re(pattern: str, name: str) -> None:
    try:
        expected = re.compile(pattern)
        found = compile_pattern(pattern)
    except (re.error, ConfigKeyError):
        return
    assert found(name) is bool(expected.fullmatch(name))


@pytest.mark.parametrize(
    "pattern", [r"(a+)+b", r"(a|a)*b", r"(.*a){40}b", ".*" * 400 + "b", r"((a*)*)*b", "(a?){999999}b"]
)
def test_hostile_patterns_take_no_time(pattern: str) -> None:
    started = time.process_time()
    assert not compile_pattern(pattern)("a" * 100)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "pattern", ["(", "a" * 1001, r"(a)\1", "(?<=a)b", "(?i)a", "(((((a*)*)*)*)*)", "a++", "(" * 500 + ")" * 500 + "("]
)
def test_what_cannot_be_bounded_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigKeyError, match="target_modules"):
        compile_pattern(pattern)


CONFIGS: list[dict[str, Any]] = [
    {"target_modules": ["query", "value"]},
    {"target_modules": r".*\.(query|value)"},
    {"target_modules": ["query"], "exclude_modules": ["layer.0.attention.self.query"]},
    {"target_modules": ["query"], "exclude_modules": r".*layer\.0\..*"},
    {"target_modules": ["query"], "layers_to_transform": [1]},
    {"target_modules": ["query"], "layers_to_transform": [1], "layers_pattern": ["layer"]},
    {"target_modules": ["c_attn"], "layers_to_transform": [0]},
    {"target_modules": ["c_attn"], "layers_to_transform": [0], "layers_pattern": ["h"]},
    {"target_modules": ["dense"], "modules_to_save": ["classifier"]},
    {"target_modules": ["classifier.dense", "gate"]},
]
MODULES = [
    *(f"bert.encoder.layer.{i}.attention.self.{m}" for i in range(3) for m in ("query", "key", "value")),
    *("h.0.attn.c_attn", "transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn", "classifier.dense"),
    *("a.layers.1.experts.0.gate", "notquery", "query", "pre_classifier", "x.classifier"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_targets_are_pefts(config: dict[str, Any]) -> None:
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    targets = Targets(
        as_tuples["target_modules"],
        as_tuples.get("exclude_modules", ()),
        as_tuples.get("layers_to_transform"),
        as_tuples.get("layers_pattern", ()),
        as_tuples.get("modules_to_save", ()),
    )
    targets.validate()
    theirs = SimpleNamespace(
        **{
            "exclude_modules": None,
            "modules_to_save": None,
            "layers_to_transform": None,
            "layers_pattern": None,
            **config,
        }
    )
    for name in MODULES:
        found = check_target_module_exists(theirs, name)
        assert targets.match(name) is (bool(found) and "Excluded" not in type(found).__name__), name


def test_pattern_values_are_pefts() -> None:
    patterns = {"layer.1.query": 1, r"layer\.\d+\.value": 2, "^key": 3, "query": 4}
    for name in ["bert.layer.1.query", "layer.1.query", "bert.layer.7.value", "key", "x.key", "x.query", "xquery"]:
        expected = patterns.get(get_pattern_key(list(patterns), name), 0)
        assert pattern_value(tuple(patterns.items()), name, 0) == expected, name
