"""Running the app: one socket, one uvicorn server."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from hubcli.errors import NetworkError

SECONDS_TO_FINISH = 5


class HubServer(uvicorn.Server):
    """A server on a socket of its own that says when it accepts connections.

    `run_app` blocks until a signal, or until another thread sets `should_exit`.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int, ready: Callable[[str], None] | None = None):
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # a log of who read what is the proxy's to keep
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=SECONDS_TO_FINISH,
        )
        super().__init__(config)
        self._ready = ready
        self._socket = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's start-up, then `ready(url)`."""
        await super().startup(sockets)
        if self._ready and self.started:
            self._ready(self.url)

    def run_app(self) -> None:
        """Serve until told to stop."""
        try:
            self.run(sockets=[self._socket])
        finally:
            self._socket.close()


def serve(app: ASGIApp, *, host: str, port: int, ready: Callable[[str], None] | None = None) -> None:
    """Serve an app until interrupted; `port` 0 takes a free one; `ready` gets the URL once connections are accepted.

    Raises NetworkError if the port can't be had.
    """
    HubServer(app, host=host, port=port, ready=ready).run_app()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        raise NetworkError(f"can't listen on {host} port {port}: {error}", hint="choose another --port") from error
