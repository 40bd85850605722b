"""Are the figures that a folder states what its adapter reaches? Some of the rows are asked again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubcli.composition import Expr, Fuse
from hubcli.errors import HubcliError, MissingExtraError, NotFoundError, OfflineError
from hubcli.manifest import Json
from hubcli.publishing.findings import Finding, of_error
from hubcli.publishing.picked import CARD
from hubcli.publishing.samples import Judged, judged
from hubcli.sizes import many

SETTINGS = {"max_length": int, "max_answer": int, "exact_match": bool, "quantize": str, "dtype": str}


@dataclass(frozen=True, slots=True)
class Rows:
    """Where rows to measure on are: files, or a recipe. The rest is as `eval` takes it; `sample` is how many rows are asked."""

    files: tuple[str, ...] = ()
    recipe: str | None = None
    options: Json = field(default_factory=dict)
    sample: int = 200
    seed: int = 0
    allow_unreproduced: bool = False


def expression(folder: Path, children: Sequence[str]) -> str | Expr:
    """What is asked: the folder's adapter, or its fusion over the adapters that it requires."""
    ref = f"folder:{folder}"
    return Fuse(*children, by=ref) if children else ref


def check(
    expr: str | Expr,
    stated: Sequence[Json],
    rows: Rows,
    run_data: Sequence[Json],
    prepare: Callable[[], None],
    **how: Any,
) -> tuple[list[Finding], list[str]]:
    """(what stands against the stated figures, notes): each is judged by what a sample of its rows allows.

    Args:
        run_data: of a run, the files that it was measured on, with their sha256. prepare: called before anything is measured.
        how: offline, token, warn, for `eval`.
    """
    if not stated:
        return [], ["no figure is stated: nothing to reproduce"]
    if not rows.files and rows.recipe is None:
        return not_done(rows, "no data to measure on is named", stated)
    try:
        prepare()
        report = _measured(expr, stated, rows, how)
    except HubcliError as error:
        missing = isinstance(error, MissingExtraError | OfflineError | NotFoundError) or error.id == "E_DATA"
        return not_done(rows, error.message, stated) if missing else ([of_error("metrics", error)], [])
    if changed := _changed(report, run_data) if not rows.files else None:
        return not_done(rows, changed, stated)
    return _compared(stated, report, rows, known=bool(run_data) and not rows.files)


def _measured(expr: str | Expr, stated: Sequence[Json], rows: Rows, how: Json) -> Json:
    from hubcli.api.evaluating import eval

    options = {**_settings(stated), **rows.options} if rows.files else dict(rows.options)
    if rows.recipe is not None and not rows.files:
        options = {"recipe": rows.recipe, "part": _part(stated), **options}
    return eval(expr, rows.files, limit=rows.sample, seed=rows.seed, write=False, **options, **how)


def _part(stated: Sequence[Json]) -> str:
    split = str(stated[0]["split"])
    return split if split in ("train", "validation", "test") else "test"


def _settings(stated: Sequence[Json]) -> Json:
    """What was said to decide the figures, where they were measured by `eval`."""
    said: Json = next((row["settings"] for row in stated if isinstance(row.get("settings"), dict)), {})
    return {key: said[key] for key, kind in SETTINGS.items() if type(said.get(key)) is kind}


def _changed(report: Mapping[str, Any], run_data: Sequence[Json]) -> str | None:
    """Whether the recipe's files are other ones than the run was measured on."""
    known = {row.get("sha256") for row in run_data if isinstance(row, dict) and row.get("sha256")}
    found = {file["sha256"] for file in report["data"]["files"] if file.get("sha256")}
    return "the recipe's data is not what the run was measured on" if known and found - known else None


def not_done(rows: Rows, why: str, stated: Sequence[Json]) -> tuple[list[Finding], list[str]]:
    """These could not be measured: the caller said whether that is enough. Nothing where no figure is stated."""
    if not stated:
        return [], []
    if rows.allow_unreproduced:
        return [], [f"the stated figures were not reproduced: {why}"]
    hint = (
        "name the file of their data: data (--data), or a recipe: recipe (--recipe); or publish them as they are stated: "
        "allow_unreproduced (--allow-unreproduced)"
    )
    where = CARD if all(row.get("card") for row in stated) else "metrics"
    return [Finding(where, "stated figures", "data to reproduce them on", why, hint, "E_METRIC")], []


def _compared(
    stated: Sequence[Json], report: Mapping[str, Any], rows: Rows, *, known: bool
) -> tuple[list[Finding], list[str]]:
    """Each stated figure that is about these data, and what is said of all others; `known`: the data are those of the run."""
    data = report["data"]
    own = _own(stated) if known else []
    found = _about(stated, own, data)
    about = [row for row in found if row.get("card") or rows.files or _part([row]) == data["split"]]
    if not about:
        names = ", ".join(sorted({ascii(row["dataset"])[1:-1] for row in stated}))
        return not_done(rows, f"the figures are of other data ({names}) than was named", stated)
    figures = {figure["name"]: figure for figure in report["results"][0]["figures"]}
    findings, notes = _judged([row for row in about if row["name"] in figures], figures, report, known=known)
    parts = [row for row in own if row not in about]
    if parts:
        names = ", ".join(sorted({row["split"] for row in parts}))
        notes.append(
            f"{many(len(parts), 'figure')} of the run's other rows ({names}) as it measured them, not asked again"
        )
    left = [row for row in stated if row not in parts and (row not in about or row["name"] not in figures)]
    names = ", ".join(f"{ascii(row['name'])[1:-1]} on {ascii(row['dataset'])[1:-1]}" for row in left[:5])
    more, said = not_done(rows, f"of {names} there are none", left)
    return [*findings, *more], [*notes, *said]


def _judged(
    about: Sequence[Json], figures: Mapping[str, Any], report: Mapping[str, Any], *, known: bool
) -> tuple[list[Finding], list[str]]:
    """Each figure against what the sample has of its name; those that hold are one note."""
    verdicts = []
    for row in about:
        same = known or row.get("sha256") == report["data"]["sha256"]
        rows = row.get("n") if same else None
        verdicts.append(judged(float(row["value"]), figures[row["name"]], report["task"], rows))
    notes = [
        f"{many(len(found), 'figure')} {what} on {many(max(one.n for one in found), 'row')} ({_listed(found)})"
        for what, found in (
            ("reproduced", [one for one in verdicts if one.holds and one.interval]),
            ("not judged, for they say too little,", [one for one in verdicts if one.holds and not one.interval]),
        )
        if found
    ]
    return [one.finding() for one in verdicts if not one.holds], notes


def _listed(verdicts: Sequence[Judged]) -> str:
    return ", ".join(f"{one.name} {one.stated:.4f}" for one in verdicts)


def _own(stated: Sequence[Json]) -> list[Json]:
    """The run's figures, of all that are stated with it: they come first, and name its data by one name alone."""
    unnamed = [row for row in stated if not row.get("sha256") and not row.get("card")]
    return [row for row in unnamed if row["dataset"] == unnamed[0]["dataset"]]


def _about(stated: Sequence[Json], own: Sequence[Json], data: Mapping[str, Any]) -> list[Json]:
    """The stated figures that are about the data which was measured on; `own` are known to be."""
    same = [row for row in stated if row.get("sha256") == data["sha256"] or row in own]
    if same:
        return [*same, *(row for row in stated if row.get("card") and row["dataset"] == data["name"])]
    unnamed = [row for row in stated if not row.get("sha256")]
    named = [row for row in unnamed if row["dataset"] == data["name"]]
    return named or (unnamed if len({row["dataset"] for row in unnamed}) == 1 else [])
