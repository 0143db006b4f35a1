"""The HTTP interface of a service."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal, final

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from onlygood.core.errors import DataError
from onlygood.data.apart import decode_guarded
from onlygood.deploy.service.batching import BusyError
from onlygood.deploy.service.guard import Guard, refusal
from onlygood.deploy.service.intake import uploads
from onlygood.deploy.service.log_file import LogError
from onlygood.deploy.service.model import NetworkError
from onlygood.deploy.service.recent import Kept
from onlygood.deploy.service.schemas import (
    LARGEST_NUMBER,
    CalibrationData,
    Feedback,
    Log,
    Models,
    Refusal,
    Scored,
)
from onlygood.deploy.service.service import Service, UnknownModelError
from onlygood.deploy.service.settings import ServiceSettings

PAGE = Path(__file__).parent / "page"
"""The page and its files, where they are installed."""

FRESH = {"Cache-Control": "no-cache"}
"""Of the page and its files: after an update no browser may show the one before."""

KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""What pictures begin with that every browser shows."""

ModelName = Annotated[
    str | None, Query(description="May be left out where one model is served.", max_length=255)
]
Decision = Annotated[Literal["normal", "unsure", "anomalous"] | None, Query()]
Pin = Annotated[
    str | None,
    Query(
        description="Beginning of the digest that the model must have, else 409.",
        pattern="^[0-9a-f]{12,64}$",
    ),
]

PictureDigest = Annotated[
    str | None,
    Query(description="Digest that the picture of this number must have, else 404."),
]
OutlineNormal = Annotated[
    bool,
    Query(
        description="Outline regions above the pixel threshold in a picture called normal, too: "
        "for whoever decides by another threshold."
    ),
]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": words}
    for status, words in {
        400: "no whole form, or a name that this service is not called by",
        401: "the token is missing or wrong",
        404: "there is no such model or inspection",
        408: "the request did not arrive in time",
        409: "the model has another digest than the one that was pinned",
        411: "the request does not say how long it is",
        413: "too many bytes",
        415: "no multipart form",
        422: "no picture could be read, or a setting is out of its range",
        429: "over capacity; Retry-After says when to come again",
        503: "the inspection log cannot be written, a network failed, or the service is stopping",
    }.items()
}


def create_app(settings: ServiceSettings) -> FastAPI:
    """An application that serves models; it loads them before it returns.

    Raises:
        ConfigError: the log cannot be opened, or a package is missing.
        ModelFileError: a model cannot be used.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        upkeep = asyncio.create_task(service.keep_up())
        yield
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
        await asyncio.to_thread(service.close)

    from onlygood import __version__

    app = FastAPI(
        title="onlygood",
        version=__version__,
        summary="Scores pictures with models that learned from normal pictures only.",
        lifespan=lifespan,
        # They load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
    )
    _explain(app)
    _add_scoring(app, service)
    _add_models(app, service)
    _add_inspections(app, service)
    _add_health(app, service)
    _add_page(app)
    app.add_middleware(
        Guard,
        settings=settings,
        count=lambda path, status: service.metrics.requests.labels(path, str(status)).inc(),
    )
    return app


def _explain(app: FastAPI) -> None:
    """Every refusal is words."""

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        words = {404: "there is nothing here", 405: f"{request.method} is not possible here"}
        plain = error.detail in ("Not Found", "Method Not Allowed")
        answer = refusal(error.status_code, words[error.status_code] if plain else error.detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not what was given: it may be large, or something that JSON does not know.
        each = (f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()[:5])
        return refusal(422, "; ".join(each))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> JSONResponse:
        return refusal(400, "the request ended before it was whole")

    def saying(status: int, **headers: str) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def say(_: Request, error: Exception) -> JSONResponse:
            return refusal(status, str(error), **headers)

        return say

    app.add_exception_handler(DataError, saying(422))
    app.add_exception_handler(UnknownModelError, saying(404))
    app.add_exception_handler(BusyError, saying(429, Retry_After="1"))
    app.add_exception_handler(LogError, saying(503, Retry_After="10"))
    app.add_exception_handler(NetworkError, saying(503, Retry_After="10"))


def _form(field: str, several: bool) -> dict[str, Any]:
    """How OpenAPI describes a form of pictures."""
    file = {"type": "string", "format": "binary"}
    schema = {"type": "array", "items": file, "minItems": 1} if several else file
    content = {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def _add_scoring(app: FastAPI, service: Service) -> None:
    @app.post("/v1/score", response_model=Scored, openapi_extra=_form("files", several=True))
    async def score(request: Request, model: ModelName = None, sha256: Pin = None) -> JSONResponse:
        """Score pictures; every decision is in the inspection log before it is told.

        A picture that cannot be read has `decision: "error"`; 422 when none can be.
        """
        served = service.find(model)
        pictures = await uploads(request, "files", service.settings)
        with served.room(len(pictures)) as (current, room):
            _check_pin(current.runtime.sha256, sha256)
            results = await service.score(served, current, room, pictures)
        if all(result["decision"] == "error" for result in results):
            return JSONResponse({"error": results[0]["error"], "results": results}, 422)
        return JSONResponse({"results": results})

    @app.post(
        "/v1/map",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
        openapi_extra=_form("file", several=False),
    )
    async def map(
        request: Request,
        model: ModelName = None,
        sha256: Pin = None,
        outline_normal: OutlineNormal = False,
    ) -> Response:
        """The coloured heat map of one picture, RGBA, to be laid over it.

        It is no inspection: nothing is logged. The map has the picture's size, and at most
        4 million pixels in the same proportions. A region above the pixel threshold is outlined
        where the picture is not called normal.
        """
        served = service.find(model)
        pictures = await uploads(request, "file", service.settings)
        if len(pictures) > 1:
            raise DataError(f"send one picture at a time, got {len(pictures)}")
        with served.room(1) as (current, room):
            _check_pin(current.runtime.sha256, sha256)
            if not current.runtime.localizes:
                raise DataError(f"{current.runtime.method} does not localise: it has no heat maps")
            (outcome,) = await service.answers(current, room, pictures)
            loaded, answer = outcome.prepared.loaded, outcome.answer
            if answer is None or answer.heat is None or loaded.size is None:
                raise DataError(outcome.error or f"{served.name} has no heat map of it")
            decision = current.runtime.calibration.decide(answer.score)
            outline = outline_normal or str(decision) != "normal"
            content = await service.draw(
                answer.heat, loaded.size, current.runtime.view, loaded.pose, outline
            )
        return Response(content, media_type="image/png")


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=Models)
    async def models() -> JSONResponse:
        """What is served, what it promises, and whether the stream still is like that."""
        return JSONResponse({"models": [each.describe() for each in service.models.values()]})

    @app.get("/v1/models/{name}/calibration", response_model=CalibrationData)
    async def calibration(name: str) -> JSONResponse:
        """All that a threshold slider needs, without asking again."""
        calibration = service.find(name).model.runtime.calibration
        return JSONResponse(
            {
                "scores": calibration.scores.tolist(),
                "bounds": calibration.bounds,
                "confidence": calibration.confidence,
                "threshold": calibration.threshold,
            }
        )


def _add_inspections(app: FastAPI, service: Service) -> None:
    # Those without `async` wait for the disk, on a thread.
    @app.get("/v1/inspections", response_model=Log)
    def inspections(
        model: ModelName = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0,
        decision: Decision = None,
    ) -> JSONResponse:
        """The log, newest first; `after`: numbers above that one alone."""
        rows = service.log.newest(limit, model=model, decision=decision, after=after)
        return JSONResponse({"log": service.log.identity, "inspections": rows})

    @app.get(
        "/v1/inspections.csv",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {}}}},
    )
    def inspections_csv(model: ModelName = None, decision: Decision = None) -> StreamingResponse:
        """The whole log as CSV, newest first."""
        lines = service.log.csv(model=model, decision=decision)
        # A log that cannot be read is found with the first row, before the answer begins.
        first = list(islice(lines, 2))
        return StreamingResponse(
            chain(first, lines),
            media_type="text/csv",
            headers={"Content-Disposition": 'attachment; filename="inspections.csv"'},
        )

    @app.get(
        "/v1/inspections/{number}/picture",
        response_class=Response,
        responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}},
    )
    async def picture(number: int, picture_sha256: PictureDigest = None) -> Response:
        """A recent picture as it came; formats that browsers do not show, as PNG."""
        content = _kept(service, number, picture_sha256).content
        for beginning, kind in KINDS.items():
            if content.startswith(beginning):
                return Response(content, media_type=kind)
        return Response(
            await asyncio.to_thread(_as_png, content, service.settings.max_pixels),
            media_type="image/png",
        )

    @app.get(
        "/v1/inspections/{number}/map",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    async def picture_map(
        number: int,
        picture_sha256: PictureDigest = None,
        outline_normal: OutlineNormal = False,
    ) -> Response:
        """The heat map of a recent picture, as `/v1/map` gives it."""
        kept = _kept(service, number, picture_sha256)
        if kept.heat is None:
            raise HTTPException(404, "the model does not localise: it has no heat maps")
        outline = outline_normal or not kept.normal
        content = await service.draw(kept.heat, kept.size, kept.view, kept.pose, outline)
        return Response(content, media_type="image/png")

    @app.post("/v1/feedback", status_code=201)
    async def feedback(said: Feedback) -> dict[str, int]:
        """Append what a person says of a decision; the latest verdict counts."""
        if not await service.judge(said.id, said.verdict, said.comment, said.picture_sha256):
            of_it = "" if said.picture_sha256 is None else " of this picture"
            raise HTTPException(
                404,
                f"there is no inspection {said.id}{of_it}; it may have left the log, or the log "
                "was begun anew",
            )
        return {"id": said.id}


def _add_health(app: FastAPI, service: Service) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the service lives."""
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Whether it can decide: its models are loaded and its log can be written."""
        if trouble := service.log.trouble:
            return refusal(503, trouble)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """What Prometheus asks for."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI) -> None:
    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = PAGE / "index.html"
        if not index.is_file():
            raise HTTPException(404, "the page is not installed; /openapi.json says what there is")
        return FileResponse(index, headers=FRESH)

    if PAGE.is_dir():
        app.mount("/static", _PageFiles(directory=PAGE), name="static")


@final
class _PageFiles(StaticFiles):
    """What the page needs; browsers keep it, and ask whether it is the same still."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def _check_pin(sha256: str, pin: str | None) -> None:
    if pin is not None and not sha256.startswith(pin):
        raise HTTPException(409, f"the model that is served is {sha256}, not {pin}")


def _kept(service: Service, number: int, picture_sha256: str | None) -> Kept:
    kept = service.recent.get(number)
    if kept is None or picture_sha256 not in (None, kept.sha256):
        raise HTTPException(
            404, f"the picture of inspection {number} is gone; only recent ones are kept"
        )
    return kept


def _as_png(content: bytes, max_pixels: int) -> bytes:
    file = io.BytesIO()
    pixels = decode_guarded(content, max_pixels)
    grey = pixels.shape[2] == 1
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
