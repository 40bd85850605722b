"""Run the command line in this process; every JSON answer is checked against its schema."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from hubcli.paths import bundled

GROUPS = ("index", "hub", "plugins", "cache")


@dataclass
class Answer:
    code: int
    out: str
    err: str
    document: Any = None


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((bundled("schemas") / "cli" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def hubcli(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> Answer:
    """One command line, in process. With --json the answer's document has passed its schema."""
    from hubcli.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    old = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd or Path.cwd()):
            code = run(list(arguments))
    finally:
        sys.stdin = old
    answer = Answer(code, out.getvalue(), err.getvalue())
    assert "Traceback" not in answer.err, answer.err
    if "--json" in arguments:
        answer.document = check(arguments, answer.out)
    return answer


def check(arguments: tuple[str, ...], text: str) -> Any:
    """The JSON of one answer, validated by the schema of its command."""
    words = [a for a in arguments if not a.startswith("-")]
    name = "-".join(words[:2]) if words and words[0] in GROUPS else words[0]
    document = json.loads(text)
    validator("error" if set(document) == {"error"} else name).validate(document)
    return document
