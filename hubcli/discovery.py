"""Which plugins there are: names from `*.dist-info/entry_points.txt` on `sys.path`, read by hand.

`importlib.metadata` costs more than the rest of `--help`, so this module imports next to nothing and no plugin.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

GROUP = "hubcli.plugins"
KINDS = ("base", "hub", "index", "cli", "event")


class Found(NamedTuple):
    """A plugin as its package declares it: four strings; nothing of it is imported yet."""

    name: str
    module: str
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        """One of method, base, hub, index, cli, event."""
        head, dash, _ = self.name.partition("-")
        return head if dash and head in KINDS else "method"

    @property
    def provides(self) -> str:
        """The name without the kind's prefix: the method, the command, …"""
        return self.name if self.kind == "method" else self.name.partition("-")[2]


def scan(path: list[str]) -> Iterator[Found]:
    """Entry points of our group on `path`; a distribution that appears twice counts where it comes first."""
    seen: set[str] = set()
    for folder in path:
        try:
            names = sorted(name for name in os.listdir(folder or ".") if name.endswith(".dist-info"))
        except OSError:
            continue
        for name in names:
            distribution, _, version = name.removesuffix(".dist-info").partition("-")
            distribution = distribution.replace("_", "-").lower()
            if distribution not in seen:
                seen.add(distribution)
                yield from _declared(os.path.join(folder, name, "entry_points.txt"), distribution, version)


def _declared(file: str, distribution: str, version: str) -> Iterator[Found]:
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError):
        return
    section = ""
    for line in map(str.strip, text.splitlines() if GROUP in text else ()):
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == GROUP and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield Found(name.strip(), value.split(":")[0].split("[")[0].strip(), distribution, version)


def disabled() -> set[str]:
    """The plugins that HUBCLI_DISABLE_PLUGINS switches off, by name."""
    return {name.strip() for name in os.environ.get("HUBCLI_DISABLE_PLUGINS", "").split(",") if name.strip()}
