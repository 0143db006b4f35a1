"""The HTTP interface that the page talks to, over one `Runtime`, in memory."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from io import BytesIO
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from onlygood.core.result import Result
from onlygood.data.source import ImageSource
from onlygood.decision.thresholds import simultaneous_bound
from onlygood.deploy.runtime import Runtime
from onlygood.report.heatmap import colourise

PAGE = files("onlygood.deploy") / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'"
)


class Feedback(BaseModel):
    id: int
    verdict: str
    comment: str = ""


def application(name: str, runtime: Runtime) -> FastAPI:
    app = FastAPI()
    calibration = runtime.calibration
    log: list[dict[str, Any]] = []
    pictures: list[tuple[str, bytes]] = []

    def said(name: str, content: bytes) -> Result:
        return runtime.score(ImageSource.of(content, names=[name]))[0]

    def png(result: Result) -> Response:
        if result.map is None:
            raise HTTPException(404, result.error or "this method has no maps")
        buffer = BytesIO()
        colourise(result.map).save(buffer, "PNG")
        return Response(buffer.getvalue(), media_type="image/png")

    def of(id: int) -> tuple[str, bytes]:
        if not 0 < id <= len(pictures):
            raise HTTPException(404, f"picture {id} is no longer kept")
        return pictures[id - 1]

    @app.middleware("http")
    async def policy(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.exception_handler(HTTPException)
    def words(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        model = {
            **{"name": name, "method": runtime.method, "precision": runtime.precision},
            **{"sha256": runtime.sha256, "size": runtime.size, "channels": runtime.channels},
            **{"localizes": runtime.localizes, "terms": runtime.terms},
            **{"threshold": calibration.threshold, "target_fpr": calibration.target_fpr},
            **{"strict_threshold": calibration.strict_threshold, "n_calibration": calibration.n},
            **{"confidence": calibration.confidence, "guarantee": calibration.guarantee},
            **{"note": calibration.note, "state": "ready", "words": ""},
            "drift": {"state": "too_few", "n": len(log), "words": "too few pictures to tell"},
            "provenance": runtime.provenance,
        }
        return {"models": [model]}

    @app.get("/v1/models/{name}/calibration")
    def scores(name: str) -> dict[str, Any]:
        return {
            "scores": calibration.scores.tolist(),
            "bounds": [*simultaneous_bound(calibration.n, calibration.confidence).tolist(), 1.0],
            "confidence": calibration.confidence,
            "threshold": calibration.threshold,
        }

    @app.post("/v1/score")
    def score(files: list[UploadFile]) -> JSONResponse:
        results = []
        for file in files:
            content, start = file.file.read(), time.perf_counter()
            result = said(file.filename or "", content)
            facts = {
                **{"name": result.name, "decision": result.decision, "model": name},
                "score": None if result.error else result.score,
                "p_value": None if result.error else result.p_value,
                "picture_sha256": hashlib.sha256(content).hexdigest(),
                "latency_ms": 1000 * (time.perf_counter() - start),
                "model_sha256": runtime.sha256,
            }
            height, width = (None, None) if result.map is None else result.map.shape
            more = {"parts": result.parts, "error": result.error, "width": width, "height": height}
            number = None
            if result.error is None:
                pictures.append((result.name, content))
                number = len(pictures)
                log.append({"id": number, **facts, "feedback": None})
                log[-1]["time"] = datetime.now(UTC).isoformat()
            results.append({"id": number, **facts, **more})
        readable = any(result["error"] is None for result in results)
        return JSONResponse({"results": results}, 200 if readable else 422)

    @app.post("/v1/map")
    def map(file: UploadFile) -> Response:
        return png(said(file.filename or "", file.file.read()))

    @app.get("/v1/inspections")
    def inspections(limit: int = 100, after: int = 0) -> dict[str, Any]:
        return {"inspections": [row for row in log[::-1] if row["id"] > after][:limit]}

    @app.get("/v1/inspections/{id}/picture")
    def picture(id: int) -> Response:
        return Response(of(id)[1], media_type="image/png")

    @app.get("/v1/inspections/{id}/map")
    def map_of(id: int) -> Response:
        return png(said(*of(id)))

    @app.post("/v1/feedback", status_code=201)
    def feedback(given: Feedback) -> dict[str, Any]:
        of(given.id)
        log[given.id - 1]["feedback"] = given.verdict
        return {}

    @app.get("/")
    def index() -> FileResponse:
        return FileResponse(str(PAGE / "index.html"))

    app.mount("/static", StaticFiles(directory=str(PAGE)))
    return app


@contextmanager
def serving(name: str, runtime: Runtime, port: int = 0) -> Iterator[str]:
    """The base URL of a service that lives as long as the context."""
    config = uvicorn.Config(application(name, runtime), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the service did not start")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
