"""TOML files of ours: read within a limit, written whole and put in place by a rename."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hubcli.errors import DiskError, HubcliError

LIMIT = 1024 * 1024


def read(file: Path, error: type[HubcliError], id: str, *, limit: int = LIMIT) -> dict[str, Any]:
    """The document of a file that exists.

    Raises:
        error: with `id`; it is over `limit` bytes, or not TOML.
        DiskError: it can't be read.
    """
    import tomllib

    try:
        if (size := file.stat().st_size) > limit:
            raise error(f"{file}: expected at most {limit} bytes, found {size}", id=id)
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise error(f"{file}: not TOML: {cause}", id=id) from None
    except OSError as cause:
        raise DiskError(f"can't read {file}", cause=cause.strerror) from None


def write(file: Path, text: str) -> bool:
    """Put a text in place; False where it is there already, byte for byte.

    Raises:
        DiskError: it can't be written.
    """
    data = text.encode()
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        if file.exists() and file.read_bytes() == data:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskError(f"can't write {file}", cause=error.strerror) from None
    return True
