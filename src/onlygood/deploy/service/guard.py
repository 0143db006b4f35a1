"""What stands before the service: who may ask, how much, how long; and headers of every answer."""

import asyncio
import hmac
import logging
import re
from collections.abc import Callable
from typing import final
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onlygood.deploy.service.settings import MIB, ServiceSettings, without_port

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer that does not say otherwise."""

PART = 65536
"""Bytes of an answer that are given to the network at a time."""

PICTURES = ("/v1/score", "/v1/map")
"""Take pictures, which are long. What else is sent is parsed where all requests are answered."""

SHORT = 32768
"""Bytes of any other request: a comment of 2000 characters, each written as two `\\uXXXX`, fits."""

OPEN = ("/", "/healthz", "/readyz")
"""Need no token: the empty page, and whether the service lives."""


def refusal(status: int, words: str, **headers: str) -> JSONResponse:
    """An answer that says what is wrong."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": words}, status, headers={**HEADERS, **named})


logger = logging.getLogger(__name__)


@final
class Guard:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, count: Callable[[str, int], None]
    ) -> None:
        """Stand before `app`.

        Args:
            app: What is guarded.
            settings: Of the service.
            count: Hears of each answer: the path as it is documented, and the status.
        """
        self._app, self._settings, self._count = app, settings, count
        self._hosts = settings.hosts
        self._token = settings.token.encode()
        self._pending = 0
        """Bytes of requests that are not answered yet."""
        self._unread = 0
        """Bytes of answers that have not left yet."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        leaving = _Leaving(self, scope, receive, send)
        try:
            headers = Headers(scope=scope)
            refused = self._stranger(scope, headers) or self._too_much(scope, headers)
            if refused is None:
                length = int(headers.get("content-length", 0))
                await self._pass_on(scope, receive, leaving, length)
            else:
                self._count("refused", refused.status_code)
                await refused(scope, receive, send)
        except asyncio.CancelledError:  # by uvicorn alone, which was told to stop and has waited
            stopping = "the service is stopping, and this takes longer than it may wait"
            await leaving.fail(
                refusal(503, f"{stopping}; ask again when it is back", Retry_After="10")
            )
        except Exception:  # whatever it is, the client hears of it and the connection stays
            logger.exception("a request to %r failed", scope["path"])
            await leaving.fail(refusal(500, "this failed; what the service printed says more"))

    async def _pass_on(
        self, scope: Scope, receive: Receive, leaving: "_Leaving", length: int
    ) -> None:
        self._pending += length
        try:
            await self._app(scope, self._in_time(receive), leaving.send)
        finally:
            self._pending -= length
            self._unread -= leaving.held

    def _stranger(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        # Another site's page, open in a browser here, can send requests but not choose these two.
        host = headers.get("host", "").lower()
        if without_port(host) not in self._hosts:
            return refusal(
                400, "this service is not called by that name; start it with --allow-host NAME"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return refusal(403, "pages of other sites may not use this service")
        path = scope["path"]
        if not self._token or path in OPEN or path.startswith("/static/"):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # In constant time: how long a comparison takes must not tell how much was right.
        right = hmac.compare_digest(given.encode("latin-1"), self._token)
        if right and scheme.lower() == "bearer":
            return None
        return refusal(
            401,
            "this service needs its token, in the header `Authorization: Bearer TOKEN`",
            WWW_Authenticate="Bearer",
        )

    def _too_much(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Uvicorn reads and drops the body of what is refused, so that clients hear of it."""
        if "transfer-encoding" in headers:
            return refusal(411, "say how long the request is (Content-Length), not in chunks")
        stated = headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,20}", stated):
            return refusal(400, "Content-Length is no number of bytes")
        if int(stated) > self._settings.max_bytes:
            return refusal(
                413,
                f"the request has {int(stated)} bytes, the limit is {self._settings.max_bytes} "
                f"({self._settings.max_bytes / MIB:.0f} MiB); send fewer or smaller pictures",
            )
        # With a slash behind, they are told where to.
        if int(stated) > SHORT and scope["path"].rstrip("/") not in PICTURES:
            return refusal(
                413,
                f"the request has {int(stated)} bytes, the limit of all that is no picture is "
                f"{SHORT}; say less",
            )
        if self._pending + int(stated) > self._settings.max_pending_bytes:
            return refusal(
                429,
                "other requests fill the memory that there is for them; send this one again in "
                "a second",
                Retry_After="1",
            )
        return None

    def _in_time(self, receive: Receive) -> Receive:
        seconds = self._settings.upload_seconds
        until = asyncio.get_running_loop().time() + seconds
        arrived = False

        async def receive_in_time() -> Message:
            nonlocal arrived
            if arrived:  # what is awaited now is the client's leaving, which has no limit
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408, f"the request did not arrive in {seconds:.0f} seconds; send less at a time"
                ) from error
            arrived = not message.get("more_body", False)
            return message

        return receive_in_time


@final
class _Leaving:
    """One answer on its way out: with headers, and in parts, as its client reads them."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._begun = self._refused = False
        self.held = 0
        """Bytes that are in memory until it has left."""

    async def send(self, message: Message) -> None:
        """Pass on what the application sends."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
            return
        body, place = message.get("body", b""), 0
        # In whole, a server would have to keep it until its client has read it, however slowly.
        for place in range(PART, len(body), PART):
            part = body[place - PART : place]
            await self._send({**message, "body": part, "more_body": True})
        await self._send({**message, "body": body[place:]})

    async def fail(self, answer: JSONResponse) -> None:
        """Answer that it failed; what has begun already is cut off, which tells it, too."""
        if not self._begun:
            await answer(self._scope, self._receive, self.send)

    async def _begin(self, message: Message) -> None:
        self._begun = True
        guard, headers = self._guard, MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if "location" in headers:
            headers["location"] = _from_here(headers["location"], self._scope["path"])
        route = self._scope.get("route")
        # Not the path that was asked for: anybody can make up as many as they like.
        known = route.path if isinstance(route, Route) else "other"
        length = int(headers.get("content-length", 0))
        # Small ones always leave: that the service lives, and what is wrong.
        held = length if length > PART else 0
        if held and guard._unread and guard._unread + held > guard._settings.max_pending_bytes:
            self._refused = True
            guard._count(known, 429)
            words = "other answers that nobody has read yet fill the memory that there is for them"
            busy = refusal(429, f"{words}; ask again in a second", Retry_After="1")
            await busy(self._scope, self._receive, self._send)
            return
        self.held = held
        guard._unread += held
        guard._count(known, message["status"])
        await self._send(message)


def _from_here(location: str, path: str) -> str:
    """Where a path leads that has slashes behind it, or lacks one, as seen from there.

    A proxy in front may have TLS and a prefix, of which an address of our own would know nothing.
    """
    to = urlsplit(location)
    name = to.path.rstrip("/").rpartition("/")[2]
    slashes = len(path) - len(path.rstrip("/"))
    place = f"{'../' * slashes}{name}" if slashes else f"./{name}/"
    return f"{place}?{to.query}" if to.query else place
