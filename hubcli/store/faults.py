"""Fault points for crash tests: `HUBCLI_FAULT_POINT=name` makes the process kill itself there.

`name:3` means the third time the point is reached. The points, in the order of an install: after-open, each-mib, before-fsync,
after-fsync, before-convert, after-convert (of pickled weights), before-blob, after-blob, before-manifest, after-manifest,
before-rename, after-rename, before-unlock; and of taking an adapter away: before-aside, after-aside.
"""

from __future__ import annotations

from hubcli.fault_points import reaching

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
reach = reaching(VARIABLE)
