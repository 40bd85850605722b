"""torch.export's own file: `torch.export.load(file).module()` runs it, without hubcli or transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

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


class Patient:
    """A file for torch's writer, which ends the whole process when a write fails: the first error waits until it is done."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or pretend to after an error."""
        if self.error is None:
            try:
                self.stream.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is closed."""


def save(program: ExportedProgram, file: Path, notes: dict[str, Any], wish: Wish) -> dict[str, Any]:
    """Write the program."""
    del notes, wish
    with file.open("wb") as stream:
        patient = Patient(stream)
        with quietly():
            torch.export.save(program, patient)  # type: ignore[arg-type]
        if patient.error is not None:
            raise patient.error
    return {}


def opened(file: Path) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The program in a file."""
    with quietly(), file.open("rb") as stream:
        module = torch.export.load(stream).module()
    return lambda sample: module(**sample)
