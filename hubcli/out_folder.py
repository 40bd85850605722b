"""A folder that a command writes: it appears whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from hubcli.errors import DiskError, UsageError


def check_free(folder: Path, *, replace: bool = False) -> None:
    """Refuse a place where something is already; an empty folder is free.

    Raises:
        UsageError: a file, or a folder that is not empty and may not be replaced.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is no folder: nothing is written over it")
    if not replace and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty", hint="choose another folder, or say that it may be replaced: --force"
        )


@contextlib.contextmanager
def appearing(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder beside `folder` to write into; at the end one rename puts it in place.

    After an error, or Ctrl-C, the temporary folder is gone and what was there before is there still.

    Raises:
        UsageError: as `check_free`. DiskError: the place can't be written to.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link
    check_free(folder, replace=replace)
    new = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = _sibling(folder)
        made.mkdir()
    except OSError as error:
        _tidy(new)
        raise DiskError(f"can't write {folder}", cause=error.strerror) from error
    try:
        yield made
        _put(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        _tidy(new)
        raise


def _tidy(parents: Iterable[Path]) -> None:
    """Take away the folders that were made on the way, innermost first, where nothing else is in them."""
    for parent in parents:
        with contextlib.suppress(OSError):
            parent.rmdir()


def _put(made: Path, folder: Path) -> None:
    """Rename; what stood there is moved aside first, and back again if the rename fails."""
    if not folder.exists():
        made.rename(folder)
        return
    aside = _sibling(folder)
    folder.rename(aside)
    try:
        made.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sibling(folder: Path) -> Path:
    """A name that nothing has, hidden, in the same folder, so that a rename is one step."""
    return folder.parent / f".{folder.name}-{secrets.token_hex(6)}"
