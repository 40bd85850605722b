"""Train an adapter of the bundled index again, from its recipe, and say whether it reaches its figures.

    python -m recipes.again sentiment/bert-lora

Fetches the data that the recipe names (python -m recipes.data), trains into runs/<name>, and compares each figure of the
test part with the interval that the index states; one that training does not measure is measured then. Exit code 1: one is
worse than its interval, or could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hubcli import api
from hubcli.errors import HubcliError
from hubcli.manifest import Entry
from hubcli.recipe import FUSION, Recipe, read

ROOT = Path(__file__).parent.parent
RECIPES, INDEX = ROOT / "recipes", ROOT / "registry-index"


def data_sets(recipe: Recipe) -> list[str]:
    """The names of the data sets under recipes/.data that a recipe reads."""
    files = [Path(path) for part in (recipe.data.train, recipe.data.validation, recipe.data.test) for path in part]
    return sorted({path.parent.name for path in files if path.parent.parent.name == ".data"})


def measured(recipe: Recipe, file: Path, folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """The run with the test figures that `hubcli eval` gives of its files, in full precision; a fusion's stay the run's."""
    if recipe.method.name == FUSION:
        return run
    quantized = run["base"].get("quantization")
    answers = recipe.task == "CAUSAL_LM" and "text" not in recipe.columns
    how = {"quantize": quantized and quantized["method"], "exact_match": answers or None}
    report = api.eval(str(folder), recipe=file, write=False, **how)
    about = {"dataset": report["data"]["name"], "split": "test", "seed": run["seed"]}
    return {**run, "metrics": [{**found, **about} for found in report["results"][0]["figures"]]}


def missing(stated: list[dict[str, Any]], found: list[dict[str, Any]]) -> bool:
    """Whether a figure that is stated with an interval was not measured on the test part."""
    known = {metric["name"] for metric in found if metric["split"] == "test"}
    return any(metric["interval"] is not None and metric["name"] not in known for metric in stated)


def compared(stated: list[dict[str, Any]], found: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """(a line for each figure that is stated with an interval, whether all of them lie in theirs, or are better)."""
    new = {metric["name"]: metric["value"] for metric in found if metric["split"] == "test"}
    lines, reached = [], True
    for metric in stated:
        if metric["interval"] is None:
            continue
        low, high = metric["interval"]
        value = new.get(metric["name"])
        if value is None:
            said, shown = "NOT reached, it was not measured", "none"
        else:
            better = _better(metric, value)
            said = "better than that" if better else "reached" if low <= value <= high else "NOT reached"
            shown = f"{value:.4f}"
        reached &= "NOT" not in said
        lines.append(f"{metric['name']}: {shown}, stated {metric['value']:.4f} [{low:.4f}, {high:.4f}]: {said}")
    return lines, reached


def _better(metric: dict[str, Any], value: float) -> bool:
    lower = metric["name"] in ("perplexity", "loss")
    return value < metric["interval"][0] if lower else value > metric["interval"][1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="e.g. sentiment/bert-lora")
    parser.add_argument("--out", type=Path, help="the run's folder; default: runs/<name>")
    parser.add_argument("--force", action="store_true", help="replace a run that is there")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was broken off")
    args = parser.parse_args()
    entry = INDEX / f"{args.name}.json"
    if not (RECIPES / f"{args.name}.toml").is_file() or not entry.is_file():
        known = [name for name in names() if (INDEX / f"{name}.json").is_file()]
        parser.error(f"no recipe of the index is called {args.name}; there are {', '.join(known)}")
    try:
        return trained(args, entry)
    except HubcliError as error:
        print(f"error: {error}", f"hint: {error.hint}" if error.hint else "", sep="\n", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: broken off; --resume goes on, --force begins anew", file=sys.stderr)
        return 130


def names() -> list[str]:
    """Every recipe, as the index calls its adapter."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.glob("*/*.toml"))


def trained(args: argparse.Namespace, entry: Path) -> int:
    """Fetch, train, compare; the exit code."""
    from recipes.data.__main__ import main as fetch

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    recipe = RECIPES / f"{args.name}.toml"
    if code := fetch(data_sets(read(recipe))):
        return code
    report = api.train(recipe, args.out, force=args.force, resume=args.resume, say=say, warn=say, bar=True)
    stated = Entry.from_json(json.loads(entry.read_text(encoding="utf-8"))).releases[-1]
    figures = [metric.to_json() for metric in stated.metrics]
    if missing(figures, report["metrics"]):
        report = measured(read(recipe), recipe, Path(report["path"]), report)
    lines, reached = compared(figures, report["metrics"])
    print("\n".join(lines))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
