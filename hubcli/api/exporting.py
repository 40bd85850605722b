"""export: an adapter or a composition as one file for another runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.api.models import load_adapter, opened, python_warning
from hubcli.api.warned import told
from hubcli.api.workspace import Warn, Workspace
from hubcli.composition import Block, Expr
from hubcli.compositions import renamed
from hubcli.errors import UsageError
from hubcli.paths import expanded

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.exports import Wish

Json = dict[str, Any]


def export(
    expr: str | Path | Expr | Adapted,
    *,
    to: str,
    out: str | Path,
    dtype: str | None = None,
    opset: int | None = None,
    head: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    allow_base_mismatch: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    """Write an adapter or a composition as one file for another runtime (schemas/cli/export).

    Args:
        expr: a ref, an adapter's folder, a block of refs, the text form of one; or a handle, of which is written what is
            active.
        to: `pt2` (the model, for torch.export.load), `onnx` (the same for encoders like BERT), `gguf` (LoRAs alone, as one,
            for llama.cpp).
        out: the file; it appears whole or not at all.
        dtype: of the base in `pt2` and `onnx`, e.g. "bfloat16"; None takes what its weights are stored in, float32 for onnx
            (a handle's own stays as it is). Of the tensors in `gguf`: float32 (None), float16 or bfloat16.
        opset: of ONNX's operators; None takes one that current runtimes know.
        head: the child of a `Fuse` whose head answers, as the expression names it.
        force: replace a file that is there.
        dry_run: do everything, checks included, but leave no file.

    Raises:
        UsageError: an unknown format; a file that is there. NotFoundError: no such folder.
        UnsupportedError: what can't be written so, by name. MissingExtraError: a package is missing.
        AdapterError: the file, read back, does not do what the model does. DiskError: it can't be written.
        HubcliError: as `load_adapter`.
    """
    from hubcli import exports

    wish = exports.Wish(to, expanded(out), dtype, opset, force, dry_run, note or (lambda text: None))
    exports.check(wish)
    if head is not None and (not wish.traced or not _is_expression(expr)):
        raise UsageError("head= is for an expression in pt2 or onnx", hint="head=None")
    if not _is_expression(expr) and (allow_base_mismatch or offline is not None or token is not None):
        raise UsageError("allow_base_mismatch=, offline= and token= are for an expression: a handle is loaded already")
    options: dict[str, Any] = {"head": head, "allow_base_mismatch": allow_base_mismatch}
    with told(warn or python_warning):
        handle = _handle(expr, wish, **options, offline=offline, token=token) if _is_expression(expr) else expr
    return exports.export(handle, wish)  # type: ignore[arg-type]


def _handle(expr: Any, wish: Wish, *, head: str | None, allow_base_mismatch: bool, **network: Any) -> Adapted:
    """The expression on its base, active; where only adapters are written, on a base without weights."""
    if wish.traced:
        return load_adapter(expr, dtype=wish.base_dtype, head=head, allow_base_mismatch=allow_base_mismatch, **network)
    workspace = Workspace(warn=python_warning, **network)
    adapted, called, refs, _ = opened(expr, workspace, weights=False, allow_base_mismatch=allow_base_mismatch)
    adapted.activate(renamed(refs, lambda ref: called[ref]))
    return adapted


def _is_expression(given: object) -> bool:
    return given is None or isinstance(given, str | Path | Block)
