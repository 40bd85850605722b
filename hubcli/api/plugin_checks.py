"""Plugins, listed without importing them and tried one by one in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hubcli.discovery import Found
from hubcli.errors import NotFoundError
from hubcli.plugins import Failure, plugins

MEND = "reinstall or upgrade its package, or switch it off with HUBCLI_DISABLE_PLUGINS={}"

# What the child runs: load one plugin (and the class of a method), print the failure as JSON on the last line of stdout.
_CHILD = """
import dataclasses, json, sys
from hubcli.errors import HubcliError
from hubcli.plugins import plugins
name, kind = sys.argv[1:]
found = plugins()
try:
    found.load(name) and kind == "method" and found.method_class(name)
except HubcliError:
    pass
print(json.dumps([dataclasses.asdict(f) for f in found.failures if f.plugin == name]))
"""


def plugins_list() -> dict[str, Any]:
    """All plugins as their packages declare them (schemas/cli/plugins-list)."""
    known = plugins()
    rows = [
        {"name": p.name, "kind": p.kind, **_package(p), "module": p.module, "disabled": p.name in known.disabled}
        for _, p in sorted(known.found.items())
    ]
    return {"plugins": rows}


def plugins_info(name: str) -> dict[str, Any]:
    """One plugin; a method's is loaded (schemas/cli/plugins-info).

    Raises:
        NotFoundError: no such plugin; names close ones.
        PluginError: it can't be loaded.
    """
    plugin = _found(name)
    document = {"name": plugin.name, "kind": plugin.kind, "module": plugin.module, **_package(plugin)}
    if plugin.kind != "method":
        return {**document, "class": None, "claims": None, "config_keys": []}
    method = plugins().method(name)
    claims = ", ".join(f"{key} {_claim(value)}" for key, value in method.claims.items())
    return {
        **document,
        "class": method.load,
        "claims": claims or None,
        "config_keys": sorted(method.config_schema.get("properties", ())),
    }


def _claim(claim: str | dict[str, Any]) -> str:
    return claim if isinstance(claim, str) else " ".join(f"{key}={value}" for key, value in claim.items())


def plugins_doctor(*names: str, timeout: float = 120) -> dict[str, Any]:
    """Load each plugin in a process of its own, at most `timeout` seconds each (schemas/cli/plugins-doctor).

    Raises:
        NotFoundError: no plugin of that name.
    """
    known = plugins()
    wanted = [_found(name) for name in names] or [p for _, p in sorted(known.found.items())]
    losers = [f for f in known.failures if f.phase == "discovery" and (not names or f.plugin in names)]
    rows = [_row(p.name, p.distribution, p.version, _try(p, timeout)) for p in wanted]
    rows += [_row(f.plugin, f.distribution, f.version, f) for f in losers]
    return {"ok": all(row["ok"] for row in rows), "plugins": rows}


def _row(name: str, distribution: str, version: str, failure: Failure | None) -> dict[str, Any]:
    reason = {key: getattr(failure, key) if failure else None for key in ("phase", "cause", "hint")}
    if failure and failure.phase != "discovery":
        reason["hint"] = MEND.format(name)
    return {"name": name, "distribution": distribution, "version": version, "ok": failure is None, **reason}


def _try(plugin: Found, timeout: float) -> Failure | None:
    def fail(cause: str) -> Failure:
        return Failure(plugin.name, plugin.distribution, plugin.version, "import", cause, "")

    # the child must see the plugins this process sees, also where sys.path was changed by hand
    preamble = f"import sys; sys.path[:] = {sys.path!r}\n"
    command = [sys.executable, "-c", preamble + _CHILD, plugin.name, plugin.kind]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return fail(f"still loading after {timeout:g} s")
    try:
        failures = [Failure(**f) for f in json.loads(done.stdout.splitlines()[-1])]
    except (IndexError, ValueError, TypeError):
        return fail(f"the process ended with exit code {done.returncode} and no answer")
    return failures[0] if failures else None


def _package(plugin: Found) -> dict[str, str]:
    return {"distribution": plugin.distribution, "version": plugin.version}


def _found(name: str) -> Found:
    known = plugins().found
    if name not in known:
        import difflib

        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"plugins: {', '.join(sorted(known))}"
        raise NotFoundError(f"no plugin named '{name}'", hint=hint)
    return known[name]
