"""cache, doctor, completion."""

from __future__ import annotations

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.sizes import many, size


@click.group()
def cache() -> None:
    """Show or prune the store."""


@command(network=False, name="dir", examples='cd "$(hubcli cache dir)"')
def dir_(out: Output) -> None:
    """Print the folder that holds the store."""
    report = api.cache_dir()
    out.data(report, [report["path"]])


@command(network=False, name="size", examples="hubcli cache size")
def size_(out: Output) -> None:
    """Print how much the store holds, and how much of it nothing uses."""
    report = api.cache_size()
    held = f"{size(report['bytes'])} in {many(report['blobs'], 'file')}"
    out.data(report, [f"{held}, {size(report['unused_bytes'])} of it unused"])


@command(network=False, writes=True, examples="hubcli cache prune --dry-run\nhubcli cache prune")
@click.option("--no-wait", is_flag=True, help="Fail at once (exit 8) when another process holds the store.")
def prune(out: Output, dry_run: bool, no_wait: bool) -> None:
    """Remove files that no installed adapter uses, and what pickled weights of local folders became."""
    report = api.cache_prune(dry_run=dry_run, no_wait=no_wait, warn=out.warn)
    verb = "would remove" if dry_run else "removed"
    out.data(report, [f"{verb} {many(len(report['removed']), 'file')}, {size(report['bytes'])}"])


for _command in (dir_, size_, prune):
    cache.add_command(_command)


@command(writes=True, examples="hubcli doctor\nhubcli doctor --fix")
@click.option("--fix", is_flag=True, help="Mend what can be mended.")
def doctor(out: Output, fix: bool, dry_run: bool, offline: bool) -> int:
    """Check this installation: store, indexes, plugins, leftovers (exit 1 on any finding)."""
    report = api.doctor(fix=fix and not dry_run, offline=offline)
    lines = [
        f"{'ok' if c['ok'] else 'fixed' if c['fixed'] else 'problem'}: {c['name']}: {c['detail']}"
        for c in report["checks"]
    ]
    out.data(report, lines)
    return 0 if report["ok"] else 1


@command(
    network=False,
    examples='eval "$(hubcli completion bash)"\nhubcli completion fish > ~/.config/fish/completions/hubcli.fish',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(out: Output, shell: str) -> None:
    """Print a shell completion script."""
    from click.shell_completion import get_completion_class

    from hubcli.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    script = kind(cli, {}, "hubcli", "_HUBCLI_COMPLETE").source()
    out.data({"shell": shell, "script": script}, [script])
