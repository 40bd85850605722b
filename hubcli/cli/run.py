"""run: predictions on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.text import clean
from hubcli.errors import UsageError


@command(
    examples="""hubcli run sentiment/bert-lora "a gripping film" "two hours I want back"
hubcli run sentiment/bert-lora --file reviews.txt --batch-size 64 --json
cat reviews.txt | hubcli run sentiment/bert-lora -
hubcli run "average(a/x, b/y, weights=[0.7, 0.3])" "a gripping film"
hubcli run slots/smollm2-prefix --chat --max-new-tokens 48 "i need a cheap hotel in the north"
"""
)
@click.argument("expr")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file", "file", type=click.Path(dir_okay=False, exists=True), help="Read texts from a file, one a line."
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Texts a forward pass.")
@click.option("--device", help="cpu, cuda, cuda:1, mps; default: where the model is.")
@click.option("--quantize", metavar="KIND", help="nf4 loads the base in 4 bit; needs the extra qlora.")
@click.option("--chat", is_flag=True, help="Each text is what a user says to a chat model.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="How much a model that writes text writes at most.")
@click.option(
    "--allow-base-mismatch", is_flag=True, help="Run although the base is not the one the adapter was made for."
)
def run(out: Output, expr: str, texts: tuple[str, ...], file: str | None, **options: Any) -> None:
    """Predict with an adapter or a composition.

    EXPR is a ref, or blocks of refs: stack(a/x, average(b/y, c/z, weights=[0.7, 0.3])). The newest installed version that fits
    is used; what is not installed is installed first. Texts come as arguments, from --file, or from stdin (one a line;
    an empty line is a text too, so that answers and lines stay side by side). A text that starts with - goes after --.
    """
    report = api.run(expr, list(_texts(texts, file)), warn=out.warn, note=out.note, **options)
    out.data(report, _lines(report["predictions"]))


def _texts(texts: tuple[str, ...], file: str | None) -> Iterator[str]:
    if file and texts:
        raise UsageError("give texts as arguments or by --file, not both")
    if texts and texts != ("-",):
        yield from texts
        return
    if not file and texts != ("-",) and sys.stdin.isatty():
        raise UsageError(
            "no text to run on", hint='give texts as arguments, by --file, or on stdin: echo "a text" | hubcli run …'
        )
    name = file or "stdin"
    data = Path(file).read_bytes() if file else sys.stdin.buffer.read()
    if not data.strip():
        raise UsageError(f"no text to run on: {name} is empty")
    for number, line in enumerate(data.splitlines(), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{name}, line {number}: not UTF-8 (byte {error.start + 1} is {line[error.start]:#04x})"
            ) from error
        yield text


def _lines(predictions: list[dict[str, Any]]) -> list[str]:
    """Label, score, text in columns; a text that was written as it is; what is said of words below their text."""
    if not all("label" in row for row in predictions):
        return [line for row in predictions for line in _answer(row)]
    width = max(len(clean(row["label"])) for row in predictions)
    return [f"{clean(row['label']):{width}}  {row['score']:.4f}  {clean(row['text'])}" for row in predictions]


def _answer(row: dict[str, Any]) -> list[str]:
    """What a pipeline answers to one text."""
    if isinstance(row.get("generated_text"), str):
        return [row["generated_text"]]
    found = row.get("answers")
    if isinstance(found, list) and all(isinstance(item, dict) and "entity" in item for item in found):
        width = max((len(clean(item["entity"])) for item in found), default=0)
        said = [f"  {clean(item['entity']):{width}}  {item['score']:.4f}  {clean(item['word'])}" for item in found]
        return [row["text"], *(said or ["  nothing found"])]
    return ["  ".join(f"{key}: {value}" for key, value in row.items())]
