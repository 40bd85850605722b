"""Fault points for crash tests: `HUBCLI_HUB_FAULT_POINT=name` makes the server kill itself there.

`name:3` means the third time the point is reached. The points: of an upload, each-mib, before-blob, after-blob; of a
change to a repo, before-commit, after-commit, before-refs, after-refs; of a pull request, before-discussion,
after-discussion; of a repo as a whole, before-create, after-create, before-move, after-move, before-delete, after-delete.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "HUBCLI_HUB_FAULT_POINT"
POINTS: Final = (
    *("each-mib", "before-blob", "after-blob", "before-commit", "after-commit", "before-refs", "after-refs"),
    *("before-discussion", "after-discussion", "before-create", "after-create", "before-move", "after-move"),
    *("before-delete", "after-delete"),
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
