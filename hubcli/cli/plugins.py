"""plugins list, info, doctor."""

from __future__ import annotations

import click

from hubcli import api
from hubcli.cli.common import Output, command
from hubcli.cli.text import columns


@click.group()
def plugins() -> None:
    """List, show and check plugins. Each PEFT method is one; HUBCLI_DISABLE_PLUGINS=a,b switches some off."""


@command(network=False, name="list", examples="hubcli plugins list")
def list_(out: Output) -> None:
    """List the plugins that are installed, without importing them."""
    report = api.plugins_list()
    rows = [
        (p["name"], p["kind"], p["distribution"], p["version"], "no" if p["disabled"] else "yes")
        for p in report["plugins"]
    ]
    out.data(report, columns(rows, ("NAME", "KIND", "PACKAGE", "VERSION", "ENABLED")))


@command(network=False, examples="hubcli plugins info lora")
@click.argument("name")
def info(out: Output, name: str) -> None:
    """Show one plugin: its package, what it registers, and the config it takes."""
    report = api.plugins_info(name)
    rows = [(key, str(value)) for key, value in report.items() if key != "config_keys"]
    out.data(report, [*columns(rows, ("", ""))[1:], "config   " + ", ".join(report["config_keys"])])


@command(network=False, examples="hubcli plugins doctor\nhubcli plugins doctor lora")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--timeout", type=click.FloatRange(1), default=120, show_default=True, help="Seconds a plugin may take to load."
)
def doctor(out: Output, names: tuple[str, ...], timeout: float) -> int:
    """Load each plugin in a process of its own and say what is wrong (exit 1 if anything is)."""
    report = api.plugins_doctor(*names, timeout=timeout)
    lines = []
    for plugin in report["plugins"]:
        lines.append(
            f"{'ok' if plugin['ok'] else 'broken'}: {plugin['name']} ({plugin['distribution']} {plugin['version']})"
        )
        if not plugin["ok"]:
            lines += [f"  cause: {plugin['phase']}: {plugin['cause']}", f"  hint: {plugin['hint']}"]
    out.data(report, lines)
    return 0 if report["ok"] else 1


for _command in (list_, info, doctor):
    plugins.add_command(_command)
