"""Reading back: every file of a commit is fetched from the hub itself and compared with what was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from hubcli.errors import ContentError, NotFoundError
from hubcli.http import Http, Response
from hubcli.progress import Progress
from hubcli.publishing.draft import DraftFile
from hubcli.publishing.repository import TRIES, Repository
from hubcli.publishing.sent import check_unchanged


def read_back(repository: Repository, commit: str, files: Iterable[DraftFile], progress: Progress) -> None:
    """Fetch each file at a commit, past every cache, and compare size and sha256; what broke off is fetched again.

    Raises:
        ContentError: E_HASH or E_SIZE, a file is not what was sent; names it, expected and found. Or it is not what was
            checked any more: then the hub is right.
        NetworkError: as `hubcli.http`.
    """
    http = repository.reader(commit)
    for file in files:
        for number in range(1, TRIES + 1):
            progress.start(file.path, file.size)
            try:
                _compare(http, repository, commit, file, progress)
            except ContentError:
                if number == TRIES:
                    check_unchanged([file])
                    raise
            else:
                break
            finally:
                progress.done()


def _compare(http: Http, repository: Repository, commit: str, file: DraftFile, progress: Progress) -> None:
    """Fetch one file once."""
    try:
        with http.get(repository.url(commit, file.path), max_bytes=file.size) as answer:
            found = _found(answer, progress)
    except NotFoundError:
        raise _other(repository, commit, file, "nothing", "E_HASH") from None
    except ContentError as error:
        if error.id != "E_SIZE":
            raise
        raise _other(repository, commit, file, error.message.rpartition(", found ")[2], "E_SIZE") from None
    if found != (file.size, file.sha256):
        shown = f"{found[0]} bytes with sha256 {found[1]}"
        raise _other(repository, commit, file, shown, "E_HASH" if found[0] == file.size else "E_SIZE")


def _found(answer: Response, progress: Progress) -> tuple[int, str]:
    """Size and sha256 of what comes."""
    size, digest = 0, hashlib.sha256()
    for piece in answer.chunks():
        size += len(piece)
        digest.update(piece)
        progress.advance(len(piece))
    return size, digest.hexdigest()


def _other(repository: Repository, commit: str, file: DraftFile, found: str, id: str) -> ContentError:
    expected = f"{file.size} bytes with sha256 {file.sha256}"
    message = f"{repository.where} at {commit}: {file.path}: expected {expected}, found {found}"
    hint = "the hub does not give back what it was sent: no tag and no index entry was written"
    return ContentError(message, hint=hint, id=id)
