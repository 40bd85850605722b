"""One repository on a hub, by the real client: what is there, and the few writes that publishing needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from hubcli.config import origin_of
from hubcli.errors import ContentError, NotFoundError, RaceError, UsageError
from hubcli.frozen import frozen
from hubcli.hashes import git_blob
from hubcli.hub.hf import file_url
from hubcli.hub.transport import HubHttp, own_endpoint
from hubcli.publishing import refused
from hubcli.publishing.draft import DraftFile
from hubcli.publishing.sent import addition, check_unchanged, content
from hubcli.publishing.transfers import bars, plain_uploads

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

MAIN = "main"
TRIES = 3


@frozen
class RemoteFile:
    """A file of a commit: size in bytes, and the hash that the hub has of it, sha256 (LFS) or git's SHA-1."""

    size: int
    sha256: str | None
    oid: str

    def is_same(self, file: DraftFile) -> bool:
        """Whether it has these bytes, as far as the hub says."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if self.sha256 else self.oid == git_blob(content(file))


@frozen
class Change:
    """A commit of the history: its id, when (UTC, YYYY-MM-DDThh:mm:ssZ), its first line and the rest of its message."""

    commit: str
    when: str
    title: str
    message: str


@frozen
class State:
    """A repository at one moment. `head` is None where nothing was ever committed; `tags` name commits."""

    exists: bool
    private: bool = False
    head: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class Hub:
    """The person's own hub, by the real client.

    Args:
        token: None takes the one huggingface_hub has. offline: the switch that turns the network off.

    Raises:
        UsageError: E_CONFIG, `HF_ENDPOINT` is no http(s) URL, or has a password in it, which every message would tell.

    Every method raises what `refused.refusals` says.
    """

    def __init__(self, *, token: str | None = None, offline: str | None = None):
        self.offline = offline
        self.endpoint = _plain(own_endpoint())
        self.token = token or _own_token()
        self.where = self.endpoint
        self.reads_only = False  # known once `accounts` was asked

    @contextlib.contextmanager
    def client(self, *, writes: bool = False) -> Iterator[HfApi]:
        """The client for a few calls, whose errors become ours, as those of answers that it, or the body, can't take apart."""
        if self.offline:
            raise refused.offline(self.offline, self.where)
        from huggingface_hub import HfApi

        with refused.refusals(self.where, self.token, writes=writes), bars():
            yield HfApi(endpoint=self.endpoint, token=self.token or False)

    def accounts(self) -> tuple[str, ...]:
        """Whose token it is: the account, and the organisations that it belongs to. E_DENIED without a token that is accepted."""
        if not self.token and not self.offline:
            raise refused.no_token(self.where)
        with self.client() as api:
            told = api.whoami()
            self.reads_only = _reads_only(told)
            names = [told.get("name"), *(one.get("name") for one in told.get("orgs") or ())]
        return tuple(str(name) for name in names if name)


class Repository(Hub):
    """A repository of the person's own hub.

    Args:
        name: ORG/NAME. type: model or dataset. token, offline: as for `Hub`.
    """

    def __init__(self, name: str, *, type: str = "model", token: str | None = None, offline: str | None = None):
        check_id(name)
        super().__init__(token=token, offline=offline)
        self.name, self.type = name, type
        self.where = f"{self.endpoint}/{'datasets/' if type == 'dataset' else ''}{name}"

    # What is there

    def state(self) -> State:
        """The repository as it is now."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self.client() as api:
            try:
                info = api.repo_info(self.name, repo_type=self.type)
                refs = api.list_repo_refs(self.name, repo_type=self.type)
            except RepositoryNotFoundError as error:
                if _is_missing(error):
                    return State(False)
                raise
        heads = {branch.name: branch.target_commit for branch in refs.branches}
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        return State(True, bool(info.private), heads.get(MAIN), tags)

    def check_write(self, tag: str) -> None:
        """E_DENIED where a release can't be pushed by this token; nothing is asked of one whose tag is there."""
        state = self.state()
        if tag in state.tags:
            return
        if state.exists:
            self.may_write()
        if self.reads_only:
            raise refused.read_only(self.where)

    def may_write(self) -> None:
        """E_DENIED where the token has no right to write; a hub that does not know the question answers by the push."""
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

        with self.client() as api:
            try:
                api.auth_check(self.name, repo_type=self.type, write=True)
            except RepositoryNotFoundError:
                raise
            except HfHubHTTPError as error:
                if error.response.status_code not in (404, 405, 501):
                    raise

    def files(self, commit: str) -> dict[str, RemoteFile]:
        """Path → file of a commit."""
        from huggingface_hub import RepoFile

        with self.client() as api:
            found = api.list_repo_tree(self.name, recursive=True, revision=commit, repo_type=self.type)
            files = [one for one in found if isinstance(one, RepoFile)]
            return {one.path: RemoteFile(one.size, one.lfs.sha256 if one.lfs else None, one.blob_id) for one in files}

    def history(self, commit: str) -> list[Change]:
        """The commits up to this one, newest first."""
        with self.client() as api:
            commits = api.list_repo_commits(self.name, revision=commit, repo_type=self.type)
            found = [Change(c.commit_id, f"{c.created_at:%Y-%m-%dT%H:%M:%SZ}", c.title, c.message) for c in commits]
        if not found:  # it has this commit at least
            raise refused.no_hub(self.where, f"no commits up to {commit[:12]}")
        return found

    def reader(self, commit: str) -> HubHttp:
        """Plain requests that take nothing from a cache, and answers from this commit alone."""
        if self.offline:
            raise refused.offline(self.offline, self.where)
        return HubHttp(self.endpoint, token=self.token or "", commit=commit)

    def url(self, commit: str, path: str) -> str:
        """Where a file of a commit is served."""
        return file_url(self.endpoint, f"datasets/{self.name}" if self.type == "dataset" else self.name, commit, path)

    def read(self, commit: str, path: str, limit: int) -> bytes | None:
        """The bytes of a file of a commit, at most `limit`; None where it has no such file. What broke off is read again."""
        for number in range(1, TRIES + 1):
            try:
                with self.reader(commit).get(self.url(commit, path), max_bytes=limit) as answer:
                    return answer.read()
            except NotFoundError:
                return None
            except ContentError:
                if number == TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    # Writes

    def create(self, *, private: bool) -> None:
        """Make it where it is not there."""
        with self.client(writes=True) as api:
            api.create_repo(self.name, private=private or None, repo_type=self.type, exist_ok=True)

    def commit(
        self,
        files: Sequence[DraftFile],
        deleted: Sequence[str],
        *,
        title: str,
        text: str,
        parent: str | None,
        pull_request: bool = False,
    ) -> Any:
        """One commit on top of `parent`; huggingface_hub's CommitInfo.

        Raises:
            RaceError: main is elsewhere by now. ContentError: a file changed since it was checked, or is gone.
        """
        from huggingface_hub import CommitOperationDelete

        adds = [addition(file) for file in files]
        with self.client(writes=True) as api, plain_uploads(self.endpoint):
            try:
                return api.create_commit(
                    self.name,
                    [*adds, *(CommitOperationDelete(path) for path in deleted)],
                    commit_message=title,
                    commit_description=text,
                    repo_type=self.type,
                    parent_commit=parent,
                    create_pr=pull_request or None,
                )
            except RuntimeError as error:  # of the upload of large files
                check_unchanged(files)
                cause = refused.clean(str(error), self.token)
                raise refused.LostError(f"{self.where}: an upload broke off", cause=cause, hint=refused.AGAIN) from None

    def tag(self, name: str, commit: str) -> None:
        """Name a commit; RaceError where the name is taken."""
        from huggingface_hub.errors import HfHubHTTPError

        with self.client(writes=True) as api:
            try:
                api.create_tag(self.name, tag=name, revision=commit, repo_type=self.type)
            except HfHubHTTPError as error:
                if error.response.status_code != 409:
                    raise
                raise RaceError(f"{self.where}: the tag {name} is there already") from None


def _plain(endpoint: str) -> str:
    """An endpoint, where it is one."""
    try:
        origin_of(endpoint)
    except UsageError as error:
        hint = "HF_ENDPOINT is the hub's URL alone; what proves who you are is HF_TOKEN"
        raise UsageError(f"HF_ENDPOINT: {error.message}", hint=hint, id="E_CONFIG") from None
    return endpoint


def check_id(name: str) -> None:
    """Refuse what is no ORG/NAME.

    Raises:
        UsageError: with the rule that it breaks.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name!a} is no repository", cause=ascii(str(error))[1:-1][:300]) from None
    if "/" not in name:
        raise UsageError(f"'{name}': expected ORG/NAME, found no organisation or user", hint=f"--repo YOU/{name}")


def _own_token() -> str | None:
    from huggingface_hub import constants, get_token

    return None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()


def _reads_only(told: Mapping[str, Any]) -> bool:
    """Whether a token may write nothing at all, as far as the hub tells of it."""
    token = (told.get("auth") or {}).get("accessToken") or {}
    scopes = (token.get("fineGrained") or {}).get("scoped")
    if token.get("role") == "fineGrained" and isinstance(scopes, list):
        return not any("repo.write" in (scope.get("permissions") or ()) for scope in scopes)
    return bool(token.get("role") == "read")


def _is_missing(error: RepositoryNotFoundError) -> bool:
    """A repository that is not there, or that this token may not see: the hub does not tell them apart."""
    from huggingface_hub.errors import GatedRepoError

    return not isinstance(error, GatedRepoError)
