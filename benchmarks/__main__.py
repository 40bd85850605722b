"""`python -m benchmarks [NAME ...] [--rounds N] [--seed N] [--dry-run]`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module

from benchmarks import page
from benchmarks.measure import ROOT, environment
from benchmarks.texts import TITLES

PROCESSES = ("startup", "install", "index")
TENSORS = ("attach", "forward", "batches", "methods", "parallel", "prefixes", "fusing", "memory", "training")
# glibc otherwise gives freed memory back and faults it in again, at a cost that falls on whoever allocates more: the peers
PINNED = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


def main() -> None:
    """Run what is asked for, print it, write the results and the page."""
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in arguments.names or (*PROCESSES, *TENSORS):
        if name in TENSORS and not _pinned():
            _in_a_pinned_process(name, arguments)
        elif name != "page":
            result = import_module(f"benchmarks.{name}").run(arguments.rounds, arguments.seed)
            print(f"\n{TITLES[name]}\n\n" + "\n".join(page.table(result.rows)), flush=True)
            if not arguments.dry_run:
                result.write()
    if not arguments.dry_run and not _pinned():
        page.write()


def _arguments() -> argparse.Namespace:
    known = (*PROCESSES, *TENSORS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure hubcli beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}, or page; default: all")
    parser.add_argument("--rounds", type=int, default=11, help="rounds that count (default 11)")
    parser.add_argument("--seed", type=int, default=1, help="of the order and of what is synthetic (default 1)")
    parser.add_argument("--dry-run", action="store_true", help="print only: no result and no page is written")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*known, "page"}:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return arguments


def _pinned() -> bool:
    return all(os.environ.get(name) == value for name, value in PINNED.items())


def _in_a_pinned_process(name: str, arguments: argparse.Namespace) -> None:
    """Run one benchmark in a process of its own, whose allocator keeps what it has."""
    words = [name, "--rounds", str(arguments.rounds), "--seed", str(arguments.seed)]
    words += ["--dry-run"] if arguments.dry_run else []
    settings = environment(**PINNED, HF_HUB_OFFLINE="1", HOME=os.environ.get("HOME", ""))
    subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, env=settings, check=True)


if __name__ == "__main__":
    main()
