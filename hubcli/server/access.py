"""Who is asking, and what they may know of."""

from __future__ import annotations

import enum
import hmac

from hubcli.errors import UsageError
from hubcli.server.faults import GatedFault, GatedSignInNeeded, RepoMissing, SignInNeeded
from hubcli.server.repos import Repo, RepoStore


class Caller(enum.Enum):
    """Anonymous: no Authorization header. Member: the server's token. Stranger: anything else."""

    ANONYMOUS = "anonymous"
    MEMBER = "member"
    STRANGER = "stranger"


class Access:
    """One token opens every repo; without a token set, private and gated files are closed to all.

    The token is never part of a message, a log line or a repr.
    """

    def __init__(self, token: str | None):
        if token is not None and not (token.isascii() and token.isprintable() and token and " " not in token):
            raise UsageError("hub token: expected printable ASCII without spaces, found something else")
        self._token = token.encode() if token is not None else None

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this Authorization header; compared in constant time."""
        if authorization is None:
            return Caller.ANONYMOUS
        scheme, _, given = authorization.partition(" ")
        known = self._token is not None and hmac.compare_digest(given.strip().encode(), self._token)
        return Caller.MEMBER if known and scheme.lower() == "bearer" else Caller.STRANGER

    def may_see(self, repo: Repo, caller: Caller) -> bool:
        """Whether the repo exists, as far as this caller can tell."""
        return caller is Caller.MEMBER or not repo.settings.private

    def find(self, store: RepoStore, repo_type: str, repo_id: str, caller: Caller) -> Repo:
        """The repo; RepoMissing or SignInNeeded, the same for a missing repo and for one kept from this caller."""
        try:
            repo = store.repo(repo_type, repo_id)
            if self.may_see(repo, caller):
                return repo
        except RepoMissing:
            pass
        message = f"no {repo_type} repo {repo_id}, or it is private"
        if self._token is not None and caller is Caller.ANONYMOUS:
            raise SignInNeeded(f"{message} and needs a token")
        raise RepoMissing(message)

    def check_files(self, repo: Repo, caller: Caller) -> None:
        """GatedFault or GatedSignInNeeded if this caller may not read the files."""
        if not repo.settings.gated or caller is Caller.MEMBER:
            return
        message = f"access to {repo.settings.type} {repo.settings.id} is restricted"
        if caller is Caller.ANONYMOUS:
            raise GatedSignInNeeded(f"{message}: a token is needed")
        raise GatedFault(f"{message}: this token does not open it")
