"""An application on a port, until it is told to stop."""

import logging
from asyncio import TimerHandle, Transport
from contextlib import suppress
from typing import Any, final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
"""In which the head of a request must have arrived."""
READ_SECONDS = 20.0
"""In which a client must have read what it was sent, 64 KiB or a little more."""
GRACE_SECONDS = 10
"""For what is being answered when the service is told to stop."""


@final
class Protocol(H11Protocol):
    """Uvicorn's HTTP, which by itself waits for ever.

    For the rest of a request's head, and for a client to read its answer.
    """

    _unread: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        """Wait for the next one, unless it is here already."""
        answered = self.cycle
        super().on_response_complete()
        if self.cycle is answered:
            self._expect_request()

    def pause_writing(self) -> None:
        """Wait until the client has read what was sent."""
        super().pause_writing()
        self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """It never will."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()

    def _expect_request(self) -> None:
        before = self.cycle

        def check() -> None:
            if self.cycle is not before:
                return
            # Who is closing already waits for a client that does not read its last answer.
            end = self.transport.abort if self.transport.is_closing() else self.transport.close
            end()

        self.loop.call_later(HEADER_SECONDS, check)


def configured(app: FastAPI, **options: Any) -> uvicorn.Config:
    """How an application is run.

    Without an access log: metrics count requests and the inspection log has decisions, and a line
    for each request would hold whatever its sender put into the address.
    """
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **options,
    )


def listen(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; what was asked before is answered, within `GRACE_SECONDS`."""
    logging.basicConfig(format="%(levelname)s:     %(message)s")
    logging.getLogger("onlygood").setLevel(logging.INFO)
    # Of each form that is none it has a line, that of a byte; who sent it is told, and counted.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # What has shut it down well is given to the caller by uvicorn, too.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(configured(app, host=host, port=port)).run()
