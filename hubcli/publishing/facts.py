"""What a folder says of the adapter in it: its config, and, of a run of `hubcli train`, the run and its recipe."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubcli import measured, strict_json
from hubcli import recipe as recipes
from hubcli.errors import HubcliError, UsageError
from hubcli.manifest import Json, Metric
from hubcli.publishing.findings import Finding, of_error
from hubcli.publishing.picked import is_picture
from hubcli.recipe import Recipe

RUN, RECIPE, ADAPTER, PLOT = "run.json", "recipe.toml", "adapter", "loss.png"
RUN_V, DONE = 1, "done"
# what a run tells, and as what; all else is not looked at
_KINDS: dict[str, type] = {
    **dict.fromkeys(("method", "pipeline"), str),
    **dict.fromkeys(("config", "base", "head", "rows", "parameters", "best", "versions"), dict),
    **dict.fromkeys(("data", "metrics", "files"), list),
    **dict.fromkeys(("seed", "steps"), int),
}
MAX_RUN = 8 << 20  # bytes
DIGITS = 4


@dataclass(slots=True)
class Run:
    """A finished run: what its run.json says, its recipe where it can be read, and its picture."""

    folder: Path
    said: Json
    recipe: Recipe | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def plot(self) -> Path | None:
        """Both curves, where they were drawn."""
        file = self.folder / PLOT
        return file if is_picture(file) else None

    @property
    def told(self) -> Json:
        """What the recipe says for an index."""
        return self.recipe.release if self.recipe is not None else {}


def run_in(folder: Path) -> Run | None:
    """The run in a folder; None where it holds none.

    Raises:
        UsageError: its run.json is another program's, or of another version; the run is not done; it has no adapter.
        EntryError: E_JSON_*.
    """
    file = folder / RUN
    if not file.is_file():
        return None
    said = strict_json.read(file, limit=MAX_RUN)
    if not isinstance(said, dict) or said.get("v") != RUN_V or not isinstance(said.get("recipe_sha256"), str):
        raise UsageError(f"{file}: expected a run of version {RUN_V}, found something else")
    wrong = [key for key, kind in _KINDS.items() if said.get(key) is not None and not isinstance(said[key], kind)]
    if wrong or not _sound_base(mapping(said.get("base"))):
        raise UsageError(
            f"{file}: expected what 'hubcli train' writes, found something else under {(wrong or ['base'])[0]}"
        )
    if said.get("status") != DONE:
        raise UsageError(f"{folder}: expected a run that is done, found {said.get('status')!r:.40}", hint="--resume it")
    if not (folder / ADAPTER).is_dir():
        raise UsageError(f"{folder} holds no adapter: a run with method 'full' trains a whole model")
    run = Run(folder, said)
    try:
        run.recipe = recipes.read(folder / RECIPE) if (folder / RECIPE).is_file() else None
    except HubcliError as error:
        run.findings.append(of_error(RECIPE, error))
    run.findings += _other_files(run)
    return run


def _sound_base(base: Json) -> bool:
    texts = all(isinstance(base.get(key), str | None) for key in ("id", "revision", "architecture", "weights_sha256"))
    return texts and isinstance(base.get("quantization"), dict | None)


def _other_files(run: Run) -> list[Finding]:
    """Weights that are not those which the run wrote and measured."""
    found = []
    for row in rows_of(run.said, "files"):
        path, stated = row.get("path"), row.get("sha256")
        if not isinstance(path, str) or not path.endswith(".safetensors") or "/" in path:
            continue
        file = run.folder / ADAPTER / path
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"
        if sha256 != stated:
            hint = "its figures are those of other weights; publish the folder 'adapter' on its own, measured again"
            found.append(
                Finding(f"{ADAPTER}/{path}", "content", f"sha256 {stated}, as the run wrote it", sha256, hint, "E_HASH")
            )
    return found


def stated(adapter: Path, run: Run | None) -> tuple[list[Json], list[Finding]]:
    """The figures that a folder states, a row each as `hubcli.measured` has them; the test rows' where there are such."""
    findings: list[Finding] = []
    rows = rows_of(run.said, "metrics") if run else []
    try:
        known = {(row.get("name"), row.get("split")) for row in rows}
        rows += [row for row in measured.read(adapter) if (row.get("name"), row.get("split")) not in known]
    except HubcliError as error:
        findings.append(of_error("metrics", error))
    for row in rows:
        if not _sound(row):
            findings.append(Finding("metrics", "a figure", "name, value, dataset and split", ascii(row)[:120]))
    sound = [row for row in rows if _sound(row)]
    return [row for row in sound if row["split"] == "test"] or sound, findings


def _sound(row: Mapping[str, Any]) -> bool:
    value, interval = row.get("value"), row.get("interval")
    texts = all(isinstance(row.get(key), str) and row[key] for key in ("name", "dataset", "split"))
    whole = all(row.get(key) is None or type(row[key]) is int for key in ("n", "seed"))
    pair = interval is None or (isinstance(interval, list) and len(interval) == 2 and all(map(_number, interval)))
    return texts and whole and pair and _number(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def metrics(rows: list[Json]) -> tuple[Metric, ...]:
    """Figures as an entry has them, rounded."""
    return tuple(
        Metric(
            name=row["name"],
            value=rounded(row["value"]),
            dataset=row["dataset"],
            split=row["split"],
            n=row.get("n"),
            seed=row.get("seed"),
            interval=None
            if row.get("interval") is None
            else (rounded(row["interval"][0]), rounded(row["interval"][1])),
        )
        for row in rows
    )


def rounded(value: float) -> float:
    """As many digits as an entry has of a figure."""
    return round(value, DIGITS)


def training(run: Run | None) -> Json:
    """What an entry tells of how it was trained: nothing that names a place on this machine."""
    if run is None:
        return {}
    said, told = run.said, run.told
    data = {
        "name": (run.recipe.data.name if run.recipe else None) or _dataset(said),
        "license": told.get("data_license"),
        "citation": told.get("citation"),
        "sha256": [row["sha256"] for row in rows_of(said, "data") if isinstance(row.get("sha256"), str)],
    }
    versions = mapping(said.get("versions"))
    found = {
        "recipe_sha256": said["recipe_sha256"],
        "data": {key: value for key, value in data.items() if value},
        "base_license": told.get("base_license"),
        **{key: said.get(key) for key in ("rows", "seed", "parameters", "steps", "best")},
        "versions": {name: versions[name] for name in ("torch", "transformers") if name in versions},
    }
    return {key: value for key, value in found.items() if value not in (None, {}, [])}


def unnamed(run: Run | None, stated: list[Json]) -> list[str]:
    """A note where a run's figures name its data by the folder that they lay in, for its recipe does not name them."""
    if run is None or run.recipe is None or run.recipe.data.name or run.recipe.data.dataset or not stated:
        return []
    name = stated[0]["dataset"]
    return [
        f"the figures are said to be on '{ascii(name)[1:-1]}', for the recipe has no data.name, which names the data"
    ]


def _dataset(said: Json) -> str | None:
    return next((row["dataset"] for row in rows_of(said, "metrics") if isinstance(row.get("dataset"), str)), None)


def mapping(value: Any) -> Json:
    """An object of a document that anyone may have written; empty where it is none."""
    return value if isinstance(value, dict) else {}


def rows_of(said: Mapping[str, Any], key: str) -> list[Json]:
    """The objects in a list of such a document."""
    value = said.get(key)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
