"""What stands against publishing: gathered, and said all at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from hubcli.errors import EXIT_CODES, HubcliError, PublishError
from hubcli.frozen import frozen
from hubcli.schema import Fault

E = TypeVar("E", bound=HubcliError)


@frozen
class Finding:
    """One thing that stands against publishing.

    `where` is the file or the field; `what` the thing in it, or a whole message where nothing is `expected`; `id` an error id.
    """

    where: str
    what: str
    expected: str = ""
    found: str = ""
    hint: str | None = None
    id: str = "E_PUBLISH"

    def __str__(self) -> str:
        said = self.what if self.what.startswith(self.where) else ": ".join(filter(None, (self.where, self.what)))
        return f"{said}: expected {self.expected}, found {self.found}" if self.expected else said


def of_error(where: str, error: HubcliError) -> Finding:
    """An error of a check that serves elsewhere too, with its id."""
    cause = f" ({error.cause})" if error.cause else ""
    return Finding(where, error.message + cause, hint=error.hint, id=error.id)


def of_fault(fault: Fault) -> Finding:
    """A fault of the entry that this would become."""
    return Finding("entry", fault.field or "document", fault.expected, fault.found, id=fault.id)


def raise_findings(folder: str, findings: Iterable[Finding]) -> None:
    """Raise one error that says all; nothing where there are none.

    Raises:
        PublishError: its id is the first finding's, its hint the first that there is, its `findings` a line each.
    """
    found = list(dict.fromkeys(findings))
    if found:
        error = gather(PublishError, f"{folder} can't be published", found)
        error.findings = tuple(map(str, found))
        raise error


def gather(kind: type[E], what: str, found: list[Finding]) -> E:
    """One error of several findings: a line for whoever reads one, and each with its own hint in `parts`."""
    count = f"{len(found)} things stand against it" if len(found) > 1 else ""
    summary = ": ".join(filter(None, (what, count)))
    error = kind(
        ": ".join(filter(None, (summary, "; ".join(map(str, found))))),
        hint="; ".join(dict.fromkeys(finding.hint for finding in found if finding.hint)) or None,
        id=found[0].id if found[0].id in EXIT_CODES else None,
    )
    error.summary = summary
    error.parts = tuple({"id": one.id, "message": str(one), "hint": one.hint} for one in found)
    return error
