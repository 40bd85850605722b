"""How much a hub takes: sizes of files and repos."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hubcli.server.contents import contents, pending
from hubcli.server.faults import TooLarge
from hubcli.server.repo import Repo
from hubcli.sizes import size

MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_file` bytes a file; `max_repo` bytes a repo, all its commits and what was sent for more together.

    Files above `lfs_above` go by LFS.
    """

    max_file: int = 10_000 * MB
    max_repo: int = 100_000 * MB
    lfs_above: int = 512 * MB

    def check_file(self, path: str, count: int) -> None:
        """TooLarge for a file of this many bytes or more."""
        if count > self.max_file:
            raise TooLarge(f"{path}: {_numbers(count)}; this hub takes files of at most {_numbers(self.max_file)}")

    def check_repo(self, repo: Repo, new: Iterable[tuple[str | None, int]], *, sent: bool = True) -> None:
        """TooLarge if these contents, (sha256 if known, bytes), would make the repo larger than it may be.

        `sent` False does not count what was sent and never committed: of contents without a sha256, some may be that.
        """
        kept = held(repo) if sent else contents(repo)
        wanted = {sha256 or str(count): bytes_ for count, (sha256, bytes_) in enumerate(new) if sha256 not in kept}
        used, more = sum(kept.values()), sum(wanted.values())
        if used + more > self.max_repo:
            raise TooLarge(
                f"{repo.id}: {_numbers(more)} more than its {_numbers(used)};"
                f" this hub takes repos of at most {_numbers(self.max_repo)}, all commits together"
            )


def held(repo: Repo) -> dict[str, int]:
    """sha256 → bytes of all that counts for a repo: what its commits name, and what was sent and none names yet."""
    named = contents(repo)
    return named | pending(repo, named)


def _numbers(count: int) -> str:
    return f"{size(count)} ({count} bytes)"
