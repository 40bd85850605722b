"""Rules that a composition must meet on one model, checked before anything is planned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hubcli.composition import BatchSplit, Block, Expr, Parallel, Split, Stack, contains
from hubcli.errors import ExpressionError, UnsupportedError
from hubcli.families import Structure
from hubcli.layouts import relative_positions
from hubcli.plan import Program
from hubcli.route import Rows


def normalised(expr: Expr, rows: Sequence[Expr] | None) -> tuple[Expr, Rows | None]:
    """(expression, rows) as a program's key.

    Raises:
        ExpressionError: both are given, rows is empty, or something is no expression.
    """
    if rows is not None and expr is not None:
        raise ExpressionError("give an expression or rows=, not both")
    given = None if rows is None else tuple(rows)
    if given == ():
        raise ExpressionError("rows= needs one expression a batch row, found none")
    for one in (expr, *(given or ())):
        if not (one is None or isinstance(one, str | Block)) or one == "":
            raise ExpressionError(f"expected a block, a name or None, found {one!r}")
    return expr, given


def check_expression(program: Program, structure: Structure) -> None:
    """Refuse what can't be right on this model; sets `copies`.

    Raises:
        UnsupportedError: Parallel anywhere but at the root or under root Stacks, twice, or in rows; Split in an
            encoder-decoder.
    """
    for expr in program.exprs:
        if contains(expr, Split) and getattr(getattr(structure.model, "config", None), "is_encoder_decoder", False):
            raise UnsupportedError("Split: an encoder-decoder has several sequences, there is no single one to cut")
        copies = _copies(expr)
        if copies > 1 and program.rows is not None:
            raise UnsupportedError("Parallel can't stand in rows=: a row has one answer")
        program.copies = copies


def check_cuts(program: Program, paths: Iterable[str], structure: Structure) -> None:
    """Refuse to cut rows or positions where a module's values have none; `paths` are the modules where something is added.

    Raises:
        UnsupportedError: names the module.
    """
    if program.rows is None and not contains(program.expr, Split, BatchSplit, Parallel):
        return
    path = next((path for path in paths if path in relative_positions(structure)), None)
    if path is not None:
        raise UnsupportedError(
            f"{path} is adapted, and relative positions pass through it, which have no rows and no positions of the "
            f"sequence to cut: {program}",
            hint="leave the module out of the adapter's targets",
        )


def _copies(expr: Expr) -> int:
    if isinstance(expr, Parallel):
        if any(contains(child, Parallel) for child in expr.children):
            raise UnsupportedError(f"Parallel inside Parallel is not supported: {expr}")
        return len(expr.children)
    if isinstance(expr, Stack):
        wide = [child for child in expr.children if contains(child, Parallel)]
        if len(wide) > 1:
            raise UnsupportedError(f"two Parallel blocks in one Stack are not supported: {expr}")
        return _copies(wide[0]) if wide else 1
    if contains(expr, Parallel):
        raise UnsupportedError(f"Parallel must stand at the root or under root Stacks: {expr}")
    return 1
