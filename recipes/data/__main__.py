"""Fetch and write data sets for the training recipes.

    python -m recipes.data --list
    python -m recipes.data movies spam             # into recipes/.data/movies, recipes/.data/spam
    python -m recipes.data --all --archives FILES  # without the network: FILES holds the packages' archives

Each folder holds {train,validation,test}.csv or .jsonl and SOURCE.json (where it comes from, licence, counts).
What is complete already is left as it is.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from recipes.data import dialogue, digits, plays, reactions, sentiment, spam
from recipes.data.archive import Archives, DataError
from recipes.data.dataset import Dataset, complete, make

OUT = Path(__file__).parent.parent / ".data"
DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for module in (sentiment, spam, plays, reactions, dialogue, digits)
    for dataset in module.DATASETS
}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m recipes.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="show the data sets and what they are")
    parser.add_argument("--all", action="store_true", help="every data set")
    parser.add_argument("--out", type=Path, default=OUT, help="default: recipes/.data")
    parser.add_argument("--archives", type=Path, help="folder of archives downloaded before; pip is not called")
    parser.add_argument("--force", action="store_true", help="write again what is complete")
    return parser


def chosen(names: list[str], every: bool) -> list[Dataset]:
    for name in names:
        if name not in DATASETS:
            near = difflib.get_close_matches(name, DATASETS, 1)
            raise DataError(f"no data set {name!r}" + (f": did you mean {near[0]}?" if near else "; see --list"))
    return list(DATASETS.values()) if every else [DATASETS[name] for name in dict.fromkeys(names)]


def line(said: dict[str, Any], state: str) -> str:
    rows = " · ".join(f"{n:,} {part}" for part, n in said["rows"].items())
    return f"{said['name']}: {rows} · {said['licence']} · {state}"


def main(arguments: list[str] | None = None) -> int:
    parser = options()
    args = parser.parse_args(arguments)
    if args.list:
        for dataset in DATASETS.values():
            print(f"{dataset.name:14} {dataset.about} [{dataset.licence}]")
        return 0
    if not args.names and not args.all:
        parser.error("name a data set, or --all; --list shows them")
    archives = Archives(args.out / ".archives", args.archives)
    try:
        for dataset in chosen(args.names, args.all):
            said = None if args.force else complete(dataset, args.out)
            state = "complete" if said else "written"
            print(line(said or make(dataset, archives, args.out), state), flush=True)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
