"""`hubcli …` in a process of its own, where the checks of a folder are replaced by a draft that is made at once."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubcli.publishing.checks import check_known
from hubcli.publishing.findings import raise_findings
from tests.publish.pushed import draft_of


def quick(
    folder: Path, *, name: str, version: str, description: str | None, authors: Any, known_names: Any, **_: Any
) -> Any:
    """A draft of the folder's files; of the checks that of its name alone."""
    raise_findings(name, check_known(name, known_names))
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    made = draft_of(files, name=name, version=version)
    return replace(made, description=description or made.description) if authors or description else made


def install(monkeypatch: Any = None) -> None:
    """Take the place of the checks, for good or as long as a test's monkeypatch holds."""
    module = types.ModuleType("hubcli.api.drafting")
    module.draft = quick  # type: ignore[attr-defined]
    if monkeypatch is None:
        sys.modules[module.__name__] = module
    else:
        monkeypatch.setitem(sys.modules, module.__name__, module)


if __name__ == "__main__":
    install()
    from hubcli.cli.main import run

    sys.exit(run(sys.argv[1:]))
