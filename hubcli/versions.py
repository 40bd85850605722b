"""SemVer 2 versions and ranges through `semantic_version`, which is imported when a choice has to be made (16 ms)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from hubcli.errors import RefError


class Range:
    """What `@…` of a ref allows: "" any, `1.2` 1.2.x, `1.2.3` exactly that, `^ ~ >= <` as in npm; comma or
    space is and.

    Prereleases match only where the range names one of the same version.

    Raises:
        RefError: the text is no range.
    """

    def __init__(self, text: str):
        self.text = text.strip()
        self.exact = self.text.lstrip("=").strip() if self._is_exact() else None
        if self.text and self.exact is None:
            _ = self._spec

    def _is_exact(self) -> bool:
        core = self.text.lstrip("=").strip().partition("+")[0].partition("-")[0].split(".")
        return (
            len(core) == 3
            and all(part.isascii() and part.isdigit() for part in core)
            and _valid(self.text.lstrip("= "))
        )

    @cached_property
    def _spec(self) -> Any:
        from semantic_version import NpmSpec

        try:
            return NpmSpec(" ".join(self.text.replace(",", " ").split()))
        except ValueError:
            hint = "write 1.2 (any 1.2.x), 1.2.3 (exactly that), ^1.2, ~1.2, '>=1,<2'"
            raise RefError(f"'{ascii(self.text)[1:-1]}' is no version range", hint=hint) from None

    def allows(self, version: str) -> bool:
        """Is this version inside the range?"""
        if self.exact is not None:
            return version.partition("+")[0] == self.exact.partition("+")[0]
        if not self.text:
            return "-" not in version.partition("+")[0]
        from semantic_version import Version

        return bool(self._spec.match(Version(version)))

    def newest(self, versions: Iterable[str]) -> str | None:
        """The newest version inside the range, or None."""
        return newest(v for v in versions if self.allows(v))


def newest(versions: Iterable[str]) -> str | None:
    """The version of highest precedence, or None of none."""
    known = list(versions)
    if len(known) < 2:
        return known[0] if known else None
    return in_order(known)[-1]


def in_order(versions: Iterable[str]) -> list[str]:
    """Versions by SemVer precedence, oldest first."""
    known = list(versions)
    if len(known) < 2:
        return known
    from semantic_version import Version

    return sorted(known, key=lambda v: Version(v).precedence_key)


def _valid(text: str) -> bool:
    if text.replace(".", "").isdigit() and not any(p.startswith("0") and p != "0" for p in text.split(".")):
        return True
    from semantic_version import validate

    return bool(validate(text))
