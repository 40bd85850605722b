"""Refs: a table of what is read and what is refused."""

from __future__ import annotations

import pytest

from hubcli.errors import RefError
from hubcli.refs import parse_ref

READ = {
    "sentiment/bert-lora": ("index", "sentiment/bert-lora", "", None),
    "sentiment/bert-lora@^1.2": ("index", "sentiment/bert-lora", "^1.2", None),
    "main:a/b@1.2.3": ("index", "a/b", "1.2.3", "main"),
    "hf:Org/Repo_1": ("hf", "Org/Repo_1", "", None),
    "hf:org/repo@refs/pr/1": ("hf", "org/repo", "refs/pr/1", None),
    "./folder@x": ("folder", "./folder@x", "", None),
    "/abs/path": ("folder", "/abs/path", "", None),
    "folder:x": ("folder", "folder:x", "", None),
}
REFUSED = [
    "", " ", "bert-lora", "a/b/c", "A/b", "a/b@", "a//b", "/".join(["a" * 65, "b"]), "a/b\n", "a/b c", "MAIN:a/b",
    "hf:", "hf:../x", "hf:a/b@../x", "hf:a/b@", "hf:a--b/c", "аcme/legal", "ａ/b", "a/b\u202e", "a/\u200bb",
]  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_reads(text: str) -> None:
    ref = parse_ref(text)
    assert (ref.kind, ref.name, ref.spec, ref.index) == READ[text]
    assert str(ref) == text


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text: str) -> None:
    with pytest.raises(RefError) as caught:
        parse_ref(text)
    assert caught.value.message.isascii(), "a message shows foreign characters escaped"
    assert "expected" in (caught.value.hint or "")
