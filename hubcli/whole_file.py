"""A file that is written whole: whoever reads sees what was there before, or all of what is there after."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hubcli.errors import DiskError


def write_whole(file: Path, data: bytes) -> None:
    """Put bytes in the place of a file, which keeps its rights; its folder is made where there is none.

    Raises:
        DiskError: it can't be written; nothing is left of the attempt.
    """
    temporary = file.with_name(f".{file.name}-{secrets.token_hex(6)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if file.exists():
                temporary.chmod(file.stat().st_mode & 0o777)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DiskError(f"can't write {file}", cause=error.strerror) from None
