"""eval: the figures of an adapter or a composition on data, and where they are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli import measured
from hubcli import recipe as recipes
from hubcli._version import __version__
from hubcli.api import eval_data
from hubcli.api.eval_data import Wish
from hubcli.api.models import opened, python_warning
from hubcli.api.needs import expression
from hubcli.api.warned import noted, told
from hubcli.api.workspace import Warn, Workspace
from hubcli.composition import Expr, text
from hubcli.compositions import FUSION, renamed
from hubcli.errors import HubcliError, NotFoundError, UsageError
from hubcli.manifest import BaseModel, Installed
from hubcli.progress import Steps
from hubcli.recipe import Recipe
from hubcli.refs import parse_ref

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.training.examples import Examples

Json = dict[str, Any]
Files = str | Path | Sequence[str | Path]


def eval(
    expr: str | Path | Expr,
    data: Files = (),
    *,
    recipe: str | Path | None = None,
    part: str = "test",
    dataset: str | None = None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    label_map: Mapping[str, str] | None = None,
    limit: int | None = None,
    seed: int | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    max_answer: int | None = None,
    exact_match: bool | None = None,
    task: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
    allow_base_mismatch: bool = False,
    write: bool = True,
    dry_run: bool = False,
    offline: bool | None = None,
    token: str | None = None,
    warn: Warn | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    """Measure an adapter or a composition on labelled data (schemas/cli/eval), with 95 % intervals.

    Of a single ref the figures are kept: an installed adapter's in its record, where `info` shows them, a folder's in its
    manifest.json or in a metrics.json beside its files (`hubcli.measured`). A figure of the same name, data set, split and data
    takes the place of an earlier one. A Parallel is measured child by child.

    Args:
        expr: a ref, an adapter's folder, a block of refs, or the text form of one.
        data: files of rows, instead of a recipe's. recipe: whose data is read. part: which of its parts.
        dataset: what the data is called in what is kept; None: as the recipe calls it, else its file and the folder that is in.
        columns: what the task reads -> the column it is in.
        format: of the files: csv, tsv, jsonl, parquet; None goes by their suffixes.
        label_map: a value of the label column -> one of the adapter's labels.
        limit: rows taken, chosen by `seed`; what is measured on some rows alone is not kept.
        seed: of the intervals' resampling and of `limit`; None: the recipe's, else 0.
        max_length: tokens a row; None: the recipe's, else what the model reads, 512 at most.
        max_answer: tokens an answer that is generated; None: the recipe's, else 64.
        exact_match: generate answers and compare them; None: text-to-text does, and what a recipe says.
        task: SEQ_CLS, TOKEN_CLS, CAUSAL_LM, SEQ_2_SEQ_LM or IMG_CLS; None: what the adapter is for.
        dtype, device, quantize: of the base, as `load_adapter`'s; None: as the recipe's training loads it.
        allow_base_mismatch: as `load_adapter`'s.
        write: keep the figures. dry_run: measure, keep nothing.

    Raises:
        UsageError: arguments that make no sense; E_DATA: rows that can't be used, by file and row.
        UnsupportedError: a task without figures, labels that don't exclude one another, a block that cuts at fixed sizes.
        NotFoundError: no such file. MissingExtraError: the extra `train`. HubcliError: as `load_adapter`.
    """
    files = (data,) if isinstance(data, str | Path) else tuple(data)
    wish = Wish(
        tuple(map(str, files)), None if recipe is None else str(recipe), part, dataset, dict(columns or {}), format,
        dict(label_map or {}), limit, seed, batch_size, max_length, max_answer, exact_match, task,
    )  # fmt: skip
    eval_data.check(wish)
    given = {"dtype": dtype, "device": device, "quantize": quantize, "allow_base_mismatch": allow_base_mismatch}
    options = eval_data.base_options(wish, given)
    warn = warn or python_warning
    workspace = Workspace(offline=offline, token=token, warn=warn)
    with told(warn):
        adapted, report = _measured(expr, wish, workspace, options)
    if note is not None:
        noted(adapted, note)
    report["written"] = None
    if write and not dry_run:
        report["written"] = _kept(expr, report, wish, workspace, warn, note)
    return report


def _measured(expr: str | Path | Expr, wish: Wish, workspace: Workspace, options: Json) -> tuple[Adapted, Json]:
    """The handle, and the report but for what is kept."""
    from hubcli.training import evaluating, metrics
    from hubcli.training.tasks import TASKS

    metrics.check_installed()
    given = recipes.read(wish.recipe).task if wish.recipe else None
    wanted = wish.task or given
    adapted, called, refs, found = opened(
        expr, workspace, **options, task=None if wanted is None else TASKS[wanted].pipeline
    )
    parts = evaluating.asked(refs)
    base = next((b for item in found.values() if item.record.kind != FUSION and (b := item.record.release.base)), None)
    results, known, task = [], {}, ""
    settings: Json = {}
    for part in parts:
        mine = renamed(part, lambda ref: called[ref])
        adapted.activate(mine)
        task = wanted = _task(adapted, wanted, found)
        labels = evaluating.labels_of(adapted, mine, task)
        if labels not in known:
            known[labels] = eval_data.rows(wish, task, labels, None if base is None else base.id, workspace)
        recipe, examples = known[labels]
        settings = _settings(wish, recipe, adapted, options)
        figures = _figures(adapted, mine, task, examples, labels, settings, base, wish, workspace)
        results.append({"expression": text(part), "figures": figures})
    recipe, examples = next(iter(known.values()))
    return adapted, {
        "expression": text(expression(expr)),
        "task": task,
        "base": None if base is None else base.id,
        "data": eval_data.told(wish, recipe, examples),
        "settings": settings,
        "results": results,
    }


def _task(adapted: Adapted, wanted: str | None, found: Mapping[str, Installed]) -> str:
    """The task, where the adapters' and the one asked for are one.

    Raises:
        UsageError: they differ. UnsupportedError: it has no figures.
    """
    from hubcli.training.evaluating import task_of

    stated = [item.record.release.task for item in found.values() if item.record.release.task]
    task = task_of(adapted, [one for one in stated if one])
    if wanted is not None and wanted != task:
        raise UsageError(
            f"expected an adapter for {wanted}, found one for {task}", hint=f"task={task!r}, or another adapter"
        )
    return task


def _settings(wish: Wish, recipe: Recipe, adapted: Adapted, options: Json) -> Json:
    """What decides the figures, beside adapter and data.

    Raises:
        UsageError: answers are asked for where there are none.
    """
    from hubcli.training.evaluating import length

    train, named = recipe.train, wish.recipe is not None
    compares = eval_data.compares(wish, recipe)
    return {
        "seed": recipe.seed,
        "max_length": length(adapted, wish.max_length or (train.max_length if named else None)),
        "exact_match": compares,
        "max_answer": (wish.max_answer or train.max_answer) if compares else None,
        "dtype": str(adapted.model.dtype).removeprefix("torch."),
        "quantize": options["quantize"],
        "limit": recipe.data.limit.get(wish.part),
    }


def _figures(
    adapted: Adapted,
    expr: Expr,
    task: str,
    examples: Examples,
    labels: tuple[str, ...],
    settings: Json,
    base: BaseModel | None,
    wish: Wish,
    workspace: Workspace,
) -> list[Json]:
    from hubcli.training.evaluating import image_processor, judged

    processor = None
    if task == "IMG_CLS" and base is not None:
        processor = image_processor(base, offline=workspace.offline is not None, token=workspace.token)
    tools = {
        "labels": labels,
        "processor": processor,
        "max_length": settings["max_length"],
        "max_answer": settings["max_answer"] or 1,
        "compares": settings["exact_match"],
    }
    rows = examples.parts[wish.part]
    with contextlib.closing(Steps("evaluating")) as tick, eval_data.own_words():
        how = {"batch_size": wish.batch_size, "part": wish.part, "seed": settings["seed"], "tick": tick}
        found = judged(adapted, expr, task, rows, tools, **how)
    return [{**asdict(figure), "interval": figure.interval and list(figure.interval)} for figure in found]


def _kept(
    expr: str | Path | Expr,
    report: Json,
    wish: Wish,
    workspace: Workspace,
    warn: Warn,
    note: Callable[[str], None] | None,
) -> Json | None:
    """Keep the figures where the expression has a place for them; says where."""
    asked = expression(expr)
    if not isinstance(asked, str) or len(report["results"]) > 1 or wish.limit is not None:
        if note is not None:
            what = "some rows alone" if wish.limit is not None else "a composition that has no name of its own"
            note(f"not written: figures of {what} are not kept")
        return None
    data = report["data"]
    settings = {key: value for key, value in report["settings"].items() if value is not None and key != "seed"}
    more = {
        "dataset": data["name"], "split": data["split"], "sha256": data["sha256"], "seed": report["settings"]["seed"],
        "task": report["task"], "settings": settings, "hubcli": __version__,
    }  # fmt: skip
    rows = [{**figure, **more} for figure in report["results"][0]["figures"]]
    ref = parse_ref(asked)
    try:
        if ref.kind == "folder":
            path = measured.write(ref.folder.absolute(), rows)
        else:
            item = workspace.store.find(ref.store_name, ref.spec)
            if item is None:
                raise NotFoundError(f"{ref} was removed meanwhile")
            path = workspace.store.measure(item, rows, warn=warn)
    except HubcliError as error:
        warn(f"the figures were not written: {error.message}")
        return None
    return {"path": str(path), "figures": len(rows)}
