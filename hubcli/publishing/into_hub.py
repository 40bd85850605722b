"""An index entry as a pull request on an index that is a dataset repository on the hub."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hubcli.errors import NotFoundError, RaceError, UsageError
from hubcli.index.sources import ENTRY_LIMIT, META, META_LIMIT
from hubcli.index.state import OWNERS, OWNERS_LIMIT
from hubcli.publishing.draft import DraftFile
from hubcli.publishing.place import Base, Waiting, Written
from hubcli.publishing.push import PAUSE, TRIES, title_of
from hubcli.publishing.refused import AGAIN, LostError
from hubcli.publishing.repository import Repository
from hubcli.store.faults import reach


class IntoHub:
    """A dataset repository whose main branch is the index."""

    kind = "hub"

    def __init__(self, repository: Repository, by: str | None = None, sleep: Callable[[float], None] = time.sleep):
        self.repository, self.by = repository, by
        self.where = f"hf:datasets/{repository.name}"
        self._sleep = sleep

    def base(self, name: str) -> Base:
        """The index as main has it.

        Raises:
            NotFoundError: there is no such repository, or nothing in it.
        """
        head = self.repository.state().head
        if head is None:
            raise NotFoundError(
                f"{self.repository.where}: no such index, or an empty one, or one this token may not see"
            )
        paths = self.repository.files(head)
        names = [
            p.removesuffix(".json") for p in paths if p.count("/") == 1 and p.endswith(".json") and p[0] not in "_."
        ]
        entry = self.repository.read(head, f"{name}.json", ENTRY_LIMIT) if f"{name}.json" in paths else None
        owners = self.repository.read(head, OWNERS, OWNERS_LIMIT) if OWNERS in paths else None
        meta = self.repository.read(head, META, META_LIMIT) if META in paths else None
        return Base(tuple(names), entry, owners, head, meta)

    def waiting(self, name: str, version: str) -> Waiting | None:
        """The entry in an open pull request of this title."""
        for number, head in self.proposals(title_of(name, version)):
            where = f"{self.repository.where}/discussions/{number}"
            entry = self.repository.read(head, f"{name}.json", ENTRY_LIMIT)
            written = Written(pull_request=where, next=where, changed=False)
            return Waiting(entry, written, "close that pull request, and run the same command again")
        return None

    def proposed(self, name: str) -> list[tuple[str, str]]:
        """(version, page) of this account's open pull requests for this entry."""
        start = title_of(name, "")
        found = self._open(lambda title: title.startswith(start))
        where = f"{self.repository.where}/discussions"
        return [(one.title.removeprefix(start), f"pull request {where}/{one.num}") for one in found]

    def planned(self, name: str, version: str) -> str:
        """The pull request."""
        return f"pull request '{title_of(name, version)}' on {self.repository.where}"

    def proposer(self) -> str | None:
        """The account that opens the pull request.

        Raises:
            UsageError: another one was named.
        """
        account = next(iter(self.repository.accounts()), None)
        if self.by is not None and self.by.lower() != (account or "").lower():
            message = (
                f"{self.repository.where}: the pull request will be by {account}, whose token it is, not by {self.by}"
            )
            raise UsageError(message, hint="without --by, or with the token of that account")
        return account

    def write(self, base: Base, files: Mapping[str, bytes], name: str, version: str) -> Written:
        """One pull request; one that was made while its answer was lost is found again.

        Raises:
            RaceError: main is no longer the base.
        """
        drafts = [DraftFile(path, len(data), "", None, data=data) for path, data in files.items()]
        title = title_of(name, version)
        for number in range(1, TRIES + 1):
            reach("publish-before-index")
            try:
                made = self.repository.commit(drafts, (), title=title, text="", parent=base.version, pull_request=True)
            except LostError:
                found = self.waiting(name, version)
                if found is not None:
                    return Written(pull_request=found.written.pull_request, next=found.written.next)
                if number == TRIES:
                    raise
                self._sleep(PAUSE * 2 ** (number - 1))
            else:
                reach("publish-after-index")
                where = f"{self.repository.where}/discussions/{made.pr_num}"
                return Written(pull_request=where, next=where)
        raise RaceError(f"{self.where}: no pull request could be made", hint=AGAIN)

    def proposals(self, title: str) -> Iterator[tuple[int, str]]:
        """(number, commit) of this account's open pull requests with a title, oldest first: anyone may open one called so."""
        for one in self._open(lambda known: known == title):
            with self.repository.client() as api:
                head = api.repo_info(self.repository.name, repo_type="dataset", revision=f"refs/pr/{one.num}").sha
            if head:
                yield one.num, head

    def _open(self, called: Callable[[str], bool]) -> list[Any]:
        """This account's open pull requests whose title is called so, oldest first."""
        accounts = self.repository.accounts()
        with self.repository.client() as api:
            found: Any = api.get_repo_discussions(
                self.repository.name, repo_type="dataset", discussion_type="pull_request", discussion_status="open"
            )
            own = [one for one in found if one.is_pull_request and called(one.title) and one.author in accounts]
        return sorted(own, key=lambda one: int(one.num))
