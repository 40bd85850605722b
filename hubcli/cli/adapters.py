"""install, uninstall, list, info, outdated, upgrade, verify."""

from __future__ import annotations

from typing import Any

import click

from hubcli import api
from hubcli.cli.common import Output, command, failures
from hubcli.cli.text import columns
from hubcli.manifest import UNDATED
from hubcli.sizes import many, size

REFS = click.argument("refs", nargs=-1, metavar="[REF]...")
SOME_REFS = click.argument("refs", nargs=-1, required=True, metavar="REF...")
UP_TO_DATE = "everything is up to date"
NO_WAIT = click.option("--no-wait", is_flag=True, help="Fail at once (exit 8) when another process holds the store.")


def _installed_lines(report: dict[str, Any], *, dry_run: bool = False) -> list[str]:
    lines = []
    for done in report["installed"]:
        size_text = size(sum(f["size"] for f in done["files"]))
        what = f"{done['name']} {done['version']} ({done['method']}, {many(len(done['files']), 'file')}, {size_text})"
        if not done["changed"]:
            lines.append(f"already installed (verified): {what}")
        else:
            lines.append(f"would install {what}" if dry_run else f"installed {what}\n  in {done['path']}")
    return lines


def _finish(out: Output, report: dict[str, Any], lines: list[str]) -> int:
    """Print an install's answer; what failed goes to stderr, and the first failure decides the exit code."""
    out.data({k: v for k, v in report.items() if k != "exit_code"}, lines)
    return failures(report)


@command(
    writes=True,
    examples="""hubcli install sentiment/bert-lora
hubcli install sentiment/bert-lora@^1.0 acme:legal/summarize
hubcli install hf:org/repo@v1.2
hubcli install hf:AdapterHub/bert-base-uncased-pf-sst2 --convert-bin
hubcli install sentiment/bert-lora --save""",
)
@SOME_REFS
@click.option("--save", is_flag=True, help="Also write the ref into adapters.toml.")
@click.option(
    "--locked", is_flag=True, help="Take exactly what adapters.lock pins; fail (exit 5) if it is missing or stale."
)
@NO_WAIT
@click.option(
    "--allow-base-mismatch", is_flag=True, help="Install although the files name another base than the index."
)
@click.option(
    "--convert-bin", is_flag=True, help="Take pickled weights (.bin) of a hub repository that has no others, converted."
)
def install(out: Output, refs: tuple[str, ...], **options: Any) -> int:
    """Fetch, verify and store adapters.

    Every byte is hashed while it streams; an adapter appears in the store whole or not at all. The newest version that the
    ref allows is taken. hf:org/repo installs an adapter of peft's or AdapterHub's straight from a hub; pickled weights are
    refused there unless --convert-bin is given: they are read as tensors alone, in a process of its own with limits, and only
    the safetensors made of them is stored.
    """
    report = api.install(*refs, keep_going=True, progress=_progress(out), warn=out.warn, **options)
    return _finish(out, report, _installed_lines(report, dry_run=options["dry_run"]))


@command(
    writes=True,
    network=False,
    examples="hubcli uninstall sentiment/bert-lora\nhubcli uninstall sentiment/bert-lora@1.0.0",
)
@SOME_REFS
@NO_WAIT
def uninstall(out: Output, refs: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Remove adapters from the store: all installed versions that the ref allows."""
    report = api.uninstall(*refs, dry_run=dry_run, warn=out.warn, **options)
    verb = "would remove" if dry_run else "removed"
    out.data(report, [f"{verb} {r['name']} {r['version']}" for r in report["removed"]])


@command(network=False, name="list", examples="hubcli list\nhubcli list --json")
def list_(out: Output) -> None:
    """List the installed adapters, and what was yanked, deprecated or quarantined since, as the indexes on this machine say."""
    report = api.list()
    keys: tuple[str, ...] = ("NAME", "VERSION", "METHOD", "BASE", "SIZE")
    rows: list[tuple[str, ...]] = [
        (a["name"], a["version"], a["method"], a["base"] or "-", size(a["size"])) for a in report["adapters"]
    ]
    states = [_state(a) for a in report["adapters"]]
    if any(states):
        rows, keys = [(*row, state) for row, state in zip(rows, states, strict=True)], (*keys, "STATE")
    out.data(report, columns(rows, keys) if rows else ["no adapter is installed"])
    for problem in report["problems"]:
        out.warn(problem)


def _state(row: dict[str, Any]) -> str:
    """The mark of what was withdrawn, with its reason; nothing for what is active or unknown."""
    if row["state"] in (None, "active"):
        return ""
    return f"{row['state']}: {row['reason']}" if row["reason"] else str(row["state"])


def _withdrawn(row: dict[str, Any]) -> str:
    """A line of what is installed and withdrawn, with what to do."""
    line = f"{row['name']} {row['version']} is {_state(row)}"
    return f"{line}; take instead: hubcli install {row['instead']}" if row["instead"] else line


@command(examples="hubcli info sentiment/bert-lora\nhubcli info hf:org/repo")
@click.argument("ref")
def info(out: Output, ref: str, offline: bool) -> None:
    """Show what is known about one adapter: releases, base, files, metrics, licence, where it comes from."""
    report = api.info(ref, offline=offline)
    out.data(report, _info_lines(report))
    for warning in report["warnings"]:
        out.warn(warning)


def _info_lines(report: dict[str, Any]) -> list[str]:
    release, base = report["release"], report["release"]["base"] or {}
    rows = [
        ("name", report["name"]),
        ("description", report["description"]),
        ("version", f"{report['version']} (of {', '.join(report['versions'])})"),
        ("installed", ", ".join(report["installed"]) or "no"),
        ("index", report["index"]),
        ("method", f"{release['method'] or report['kind']} {_pairs(release['method_config'])}"),
        ("expression", release["expression"]),
        ("requires", ", ".join(f"{name} {spec}" for name, spec in release["requires"].items())),
        ("base", f"{base.get('id')} ({base.get('architecture')})"),
        ("task", release["task"]),
        ("language", ", ".join(release["language"])),
        ("license", release["license"]),
        ("labels", ", ".join((release["head"] or {}).get("labels", ()))),
        ("hub", _pairs(release["hub"] or {})),
        *((f"origin {key}", value) for key, value in (release.get("origin") or {}).items()),
        ("published", "at a time that nobody knows" if release["published"] == UNDATED else release["published"]),
        ("status", release["status"] + (f": {release['status_reason']}" if release["status_reason"] else "")),
    ]
    said = (report["version"], release["status"])
    told = [r for r in report["releases"] if _state(r) and (r["version"], r["state"]) != said]
    rows += [("release", f"{r['version']} {_state(r)}") for r in told]
    rows += [("metric", _metric(m)) for m in release["metrics"]]
    rows += [("measured here", _metric(m)) for m in report["measured"]]
    rows += [("file", f"{f['path']} {size(f['size'])} sha256:{f['sha256'][:12]}") for f in release["files"]]
    return columns([(key, str(value)) for key, value in rows if value], ("", ""))[1:]


def _pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _metric(metric: dict[str, Any]) -> str:
    interval = metric.get("interval")
    between = f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    value = f"{metric['name']} {metric['value']:.4f}{between}"
    return f"{value} on {metric['dataset']}, {metric['split']}" + (f", n={metric['n']:,}" if metric.get("n") else "")


@command(examples="hubcli outdated\nhubcli outdated --json")
@click.argument("refs", nargs=-1, metavar="[REF]...")
def outdated(out: Output, refs: tuple[str, ...], offline: bool) -> None:
    """List installed adapters that have a newer version in an index, and those that were withdrawn since."""
    report = api.outdated(*refs, offline=offline)
    rows = [(o["name"], o["installed"], o["latest"], o["index"]) for o in report["outdated"]]
    unchecked = report["unchecked"]
    none = f"{many(len(unchecked), 'adapter')} could not be checked" if unchecked else UP_TO_DATE
    lines = columns(rows, ("NAME", "INSTALLED", "LATEST", "INDEX")) if rows else []
    lines += [_withdrawn(row) for row in report["withdrawn"]]
    out.data(report, lines or [none])
    for skipped in unchecked:
        out.warn(f"{skipped['name']} could not be checked: {skipped['reason']}")


@command(writes=True, examples="hubcli upgrade\nhubcli upgrade sentiment/bert-lora")
@REFS
@NO_WAIT
def upgrade(out: Output, refs: tuple[str, ...], dry_run: bool, **options: Any) -> int:
    """Install the newest versions of the installed adapters (or of these). Old versions stay until they are uninstalled."""
    report = api.upgrade(*refs, dry_run=dry_run, progress=_progress(out), warn=out.warn, **options)
    lines = _installed_lines(report, dry_run=dry_run)
    lines += [_withdrawn(row) for row in report["withdrawn"]]
    return _finish(out, report, lines or ([] if report["failed"] else [UP_TO_DATE]))


@command(writes=True, examples="hubcli verify\nhubcli verify sentiment/bert-lora --repair")
@REFS
@click.option("--repair", is_flag=True, help="Fetch modified and missing files again, remove extra ones.")
def verify(out: Output, refs: tuple[str, ...], **options: Any) -> int:
    """Hash installed files again and compare: ok, modified, missing, extra or unverifiable (exit 4 unless all are ok)."""
    report = api.verify(*refs, progress=_progress(out), warn=out.warn, **options)
    lines = []
    for adapter in report["adapters"]:
        state = "repaired, now ok" if adapter["repaired"] else adapter["status"]
        lines.append(f"{state}: {adapter['name']} {adapter['version']}")
        lines += [f"  {problem}" for problem in adapter["problems"]]
    out.data(report, lines or ["no adapter is installed"])
    for adapter in report["adapters"]:
        if _state(adapter):
            out.warn(_withdrawn({**adapter, "instead": None}))
    return 0 if report["ok"] else 4


def _progress(out: Output) -> bool:
    """Whether to show progress; the progress bar itself shows only when stderr is a terminal."""
    return not (out.quiet or out.json)
