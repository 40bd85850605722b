"""`python -m benchmarks [startup|install|index|page ...] [--rounds N] [--seed N]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from benchmarks import index, install, page, startup
from benchmarks.measure import Result

BENCHMARKS: dict[str, Callable[[int, int], Result]] = {
    "startup": startup.run,
    "install": install.run,
    "index": index.run,
}


def main() -> None:
    """Run what is asked for, print it, write the results and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure hubcli beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}, or page; default: all")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="of the order and of the synthetic index (default 1)")
    parser.add_argument("--dry-run", action="store_true", help="print only: no result and no page is written")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*BENCHMARKS, "page"}:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in arguments.names or BENCHMARKS:
        if name != "page":
            result = BENCHMARKS[name](arguments.rounds, arguments.seed)
            print(f"\n{page.TITLES[name]}\n\n" + "\n".join(page.table(result.rows)))
            if not arguments.dry_run:
                result.write()
    if not arguments.dry_run:
        page.write()


if __name__ == "__main__":
    main()
