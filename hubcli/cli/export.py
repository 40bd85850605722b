"""export: an adapter or a composition as a file for another runtime."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.text import clean
from hubcli.sizes import size


@command(
    writes=True,
    examples="""hubcli export sentiment/bert-lora --to onnx --out sentiment.onnx
hubcli export "average(a/x, b/y, weights=[0.7, 0.3])" --to pt2 --out mix.pt2
hubcli export acme/llama-lora --to gguf --out lora.gguf --dtype float16
""",
)
@click.argument("expr")
@click.option("--to", required=True, metavar="FORMAT", help="pt2, onnx or gguf.")
@click.option("--out", "target", required=True, type=click.Path(), metavar="FILE", help="The file to write.")
@click.option("--dtype", help="Of the base; in gguf of the tensors: float32, float16, bfloat16.")
@click.option("--opset", type=click.IntRange(1), help="Of ONNX's operators.")
@click.option("--head", metavar="NAME", help="Whose head answers under a Fuse.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--allow-base-mismatch", is_flag=True, help="Export although the base is not the one the adapter was made for."
)
def export(out: Output, expr: str, target: str, **options: Any) -> None:
    """Write an adapter or a composition as one file for another runtime.

    pt2 holds the model under any composition: torch.export.load(FILE).module() runs it, without hubcli. onnx holds the same of
    encoders like BERT, for onnxruntime (extra onnx). gguf holds LoRAs alone, as one, for llama.cpp (extra gguf). Batch and
    length may vary but where a BatchSplit or Split fixes them. The file is read back and compared with the model before it
    appears. EXPR is as in 'hubcli run'.
    """
    report = api.export(expr, out=target, warn=out.warn, note=out.note, **options)
    out.data(report, _lines(report))


def _lines(report: dict[str, Any]) -> list[str]:
    verb = "wrote" if report["written"] else "would write"
    lines = [f"{verb} {clean(report['path'])} ({report['format']}, {size(report['size'])})"]
    for kind in ("inputs", "outputs"):
        for value in report[kind]:
            labels = f"  {', '.join(map(clean, value['labels']))}" if value.get("labels") else ""
            lines.append(f"{kind[:-1]:7} {clean(value['name'])}  {value['dtype']} {_shape(value['axes'])}{labels}")
    lines.append(f"at most {report['difference']:.2g} from the model")
    return lines


def _shape(axes: list[str | int]) -> str:
    return f"[{', '.join(map(str, axes))}]"
