"""Fault points for crash tests: an environment variable names the point at which the process kills itself.

`name:3` means the third time the point is reached. Which points there are stands with those who reach them:
hubcli/store/faults.py and hubcli/server/crash.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def reaching(variable: str) -> Callable[[str], None]:
    """A function that dies by SIGKILL at the point that `variable` names, and does nothing at any other."""
    seen: dict[str, int] = {}

    def reach(point: str) -> None:
        wanted = os.environ.get(variable)
        if wanted is None or wanted.partition(":")[0] != point:
            return
        seen[point] = seen.get(point, 0) + 1
        if seen[point] >= int(wanted.partition(":")[2] or 1):
            import signal

            os.kill(os.getpid(), signal.SIGKILL)

    return reach
