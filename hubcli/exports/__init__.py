"""Exports: what a handle does, written as one file for another runtime.

`pt2` (torch.export) and `onnx` hold the model under a composition; they are traced, written beside the target, read back and
run before the file appears. Other formats are a method's own (`hubcli.method.Method.exports`): they hold its adapters alone.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubcli.errors import AdapterError, DiskError, MissingExtraError, NotFoundError, UsageError

if TYPE_CHECKING:
    from hubcli.adapted import Adapted

Json = dict[str, Any]
FORMATS = {
    "pt2": "the model under any composition, for torch.export.load",
    "onnx": "the same for encoders like BERT, for onnxruntime",
    "gguf": "the LoRAs alone, as one, for llama.cpp",
}
TRACED = ("pt2", "onnx")
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "gguf": ("gguf",)}


@dataclass(frozen=True)
class Wish:
    """What is asked for: `dtype` is how numbers are stored where the format has a choice, `opset` is ONNX's."""

    to: str
    out: Path
    dtype: str | None = None
    opset: int | None = None
    force: bool = False
    dry_run: bool = False
    note: Callable[[str], None] = field(default=lambda text: None)

    @property
    def traced(self) -> bool:
        """Whether the format holds the model, not adapters alone."""
        return self.to in TRACED

    @property
    def base_dtype(self) -> str | None:
        """What the base of a traced model is loaded in."""
        return self.dtype or ("float32" if self.to == "onnx" else None)


def check(wish: Wish) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        UsageError, NotFoundError, MissingExtraError: see `export`.
    """
    check_format(wish.to)
    check_target(wish.out, wish.force)
    missing = [name for name in NEEDED.get(wish.to, ()) if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"export to {wish.to} needs {', '.join(missing)}, not installed here",
            hint=f"pip install 'hubcli[{wish.to}]'",
        )
    if wish.opset is not None and wish.to != "onnx":
        raise UsageError(f"opset is for onnx, not for {wish.to}")


def check_format(to: str) -> None:
    """Refuse a format that is none.

    Raises:
        UsageError: names those there are.
    """
    if to in FORMATS:
        return
    close = difflib.get_close_matches(to.lower(), FORMATS, 1, 0.4)
    hint = f"did you mean '{close[0]}'?" if close else None
    raise UsageError(f"'{to}' is no format to export to; there are {', '.join(FORMATS)}", hint=hint)


def check_target(out: Path, force: bool) -> None:
    """Refuse a place where no file can appear, or where one stands.

    Raises:
        UsageError: a folder, or a file without `force`. NotFoundError: no such folder.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder: expected the name of a file")
    if not out.parent.is_dir():
        raise NotFoundError(f"no folder {out.parent}", hint="make it first")
    if (out.exists() or out.is_symlink()) and not force:
        raise UsageError(f"{out} is there already", hint="force=True (--force) replaces it")


def export(handle: Adapted, wish: Wish) -> Json:
    """Write what is active as a file; the report says what is in it and how far it is from the model.

    Raises:
        UsageError: an unknown format, a file that is there. NotFoundError: no such folder.
        UnsupportedError: the composition, model or method can't be written so. MissingExtraError: a package is missing.
        AdapterError: the file read back does not do what the model does. DiskError: it can't be written.
    """
    check(wish)
    handle.engine.entrance.check_idle("export")
    if wish.traced:
        from hubcli.exports.runs import write
    else:
        from hubcli.exports.by_method import write
    with appearing(wish) as file:
        found = write(handle, wish, file)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size = file.stat().st_size
    return {
        "format": wish.to,
        "path": str(wish.out),
        "written": not wish.dry_run,
        "size": size,
        "sha256": digest,
        "expression": str(handle.engine.routing.program(False)),
        "base": base_id(handle),
        **found,
    }


@contextlib.contextmanager
def appearing(wish: Wish) -> Iterator[Path]:
    """A file to write to that takes the target's name at the end, whole, or goes; with `dry_run` it always goes.

    Raises:
        DiskError: there is no room, or no right to write.
    """
    folder = Path(tempfile.gettempdir()) if wish.dry_run else wish.out.parent
    try:
        number, name = tempfile.mkstemp(prefix=f".{wish.out.name}.", suffix=".part", dir=folder)
    except OSError as error:
        raise DiskError(f"can't write in {folder}", cause=error.strerror) from error
    os.close(number)
    file = Path(name)
    try:
        yield file
        if not wish.dry_run:
            _settle(file, wish)
    except OSError as error:
        raise DiskError(f"can't write {wish.out}", cause=error.strerror or str(error)) from error
    finally:
        file.unlink(missing_ok=True)


def _settle(file: Path, wish: Wish) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
    if wish.force:
        file.replace(wish.out)
        return
    try:
        os.link(file, wish.out)  # unlike a rename it fails where a file has appeared meanwhile
    except FileExistsError:
        check_target(wish.out, wish.force)
        raise
    except OSError:  # a file system without links
        check_target(wish.out, wish.force)
        file.replace(wish.out)


def base_id(handle: Adapted) -> str | None:
    """The base's name on the hub; None where it is not known, or only a folder of this machine."""
    from hubcli.bases import shared_id

    adapters = handle.engine.adapters
    program = handle.engine.routing.program(False)
    known = [handle.base, *(adapters[name].base for name in program.names)]
    return shared_id(base.id for base in known if base is not None)


def agree(difference: float, allowed: float, what: str) -> None:
    """Refuse a file that does something else than the model.

    Raises:
        AdapterError: how far they are apart. NaN counts as apart.
    """
    if not difference <= allowed:
        raise AdapterError(
            f"{what} is {difference:.3g} from what the model gives, more than {allowed:.3g}: it was not kept",
            hint="this is a fault of the export, not of the adapter: please report it",
        )
