"""The root group, and the one place where errors become text (or JSON) and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from hubcli._version import __version__
from hubcli.cli.common import first
from hubcli.cli.table import COMMANDS
from hubcli.cli.text import clean, to_json
from hubcli.discovery import disabled, scan
from hubcli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HubcliError

EPILOG = """\b
Examples:
  hubcli search sentiment
  hubcli install sentiment/bert-lora
  hubcli run sentiment/bert-lora "a gripping film"

\b
Environment: HUBCLI_HOME, HUBCLI_OFFLINE, HUBCLI_DISABLE_PLUGINS, HUBCLI_DEBUG, HUBCLI_HUB_TOKEN (of hub serve);
HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to huggingface_hub.
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 integrity,
5 lock, 6 refused by policy, 7 network or offline, 8 disk or store busy, 130 interrupted."""


class LazyGroup(click.Group):
    """Commands from the static table, then those of `cli-…` plugins; each is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Core commands in the table's order, then plugin commands by name."""
        return [*COMMANDS, *(name for name in self._plugin_commands() if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        if cmd_name in self._plugin_commands():
            return _plugin_command(cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As Click's, with "did you mean"."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            import difflib

            close = difflib.get_close_matches(args[0].lower(), self.list_commands(ctx), 1)
            hint = f"did you mean '{close[0]}'?" if close else f"commands: {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"no such command '{clean(args[0])}'; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table's own help lines: nothing is imported for them."""
        plugins = {name: f"(from {found})" for name, found in self._plugin_commands().items() if name not in COMMANDS}
        rows = [*((name, text) for name, (_, text) in COMMANDS.items()), *plugins.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _plugin_commands(self) -> dict[str, str]:
        off = disabled()
        found = (plugin for plugin in scan(sys.path) if plugin.kind == "cli" and plugin.name not in off)
        return {plugin.provides: plugin.distribution for plugin in found}


def _plugin_command(name: str) -> click.Command | None:
    from hubcli.plugins import plugins

    group = click.Group()
    list(plugins().call("cli", "hubcli_register_commands", cli=group))
    return group.commands.get(name)


@click.group(
    cls=LazyGroup,
    name="hubcli",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, "-V", "--version", message="hubcli %(version)s")
def cli() -> None:
    """A package manager and runtime for PEFT adapters."""


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Errors are printed, on stdout as JSON where `--json` was given."""
    as_json, stdout = "--json" in argv and first(), sys.stdout
    try:
        result = cli.main(args=list(argv), prog_name="hubcli", standalone_mode=False)
        code = result if isinstance(result, int) else EXIT_OK
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:
        message = getattr(stop, "message", "interrupted; nothing was left half done")
        hint = getattr(stop, "hint", "run the same command again")
        code = _report("E_INTERRUPTED", message, None, hint, as_json, EXIT_INTERRUPTED)
    except click.ClickException as error:
        code = _usage(error, as_json)
    except SystemExit:
        # Click swaps stdout and exits when the reader of a pipe has gone (| head): nothing is wrong
        if sys.stdout is stdout:
            raise
        code = EXIT_OK
    except Exception as error:
        code = _failure(error, as_json)
    _plugin_warnings()
    return code


def _usage(error: click.ClickException, as_json: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None and not as_json:
        click.echo(error.ctx.get_help(), err=True)
        return EXIT_USAGE
    context = getattr(error, "ctx", None)
    hint = f"see '{context.command_path} --help'" if context else None
    _report("E_USAGE", error.format_message(), None, hint, as_json)
    return EXIT_USAGE


def _failure(error: Exception, as_json: bool) -> int:
    known = error if isinstance(error, HubcliError) else _known(error)
    if known is None or os.environ.get("HUBCLI_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    if known is not None and len(known.parts) > 1:
        return _several(known, as_json)
    if known is not None:
        return _report(known.id, known.message, known.cause, known.hint, as_json, known.exit_code)
    return _report(
        "E_BUG", f"{type(error).__name__}: {error}", None, "this is a bug in hubcli: please report it", as_json
    )


def _several(error: HubcliError, as_json: bool) -> int:
    """What is wrong in several places: one a line, each with its own hint; `findings` with --json."""
    if as_json:
        said = {"id": error.id, "message": error.message, "cause": error.cause, "hint": error.hint}
        findings = [{key: clean(text or "") or None for key, text in part.items()} for part in error.parts]
        plain = {key: clean(text or "") or None for key, text in said.items()}
        click.echo(to_json({"error": {**plain, "findings": findings}}))
        return error.exit_code
    click.echo(f"error: {clean(error.summary)}", err=True)
    for part in error.parts:
        click.echo(f"  {clean(part['message'] or '')}", err=True)
        if part["hint"]:
            click.echo(f"    hint: {clean(part['hint'])}", err=True)
    return error.exit_code


def _known(error: Exception) -> HubcliError | None:
    """Errors of the operating system that are no bug: what a full, read-only or forbidden disk says."""
    import errno

    from hubcli.errors import DiskError

    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EDQUOT,
        errno.EFBIG,
    ):
        return DiskError(f"can't write {error.filename or 'a file'}", cause=error.strerror)
    return None


def _report(
    id: str,
    message: str,
    cause: str | None,
    hint: str | None,
    as_json: bool,
    code: int = EXIT_FAILED,
    report: dict[str, object] | None = None,
) -> int:
    if as_json:
        error = {
            "id": id,
            "message": clean(message),
            "cause": clean(cause or "") or None,
            "hint": clean(hint or "") or None,
        }
        click.echo(to_json({**(report or {}), "error": error}))
        return code
    click.echo(f"error: {clean(message)}", err=True)
    if cause:
        click.echo(f"cause: {clean(cause)}", err=True)
    if hint:
        click.echo(f"hint: {clean(hint)}", err=True)
    return code


def _plugin_warnings() -> None:
    """One line for each plugin that could not be used while the command ran."""
    module = sys.modules.get("hubcli.plugins")
    if module is None or module.plugins.cache_info().currsize == 0:
        return
    for failure in module.plugins().failures:
        if failure.reported:
            continue
        click.echo(f"warning: {clean(str(failure))}", err=True)
