"""Entries of compositions and fusions: what is refused, by which id, and what a tree of them expands to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubcli import compositions
from hubcli.api import index_check
from hubcli.composition import Average, Fuse, Stack, parse
from hubcli.compositions import expand, gather, names
from hubcli.errors import HubcliError
from hubcli.index.entries import check_entry
from hubcli.manifest import Release, Resolved
from tests.registry.entrydocs import entry
from tests.support.adapters import IndexFolder
from tests.support.composed import compose, composed


def faults(expression: Any, requires: dict[str, Any]) -> list[tuple[str, str]]:
    document = entry("acme/mix", composed(expression, requires), kind="composition")
    found = check_entry(json.dumps(document).encode(), name="acme/mix", where="acme/mix.json")
    return [(fault.id, fault.field.removeprefix("releases[0].")) for fault in found.faults]


NAME, EXPRESSION, REQUIRES = "E_NAME_CHARSET", "expression", "requires"


@pytest.mark.parametrize(
    ("expression", "requires", "expected"),
    [
        ("average(a/x, b/y)", {"a/x": "^1", "b/y": ""}, []),
        ("Fuse(a/x, b/y, by=a/f)", {"a/x": "^1", "b/y": "^1", "a/f": "^1"}, []),
        ("a/x", {"a/x": "1.0.0"}, []),
        ("stack(none, a/x)", {"a/x": "*"}, []),
        ("stack(a/x, b/y)", {"a/x": "^1"}, [("E_REQUIRES", REQUIRES)]),
        ("fuse(a/x, by=a/f)", {"a/x": "^1"}, [("E_REQUIRES", REQUIRES)]),
        ("stack(a/x)", {"a/x": "^1", "b/y": "^1"}, [("E_REQUIRES", REQUIRES)]),
        ("stack(a/x", {"a/x": "^1"}, [("E_SCHEMA", EXPRESSION)]),
        ("stak(a/x)", {"a/x": "^1"}, [("E_SCHEMA", EXPRESSION)]),
        ("average(a/x, weights=[nan])", {"a/x": "^1"}, [("E_SCHEMA", EXPRESSION)]),
        ("stack(" * 17 + "a/x" + ")" * 17, {"a/x": "^1"}, [("E_SCHEMA", EXPRESSION)]),
        ("stack(" + "a/x, " * 1000 + "a/x)", {"a/x": "^1"}, [("E_SCHEMA", EXPRESSION)]),
        ("stack(a/x@^1)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("stack(hf:org/repo)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("stack(folder:/etc)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("stack(../../etc)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("stack(/etc/passwd)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("stack(acme:a/x)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("fuse(a/x, by=./f)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ("stack(\u0430/x)", {"a/x": "^1"}, [(NAME, EXPRESSION)]),
        ('stack("a/x\u202e")', {"a/x": "^1"}, [("E_JSON_TEXT", "")]),
        ("stack(a/x,\n b/y)", {"a/x": "^1", "b/y": "^1"}, [("E_SCHEMA", EXPRESSION)]),
        ("stack(acme/mix)", {"acme/mix": "^1"}, [("E_CYCLE", "requires.acme/mix")]),
        ("stack(a/x)", {"a/x": "newest"}, [("E_VERSION", "requires.a/x")]),
        ("stack(a/x)", {"a/x": "^1; rm"}, [("E_VERSION", "requires.a/x")]),
        ("stack(a/x)", {"a/x": 1}, [("E_SCHEMA", "requires.a/x")]),
        ("stack(a/x)", {"hf:org/repo": "^1"}, [(NAME, "requires.hf:org/repo")]),
    ],
)  # fmt: skip
def test_what_an_entry_may_say(expression: str, requires: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(expression, requires) == expected


def test_a_check_of_a_folder_finds_rings(tmp_path: Path) -> None:
    index = IndexFolder(tmp_path)
    for name, required in {"acme/a": "acme/b", "acme/b": "acme/c", "acme/c": "acme/a", "acme/d": "acme/a"}.items():
        compose(index, name, composed(f"stack({required})", {required: "^1"}))
    found = [(f["file"], f["id"]) for f in index_check(tmp_path)["faults"] if f["id"] == "E_CYCLE"]
    assert found == [("acme/a.json", "E_CYCLE"), ("acme/b.json", "E_CYCLE"), ("acme/c.json", "E_CYCLE")]


def resolved(name: str, expression: str | None = None, version: str = "1.0.0", **requires: str) -> Resolved:
    needed = requires or dict.fromkeys(names(parse(expression)) if expression else (), "^1")
    release = Release(
        version, "none", "", expression=expression, requires={k.replace("__", "/"): v for k, v in needed.items()}
    )
    return Resolved(name, version, name, release, "acme", "composition" if expression else "adapter")


def test_expressions_unfold_with_exact_versions() -> None:
    parts = {
        r.name: r for r in [resolved("a/x"), resolved("a/f"), resolved("a/in", "average(a/x, none, weights=[2, -1])")]
    }
    outer = resolved("a/out", "fuse(a/in, a/x, stack(a/in), by=a/f)")
    inner = Average("a/x@1.0.0", None, weights=[2, -1])
    assert expand(outer, parts.__getitem__) == Fuse(inner, "a/x@1.0.0", Stack(inner), by="a/f@1.0.0")
    assert parse(str(expand(outer, parts.__getitem__))) == expand(outer, parts.__getitem__)


def test_a_bomb_of_compositions_is_refused_before_it_unfolds() -> None:
    """Twelve levels of twenty would be 4e15 leaves."""
    level = {"a/n0": resolved("a/n0")}
    for n in range(1, 13):
        level[f"a/n{n}"] = resolved(f"a/n{n}", f"stack({', '.join([f'a/n{n - 1}'] * 20)})")
    with pytest.raises(HubcliError, match=r"expands to \d+ leaves; at most 4096") as caught:
        expand(level["a/n12"], level.__getitem__)
    assert caught.value.id == "E_EXPRESSION"


@pytest.mark.parametrize(
    ("count", "id", "says"), [(20, "E_REQUIRES", "more than 16 deep"), (16, None, "")], ids=["deep", "allowed"]
)
def test_depth_is_bounded(count: int, id: str | None, says: str) -> None:
    chain = {f"a/n{n}": resolved(f"a/n{n}", f"stack(a/n{n + 1})") for n in range(count)} | {
        f"a/n{count}": resolved(f"a/n{count}")
    }
    wants = {"a/n0": compositions.Need("", "you")}
    if id is None:
        assert [*gather(wants, lambda name, _: chain[name])] == [*reversed(chain)]
        return
    with pytest.raises(HubcliError, match=says) as caught:
        gather(wants, lambda name, _: chain[name])
    assert caught.value.id == id


def test_many_parts_are_bounded() -> None:
    tree = {"a/top": resolved("a/top", f"stack({', '.join(f'a/m{n}' for n in range(10))})")}
    tree |= {f"a/m{n}": resolved(f"a/m{n}", f"stack({', '.join(f'a/p{n}-{k}' for k in range(60))})") for n in range(10)}
    with pytest.raises(HubcliError, match="requires more than 256 others"):
        gather({"a/top": compositions.Need("", "you")}, lambda name, _: tree.get(name) or resolved(name))
