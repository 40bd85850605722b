"""fuse: a composition folded into its base, as an ordinary transformers checkpoint."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.models import load_adapter, python_warning
from hubcli.api.reports import file_row
from hubcli.api.warned import noted, told
from hubcli.api.workspace import Warn
from hubcli.composition import Expr, text
from hubcli.errors import UsageError
from hubcli.out_folder import appearing, check_free
from hubcli.paths import expanded
from hubcli.progress import Steps

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

Json = dict[str, Any]

SIZE = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.IGNORECASE)


def fuse(
    expr: str | Path | Expr,
    out: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
    requantize: str | None = None,
    max_shard_size: str = "5GB",
    force: bool = False,
    allow_base_mismatch: bool = False,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    """Fold a composition into its base and write the folder of an ordinary transformers model (schemas/cli/fuse).

    Sums are made in float32 and rounded once; `rounding` in the report is by how much that moved a weight at most. The folder is
    loaded again, and every weight compared, before it appears.

    Args:
        expr: a ref, an adapter's folder, a block of refs, or the text form of one.
        out: the folder; it appears whole or not at all.
        dtype: of the base and of what is written, e.g. "bfloat16"; None takes what the base's weights are stored in.
        device: where the base is loaded and folded.
        quantize: "nf4" folds into the base's weights as that leaves them, which is what a QLoRA was trained on.
        requantize: "nf4" writes linear modules in 4 bit; None writes all weights in full precision.
        max_shard_size: of a weights file, e.g. "2GB".
        force: replace a folder that is not empty.
        allow_base_mismatch: fold also where the base is known to be another one.
        dry_run: fold and check, write nothing.

    Raises:
        UnsupportedError: what is no weight (bottlenecks, prefixes, cuts, learned mixes, added heads), by name; or a weight that
            this kind of model has no place for.
        WeightsError: NaN or infinity. UsageError: a folder that is not free. HubcliError: as `load_adapter`.
    """
    if not SIZE.fullmatch(max_shard_size.strip()):
        raise UsageError(f"max_shard_size: expected a number and KB, MB or GB, e.g. 2GB, found {max_shard_size!r:.40}")
    folder = expanded(out)
    check_free(folder, replace=force)
    for kind in (quantize, requantize):
        if kind is not None:
            from hubcli.quantised import check

            check(kind)
    adapted = _loaded(
        expr, warn or python_warning, note, dtype=dtype, device=device, quantize=quantize, offline=offline, token=token,
        allow_base_mismatch=allow_base_mismatch,
    )  # fmt: skip
    from hubcli.fused_checkpoint import write

    files: list[Json] = []
    if dry_run:
        made = write(adapted, None)
    else:
        with appearing(folder, replace=force) as place, contextlib.closing(Steps("fusing")) as tick:
            made = write(adapted, place, max_shard_size=max_shard_size, requantize=requantize, tick=tick)
            files = [file_row(file) for file in sorted(place.iterdir())]
    return {
        "path": str(folder),
        "written": not dry_run,
        "expression": text(adapted.active),  # type: ignore[arg-type]
        "base": adapted.base.id if adapted.base is not None else None,
        "architecture": made.architecture,
        "dtype": made.dtype,
        "modules": list(made.modules),
        "heads": list(made.heads),
        "labels": list(made.labels),
        "rounding": made.rounding,
        "quantization": None if requantize is None else {"method": requantize, "error": made.error},
        "files": files,
    }


def _loaded(expr: str | Path | Expr, warn: Warn, note: Callable[[str], None] | None, **options: Any) -> Adapted:
    """The handle, with what Python was warned of, and what adapters note of themselves, said to who wants to hear it."""
    with told(warn):
        adapted = load_adapter(expr, **options)
    if note is not None:
        noted(adapted, note)
    return adapted
