"""Front matter that a stranger wrote: read like PyYAML's safe loader reads it, and fast whatever stands in it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from hubcli import plain_yaml
from hubcli.publishing import own_card

LENGTH = 200_000
SLOW = {
    "base 60": "a: " + "1:" * (LENGTH // 2) + "1",
    "base 60, a fraction": "a: " + "1:" * (LENGTH // 2) + "1.5",
    "base 60, by its tag": "a: !!int '" + "1:" * (LENGTH // 2) + "1'",
    "many values": "a: [" + "[]," * (LENGTH // 3) + "]",
    "a depth": "a: " + "[" * (LENGTH // 2) + "]" * (LENGTH // 2),
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_what_would_take_long_does_not(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ValueError):
        plain_yaml.load(text)
    own_card.read(f"---\n{text}\n---\n".encode())
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a: &x [1]\nb: *x",
            "a: [",
            "a: \x00",
            "a: !!python/object/apply:os.system [true]",
            "a: " + "[" * 30 + "]" * 30,
        ),
        *("a: !!timestamp x", "a: !!bool x", "a: !!int ''", "a: !!float x", "a: 2001-13-45", "{[a]: 1}", "a: \ud800"),
        *("--- 1\n--- 2", b"\xff\xfe\xff"),
    ],
    ids=ascii,
)
def test_what_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        plain_yaml.load(text)


@pytest.mark.parametrize(
    "text",
    ["", "a: 1.5\nb: [1, 0x1f, 1_000, -7, 0o7, 017, 190:20:30]", "d: 2024-01-02\nt: 2024-01-02 03:04:05", "n: no\nx: ~\ns: '1'\nf: [1e3, 1.0e+3, .inf]",
     "- a\n- {b: c}", "a: >\n  x\n  y\nb: !!set {a, b}", "big: 999999999999999999"],
    ids=ascii,
)  # fmt: skip
def test_what_is_read_is_what_pyyaml_reads(text: str) -> None:
    assert plain_yaml.load(text) == yaml.safe_load(text)


def test_a_number_of_more_digits_than_any_is_a_text() -> None:
    found: dict[str, Any] = plain_yaml.load(f"a: {'1' * 19}\nb: 1:{'1' * 20}.5\nc: {'1' * 99}.5")
    assert found == {"a": "1" * 19, "b": "1:" + "1" * 20 + ".5", "c": "1" * 99 + ".5"}
