"""A base's hub that does not answer, refuses, or answers as no hub does: one kind of error, whichever library met it."""

from __future__ import annotations

from collections.abc import Iterator

from hubcli.errors import BaseNotFoundError, NetworkError
from hubcli.manifest import BaseModel

_UP = "is the network up, and HF_ENDPOINT right? --offline works from what is on this machine"
_PORTAL = "a login page or a captive portal seems to answer for the hub: open the URL in a browser"
_TOKEN = "set HF_TOKEN, or log in (hf auth login), with an account that may read it"


def on_hub(base: BaseModel, token: str | None) -> bool:
    """Whether the person's own hub has this base, at its revision.

    Raises:
        NetworkError: the hub does not answer, or refuses. BaseNotFoundError: no hub can be asked for it.
    """
    import httpx2
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        found = get_hf_file_metadata(hf_hub_url(base.id, "config.json", revision=base.revision), token=token)
    except (OSError, ValueError, httpx2.HTTPError) as error:
        absent = (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError)
        if isinstance(error, absent) and not isinstance(error, errors.GatedRepoError):
            return False
        other = BaseNotFoundError(f"the base {base.id} could not be looked up on the hub", cause=_line(error))
        raise network_error(error, base.id) or other from error
    if found.commit_hash is None:
        raise _no_hub(base.id)
    return True


def network_error(error: BaseException, base: str) -> NetworkError | None:
    """What a failed look-up or download of a base says of the network; None where the network is not the reason.

    Args:
        error: as huggingface_hub or transformers raise it; what it was raised from counts too.
        base: the base's hub id.
    """
    import httpx2
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled, XetDownloadError

    where = f"the base {base}"
    chain = list(_chain(error))
    if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
        return None
    for link in chain:
        if isinstance(link, HfHubHTTPError):
            return _refused(link.response.status_code, where)
        if isinstance(link, httpx2.TimeoutException):
            message = f"{where}: {_endpoint()} gives no answer in time"
            return NetworkError(message, hint="try again, or use --offline", id="E_TIMEOUT")
        if isinstance(link, httpx2.HTTPError | XetDownloadError):
            return NetworkError(f"{where} can't be reached at {_endpoint()}", cause=_line(link), hint=_UP)
        if isinstance(link, FileMetadataError):
            return _no_hub(base)
    return None


def _no_hub(base: str) -> NetworkError:
    """An answer without the headers that a hub sends."""
    return NetworkError(f"the base {base}: {_endpoint()} does not answer as a hub does", hint=_PORTAL)


def _refused(status: int, where: str) -> NetworkError | None:
    endpoint = _endpoint()
    if status in (401, 403):
        return NetworkError(f"{where}: {endpoint} denies access ({status})", hint=_TOKEN, id="E_DENIED")
    if status == 429:
        return NetworkError(
            f"{where}: too many requests to {endpoint} (429)", hint="try again later", id="E_RATE_LIMIT"
        )
    if status >= 500:
        return NetworkError(f"{where}: {endpoint} answers {status}", hint="try again later, or use --offline")
    return None


def _endpoint() -> str:
    """The hub that huggingface_hub asks."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return ascii(str(error).partition("\n")[0])[1:-1][:200] or type(error).__name__
