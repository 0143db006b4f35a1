"""An application on a port, until it is told to stop."""

import logging
from asyncio import Transport
from typing import Any, final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
"""In which the head of a request must have arrived."""
GRACE_SECONDS = 10
"""For what is being answered when the service is told to stop."""


@final
class Protocol(H11Protocol):
    """Uvicorn's HTTP, which by itself would wait for ever for the rest of a request's head."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        """Wait for the next one."""
        super().on_response_complete()
        self._expect_request()

    def _expect_request(self) -> None:
        before = self.cycle

        def check() -> None:
            if self.cycle is before and not self.transport.is_closing():
                self.transport.close()

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
    """Serve until SIGINT or SIGTERM; what was asked before is answered."""
    logging.basicConfig(format="%(levelname)s:     %(message)s")
    logging.getLogger("onlygood").setLevel(logging.INFO)
    uvicorn.Server(configured(app, host=host, port=port)).run()
