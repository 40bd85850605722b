"""Files that torch would unpickle, each made to do harm: run something, take all memory, never end."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

BOMB = 800 << 20  # bytes that a small archive unpacks to: more than the child's process may use


class Calls:
    """Unpickling this calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def plain(content: Any) -> bytes:
    """As old versions of torch wrote files: pickles one after another."""
    return pickle.dumps(content, 2, fix_imports=False)


def archive(content: bytes, records: dict[str, bytes] | None = None) -> bytes:
    """As torch writes files now: a zip of a pickle and the numbers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        made.writestr("archive/data.pkl", content)
        made.writestr("archive/version", "3\n")
        for name, data in (records or {}).items():
            made.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def bomb() -> bytes:
    """A tensor whose numbers, all zero, are packed a thousandfold."""
    honest = saved({"a": torch.zeros(4, dtype=torch.uint8)})
    with zipfile.ZipFile(io.BytesIO(honest)) as opened:
        name = next(name for name in opened.namelist() if name.endswith("data.pkl"))
        content = opened.read(name)
    huge = content.replace(b"K\x04", b"J" + BOMB.to_bytes(4, "little"))  # the storage's size and the shape
    return archive(huge, {"data/0": bytes(BOMB)})


def nested(depth: int = 200_000) -> bytes:
    """Lists in lists in lists."""
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


@cache
def payload(name: str) -> bytes:
    """One of `NAMES`."""
    touch = ["touch", "canary"]
    made: dict[str, Callable[[], bytes]] = {
        "os.system": lambda: plain(Calls(os.system, "touch canary")),
        "os.system in an archive": lambda: archive(plain(Calls(os.system, "touch canary"))),
        "subprocess": lambda: archive(plain({"a": Calls(subprocess.Popen, touch)})),
        "exec": lambda: archive(plain({"a": Calls(builtins.exec, "open('canary', 'w').close()")})),
        "behind a tensor": lambda: saved({"a": torch.zeros(2), "b": Calls(os.system, "touch canary")}),
        "huge allocation": lambda: saved({"a": torch.zeros(1).expand(1 << 40)}),
        "zip bomb": bomb,
        "deep recursion": lambda: archive(nested()),
        "no tensor": lambda: saved({"a": 1}),
        "no dictionary": lambda: saved([torch.zeros(2)]),
        "truncated": lambda: saved({"a": torch.zeros(2)})[:-40],
        "text": lambda: b"#!/bin/sh\ntouch canary\n",
    }
    return made[name]()


# payload -> what the error says of it
NAMES = {
    "os.system": "posix.system",
    "os.system in an archive": "posix.system",
    "subprocess": "subprocess.Popen",
    "exec": "exec",
    "behind a tensor": "posix.system",
    "huge allocation": "more memory",
    "zip bomb": "more memory",
    "deep recursion": "found a list",
    "no tensor": "found a int",
    "no dictionary": "found a list",
    "truncated": "zip archive",
    "text": "no pickle of tensors",
}
