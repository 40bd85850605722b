"""torch.export's own file: `torch.export.load(file).module()` runs it, without hubcli or transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from hubcli.exports.traced import quietly

if TYPE_CHECKING:
    from hubcli.adapted import Adapted
    from hubcli.exports import Wish


def check(handle: Adapted, wish: Wish) -> None:
    """Any model may come."""
    del handle, wish


def save(program: ExportedProgram, file: Path, notes: dict[str, Any], wish: Wish) -> dict[str, Any]:
    """Write the program."""
    del notes, wish
    with quietly(), file.open("wb") as opened:
        torch.export.save(program, opened)
    return {}


def opened(file: Path) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The program in a file."""
    with quietly(), file.open("rb") as stream:
        module = torch.export.load(stream).module()
    return lambda sample: module(**sample)
