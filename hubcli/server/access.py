"""Who is asking, and what they may know of and change."""

from __future__ import annotations

import enum
import hmac

from hubcli.errors import UsageError
from hubcli.server.faults import (
    GatedFault,
    GatedSignInNeeded,
    RepoMissing,
    SignInNeeded,
    WriteDenied,
    WriteSignInNeeded,
)
from hubcli.server.repo import Repo
from hubcli.server.repos import RepoStore

_ONLY_READS = "this hub server only reads: it was started without a token, or with --read-only"


class Caller(enum.Enum):
    """Anonymous: no Authorization header. Writer: the server's token. Reader: its read token. Stranger: anything else."""

    ANONYMOUS = "anonymous"
    READER = "reader"
    WRITER = "writer"
    STRANGER = "stranger"

    @property
    def is_member(self) -> bool:
        """Whether private and gated repos are open to this caller."""
        return self in (Caller.READER, Caller.WRITER)


class Access:
    """One token reads and writes every repo, another one only reads; `read_only` makes the first like the second.

    Without a token nobody writes, and without any, private and gated files are closed to all. A token is never part of
    a message, a log line or a repr.
    """

    def __init__(self, token: str | None, read_token: str | None = None, *, read_only: bool = False):
        self._token, self._read_token = _checked(token, "hub token"), _checked(read_token, "hub read token")
        if self._token is not None and self._token == self._read_token:
            raise UsageError("hub read token: expected another one than the hub token")
        self._read_only = read_only or token is None

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this Authorization header; compared in constant time."""
        if authorization is None:
            return Caller.ANONYMOUS
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode()
        writer, reader = _same(token, self._token), _same(token, self._read_token)
        if scheme.lower() != "bearer" or not (writer or reader):
            return Caller.STRANGER
        return Caller.WRITER if writer and not self._read_only else Caller.READER

    def may_see(self, repo: Repo, caller: Caller) -> bool:
        """Whether the repo exists, as far as this caller can tell."""
        return caller.is_member or not repo.settings.private

    def find(self, store: RepoStore, repo_type: str, repo_id: str, caller: Caller) -> Repo:
        """The repo; RepoMissing or SignInNeeded, the same for a missing repo and for one kept from this caller."""
        try:
            repo = store.repo(repo_type, repo_id)
            if self.may_see(repo, caller):
                return repo
        except RepoMissing:
            pass
        message = f"no {repo_type} repo {repo_id}, or it is private"
        if caller is Caller.ANONYMOUS and (self._token is not None or self._read_token is not None):
            raise SignInNeeded(f"{message} and needs a token")
        raise RepoMissing(message)

    def check_files(self, repo: Repo, caller: Caller) -> None:
        """GatedFault or GatedSignInNeeded if this caller may not read the files."""
        if not repo.settings.gated or caller.is_member:
            return
        message = f"access to {repo.settings.type} {repo.settings.id} is restricted"
        if caller is Caller.ANONYMOUS:
            raise GatedSignInNeeded(f"{message}: a token is needed")
        raise GatedFault(f"{message}: this token does not open it")

    def check_write(self, caller: Caller) -> None:
        """WriteSignInNeeded or WriteDenied if this caller may change nothing here."""
        if caller is Caller.WRITER:
            return
        if self._read_only:
            raise WriteDenied(_ONLY_READS)
        if caller is Caller.ANONYMOUS:
            raise WriteSignInNeeded("Invalid username or password.")
        if caller is Caller.STRANGER:
            raise WriteSignInNeeded("Invalid credentials in Authorization header")
        raise WriteDenied("this token may read and not write; writing needs the hub's own token")

    def signing_key(self) -> bytes:
        """What upload addresses are signed with: a key that every process with the same token has.

        WriteDenied where nobody writes.
        """
        if self._token is None or self._read_only:
            raise WriteDenied(_ONLY_READS)
        return hmac.digest(self._token, b"hubcli upload address", "sha256")


def _checked(token: str | None, what: str) -> bytes | None:
    if token is not None and not (token.isascii() and token.isprintable() and token and " " not in token):
        raise UsageError(f"{what}: expected printable ASCII without spaces, found something else")
    return token.encode() if token is not None else None


def _same(given: bytes, token: bytes | None) -> bool:
    return token is not None and hmac.compare_digest(given, token)
