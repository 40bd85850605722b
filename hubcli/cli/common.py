"""What all commands share: the options --json, --quiet, --offline (and --dry-run), and where output goes."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any

import click

from hubcli.cli.text import clean, clean_lines, to_json
from hubcli.frozen import frozen
from hubcli.progress import silenced

Function = Callable[..., Any]
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # where accelerate looks for them


class Interrupted(click.Abort):
    """Ctrl-C, with what was left and how it goes on."""

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.message, self.hint = message, hint


def first() -> bool:
    """Whether this process speaks: of those that a launcher started together, the first alone does."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS if int(os.environ.get("WORLD_SIZE", "1")) > 1)


@frozen
class Output:
    """Where a command prints: data on stdout, everything else on stderr; nothing at all where another process speaks."""

    json: bool = False
    quiet: bool = False
    mute: bool = False

    def data(self, document: Any, lines: Iterable[str] = ()) -> None:
        """The command's answer: the JSON document with --json, else the lines."""
        if self.mute:
            return
        if self.json:
            click.echo(to_json(document))
            return
        for line in lines:
            click.echo(clean_lines(line))

    def note(self, text: str) -> None:
        """Something for a person to know; not with --quiet or --json."""
        if not (self.quiet or self.json or self.mute):
            click.echo(clean(text), err=True)

    def warn(self, text: str) -> None:
        """Something a person must know."""
        if not self.mute:
            click.echo(f"warning: {clean(text)}", err=True)


def failures(report: dict[str, Any]) -> int:
    """Print what failed of a report on stderr, each with cause and hint; the exit code, which the first failure decides."""
    for failed in report["failed"]:
        error = failed["error"]
        click.echo(clean(f"error: {failed['ref']}: {error['message']}"), err=True)
        for part in ("cause", "hint"):
            if error.get(part):
                click.echo(clean(f"{part}: {error[part]}"), err=True)
    return int(report.get("exit_code", 0))


def command(
    *, writes: bool = False, network: bool = True, examples: str = "", **settings: Any
) -> Callable[[Function], click.Command]:
    """A Click command with the shared options.

    The callback gets `out: Output`; `dry_run` where it writes; `offline` where it may use the network (the option stands on
    every command: one that never uses the network keeps its promise without being told).
    """

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def callback(*, json: bool, quiet: bool, offline: bool, **arguments: Any) -> Any:
            if network:
                arguments["offline"] = offline
            with silenced() if json or quiet else contextlib.nullcontext():
                return function(out=Output(json, quiet), **arguments)

        wrapped: Any = callback
        if writes:
            wrapped = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(wrapped)
        wrapped = click.option("--offline", is_flag=True, help="Use no network (also HUBCLI_OFFLINE=1).")(wrapped)
        wrapped = click.option("--quiet", "-q", is_flag=True, help="Print the answer and errors only.")(wrapped)
        wrapped = click.option("--json", is_flag=True, help="Print JSON on stdout, and nothing else there.")(wrapped)
        epilog = (
            "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()) if examples else None
        )
        decorator: Callable[[Any], click.Command] = click.command(epilog=epilog, **settings)
        return decorator(wrapped)

    return decorate
