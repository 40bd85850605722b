"""Fault points for crash tests: `HUBCLI_HUB_FAULT_POINT=name` makes the server kill itself there.

`name:3` means the third time the point is reached. The points: of an upload, each-mib, before-blob, after-blob; of a
change to a repo, before-commit, after-commit, before-refs, after-refs; of a pull request, before-discussion,
after-discussion; of a repo as a whole, before-create, after-create, before-move, after-move, before-delete, after-delete.
"""

from __future__ import annotations

from typing import Final

from hubcli.fault_points import reaching

VARIABLE: Final = "HUBCLI_HUB_FAULT_POINT"
POINTS: Final = (
    *("each-mib", "before-blob", "after-blob", "before-commit", "after-commit", "before-refs", "after-refs"),
    *("before-discussion", "after-discussion", "before-create", "after-create", "before-move", "after-move"),
    *("before-delete", "after-delete"),
)
reach = reaching(VARIABLE)
