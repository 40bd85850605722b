"""How the real client moves bytes for us: with its bars where ours would be seen, and by a way that every hub has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hubcli.hub.transport import unless_public
from hubcli.progress import shown

_XET = (".huggingface.co", ".hf.co")


@contextlib.contextmanager
def bars() -> Iterator[None]:
    """The client's own bars, of uploads, where ours would be seen too."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextlib.contextmanager
def plain_uploads(endpoint: str) -> Iterator[None]:
    """Off the public hub large files go by LFS: the client would send them by Xet, which other hubs need not have."""
    from huggingface_hub import constants

    host = endpoint.partition("://")[2].partition("/")[0].partition(":")[0]
    if unless_public(endpoint) is None or host.endswith(_XET):
        yield
        return
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before
