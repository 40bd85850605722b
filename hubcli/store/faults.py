"""Fault points for crash tests: `HUBCLI_FAULT_POINT=name` makes the process kill itself there.

`name:3` means the third time the point is reached. The points, in the order of an install: after-open, each-mib, before-fsync,
after-fsync, before-convert, after-convert (of pickled weights), before-blob, after-blob, before-manifest, after-manifest,
before-rename, after-rename, before-unlock; and of taking an adapter away: before-aside, after-aside.
"""

from __future__ import annotations

import os

VARIABLE = "HUBCLI_FAULT_POINT"
POINTS = (
    "after-open",
    "each-mib",
    "before-fsync",
    "after-fsync",
    "before-convert",
    "after-convert",
    "before-blob",
    "after-blob",
    "before-manifest",
    "after-manifest",
    "before-rename",
    "after-rename",
    "before-unlock",
    "before-aside",
    "after-aside",
)
_seen: dict[str, int] = {}


def reach(point: str) -> None:
    """Die by SIGKILL here if the environment asks for it; otherwise do nothing."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None or wanted.partition(":")[0] != point:
        return
    _seen[point] = _seen.get(point, 0) + 1
    if _seen[point] >= int(wanted.partition(":")[2] or 1):
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
