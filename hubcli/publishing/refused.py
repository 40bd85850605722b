"""What a hub, or the way to it, refuses, as errors of this project: said in full, without the token."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from hubcli.errors import (
    HubcliError,
    NetworkError,
    NotFoundError,
    OfflineError,
    PolicyError,
    RaceError,
    UsageError,
)
from hubcli.http import html_instead

LOG_IN = "set HF_TOKEN, or log in: hf auth login"
AGAIN = "run the same command again: it goes on from what is there"
NO_RIGHT = "take a token that may write there, ask the repository's owner for the right, or take another --repo"
_SHAPE = "is HF_ENDPOINT the URL of a Hugging Face Hub, or of a server that is compatible with it?"
SHOWN = 300
QUOTA = 507
_PLAN = "refused, by the quota or the plan of this account"
_REFUSED: dict[int, tuple[type[HubcliError], str, str | None, str | None]] = {
    402: (PolicyError, _PLAN, None, None),
    QUOTA: (PolicyError, _PLAN, None, None),
    404: (NotFoundError, "not found (404)", "is the name right, and may this token see it?", None),
    412: (RaceError, "someone else committed in between", AGAIN, None),
    413: (PolicyError, "too large for this hub (413)", None, None),
    429: (NetworkError, "too many requests (429)", "try again later", "E_RATE_LIMIT"),
}


_SHAPES = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # of a client that takes an answer apart


class LostError(NetworkError):
    """No answer that can be read, or a server that failed: what was asked may have been done, or not."""


@contextlib.contextmanager
def refusals(where: str, token: str | None, *, writes: bool = False) -> Iterator[None]:
    """Errors of huggingface_hub and of its HTTP client as ours; `where` is the repository or the hub, for messages.

    The body calls the client and takes its answers apart, and does nothing else: what it can't take apart is no hub's answer.

    Raises:
        RaceError: 412. LostError: no connection, no answer, or 5xx; an answer of another shape where the body `writes`.
        NetworkError: E_DENIED, E_RATE_LIMIT, E_TIMEOUT, E_NETWORK. OfflineError, NotFoundError, UsageError, PolicyError.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise offline("HF_HUB_OFFLINE", where) from None
    except errors.LocalTokenNotFoundError:
        raise no_token(where) from None
    except errors.HfHubHTTPError as error:
        said = clean(error.server_message or "", token)
        raise _of_status(error.response.status_code, where, said, bool(token)) from None
    except errors.HFValidationError as error:
        raise UsageError(f"{where}: {clean(str(error), token)}") from None
    except httpx2.TimeoutException:
        raise LostError(f"{where}: no answer in time", hint=AGAIN, id="E_TIMEOUT") from None
    except httpx2.ConnectError as error:
        cause = clean(str(error), token) or type(error).__name__
        raise LostError(f"{where} can't be reached", cause=cause, hint=_unreached()) from None
    except json.JSONDecodeError:
        page = html_instead(where)
        raise (LostError(page.message, cause=page.hint, hint=AGAIN) if writes else page) from None
    except (httpx2.HTTPError, ConnectionError) as error:
        cause = clean(str(error), token) or type(error).__name__
        raise LostError(f"{where}: the connection broke", cause=cause, hint=AGAIN) from None
    except _SHAPES as error:
        if isinstance(refusal := error.__cause__, errors.HfHubHTTPError):  # which the client put into words
            raise _of_status(refusal.response.status_code, where, clean(str(error), token), bool(token)) from None
        raise no_hub(where, f"{type(error).__name__}: {clean(str(error), token)}", writes=writes) from error


def no_hub(where: str, cause: str, *, writes: bool = False) -> NetworkError:
    """The error for an answer of another shape than a hub's."""
    kind, hint = (LostError, AGAIN) if writes else (NetworkError, _SHAPE)
    return kind(f"{where} does not answer as a hub does", cause=cause, hint=hint)


def offline(switch: str, where: str) -> OfflineError:
    """The error for a network that is switched off."""
    undo = "leave out" if switch.startswith("-") else "unset"
    return OfflineError(f"{where} can't be reached: the network is off", hint=f"{undo} {switch} to go online")


def no_token(where: str) -> NetworkError:
    """The error for a push without a token."""
    return NetworkError(f"{where}: writing needs a token, and there is none", hint=LOG_IN, id="E_DENIED")


def clean(text: str, token: str | None) -> str:
    """Text from the other side for a message: one line, printable, short, and never the token."""
    if token:
        text = text.replace(token, "…")
    words = " ".join(text.split())
    return "".join(c for c in words if c.isprintable())[:SHOWN]


def _of_status(status: int, where: str, said: str, has_token: bool) -> HubcliError:
    says = f": {said}" if said else ""
    if status in (401, 403):
        return _denied(f"{where}: access denied ({status}){says}", status, has_token)
    if status >= 500 and status != QUOTA:
        return LostError(f"{where}: the server answers {status}{says}", hint=AGAIN)
    kind, text, hint, id = _REFUSED.get(status, (PolicyError, f"the hub refuses ({status})", None, None))
    return kind(f"{where}: {text}{says}", hint=hint, id=id)


def read_only(where: str) -> NetworkError:
    """The error for a push with a token that may only read."""
    return NetworkError(
        f"{where}: writing needs a token that may write, and this one may read alone", hint=NO_RIGHT, id="E_DENIED"
    )


def _unreached() -> str:
    given = os.environ.get("HF_ENDPOINT")
    known = f"HF_ENDPOINT is {given}" if given else "HF_ENDPOINT names another hub than the Hugging Face Hub"
    return f"is the hub running, and the network up? {known}. Then run the same command again"


def _denied(message: str, status: int, has_token: bool) -> NetworkError:
    invalid = "the token (of HF_TOKEN or 'hf auth login') is not accepted; is it still valid?"
    token = NO_RIGHT if status == 403 else invalid
    return NetworkError(message, hint=token if has_token else LOG_IN, id="E_DENIED")
