"""What the storage and the importer refuse, as errors of hubcli's tree that also know the hub's own error codes.

`code` is what the Hugging Face client reads from `X-Error-Code`; `status` is the HTTP status that goes with it.
"""

from __future__ import annotations

from typing import ClassVar

from hubcli.errors import HubcliError, NotFoundError, PolicyError, UsageError


class HubFault(HubcliError):
    """Base of the answers that are no success; `code` is empty where the client needs only the status."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = ""


class BadRequestFault(HubFault, UsageError):
    """A name, path, cursor or parameter that can't be right on any hub."""

    default_id = "E_USAGE"
    status = 400


class RepoMissing(HubFault, NotFoundError):
    """No such repo, or one that this caller may not know of."""

    default_id = "E_NOT_FOUND"
    status = 404
    code = "RepoNotFound"


class SignInNeeded(RepoMissing):
    """The same to a caller without a token: a private repo and a missing one look alike."""

    status = 401


class RevisionMissing(HubFault, NotFoundError):
    """The repo has no such branch, tag or commit."""

    default_id = "E_NOT_FOUND"
    status = 404
    code = "RevisionNotFound"


class EntryMissing(HubFault, NotFoundError):
    """The commit has no such file; `commit` is the commit that was asked."""

    default_id = "E_NOT_FOUND"
    status = 404
    code = "EntryNotFound"

    def __init__(self, message: str, *, commit: str):
        super().__init__(message)
        self.commit = commit


class DiscussionMissing(HubFault, NotFoundError):
    """The repo has no discussion or pull request of this number."""

    default_id = "E_NOT_FOUND"
    status = 404


class GatedFault(HubFault, PolicyError):
    """The repo may be known to this caller, and its files may not be read."""

    default_id = "E_POLICY"
    status = 403
    code = "GatedRepo"


class GatedSignInNeeded(GatedFault):
    """The same to a caller without a token."""

    status = 401


class WriteSignInNeeded(HubFault, PolicyError):
    """A write from a caller without a token, or with one that this hub does not know."""

    default_id = "E_POLICY"
    status = 401


class WriteDenied(HubFault, PolicyError):
    """A write that this caller, this hub or this repo does not allow."""

    default_id = "E_POLICY"
    status = 403


class Conflict(HubFault, PolicyError):
    """Something of this name is there already, or a pull request can't be merged."""

    default_id = "E_POLICY"
    status = 409


class RepoExists(Conflict):
    """A repo of this type and id is there already."""

    def __init__(self, message: str, *, repo_type: str, repo: str):
        super().__init__(message)
        self.repo_type, self.repo = repo_type, repo


class Moved(HubFault, PolicyError):
    """A branch is not where the commit expects it: somebody committed in between."""

    default_id = "E_POLICY"
    status = 412


class TooLarge(HubFault, PolicyError):
    """More bytes than this hub takes."""

    default_id = "E_POLICY"
    status = 413


class BodyFault(BadRequestFault):
    """A request body that can't be read; the same for every body that no client sends."""


class NotImplementedFault(HubFault):
    """Something the Hugging Face Hub does and this server does not."""

    status = 501
