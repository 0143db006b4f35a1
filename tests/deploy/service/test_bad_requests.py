"""What nobody should send: each is refused in words, and the service lives on."""

import asyncio
import io
import json
import re
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from onlygood.deploy.service import listening
from onlygood.deploy.service.guard import PART, SHORT, Guard
from onlygood.deploy.service.settings import ServiceSettings
from tests.deploy.stream import Files, files, normal, serving, until

pytestmark = pytest.mark.slow

PICTURE = normal(0)


@pytest.fixture(scope="module")
def service(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("bad")
    settings = ServiceSettings(
        models=(exported,),
        log=folder / "log.sqlite",
        threads=1,
        max_bytes=200_000,
        max_pixels=1_000_000,
        max_files=4,
    )
    with serving(settings) as client:
        yield client


@pytest.fixture
def impatient(settings: ServiceSettings) -> Iterator[httpx.Client]:
    """Gives a second to a request; only such are sent to it that never are whole."""
    with serving(replace(settings, upload_seconds=1.0)) as client:
        yield client


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, *between: bytes, rows: bytes = b"") -> bytes:
    """A grey PNG that says whatever size it likes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = [
        chunk(b"IHDR", head),
        *between,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def image(format: str, size: tuple[int, int] = (20, 20), mode: str = "L", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", PICTURE)
    return file.getvalue()


def not_a_number() -> bytes:
    """A TIFF of floating point NaN."""
    file = io.BytesIO()
    Image.new("F", (20, 20), float("nan")).save(file, "TIFF")
    return file.getvalue()


@dataclass(frozen=True)
class Bad:
    name: str
    status: int
    says: str
    path: str = "/v1/score"
    method: str = "POST"
    files: Files | None = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def picture(name: str, status: int, says: str, content: bytes, **more: Any) -> Bad:
    return Bad(name, status, says, files=files(content), **more)


def named(name: str, says: str, file_name: str) -> Bad:
    return Bad(name, 422, says, files=[("files", (file_name, PICTURE, "image/png"))])


def form(name: str, status: int, says: str, body: bytes) -> Bad:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return Bad(name, status, says, content=body, headers=kind)


def feedback(name: str, body: str, says: str, status: int = 422, **headers: str) -> Bad:
    kind = {"Content-Type": "application/json", **headers}
    return Bad(name, status, says, "/v1/feedback", content=body.encode(), headers=kind)


def asked(name: str, path: str, says: str, status: int = 422, method: str = "GET") -> Bad:
    return Bad(name, status, says, path, method)


BAD = [
    # Pictures that are none.
    picture("empty file", 422, "is empty", b""),
    picture("text", 422, "is no picture", b"hello, this is text"),
    picture("zip", 422, "is no picture", zipped()),
    picture("model", 422, "is no picture", b"\x08\x0a\x12\x07pytorch" + b"\0" * 500),
    picture("pickle", 422, "is no picture", b"\x80\x04\x95" + b"\0" * 50),
    picture("svg", 422, "is no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    picture("html", 422, "is no picture", b"<!doctype html><script>alert(1)</script>"),
    picture("postscript", 422, "is no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9"),
    picture("pdf", 422, "is no picture", b"%PDF-1.7\n" + b"\0" * 50),
    picture("zeros", 422, "is no picture", b"\0" * 1000),
    picture("numpy", 422, "is no picture", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}"),
    # Pictures that are damaged, or want too much.
    picture("cut off", 422, "damaged or cut off", PICTURE[: len(PICTURE) // 2]),
    picture("cut off jpeg", 422, "damaged or cut off", image("JPEG", (300, 300))[:-300]),
    picture("head alone", 422, "is no picture", PICTURE[:8]),
    picture("bomb", 422, "over the limit", png(60_000, 60_000)),
    picture("bomb of zeros", 422, "over the limit", png(30_000, 30_000, rows=b"\0" * 9_000_000)),
    picture("bomb of 4 giga", 422, "is 2147483647 x 2147483647", png(2**31 - 1, 2**31 - 1)),
    picture("no rows", 422, "damaged or cut off", png(100, 100)),
    picture("no width", 422, "", png(0, 10)),
    picture(
        "text bomb",
        422,
        "",
        png(9, 9, chunk(b"zTXt", b"c\0\0" + zlib.compress(b"\0" * 99_000_000)), rows=b"\0" * 90),
    ),
    picture("just too large", 422, "over the limit", image("PNG", (1001, 1000))),
    picture("too narrow", 422, "each side must be 4 pixels", image("PNG", (3, 50))),
    picture("NaN", 422, "has the value nan", not_a_number()),
    picture("gif of nothing", 422, "", b"GIF89a" + b"\0" * 20),
    # Names.
    named("up", "leads out of its folder", "../../etc/passwd"),
    named("up, backwards", "leads out of its folder", "..\\..\\boot.ini"),
    named("root", "leads out of its folder", "/etc/passwd"),
    named("drive", "leads out of its folder", "C:/Windows/a.png"),
    named("up within", "leads out of its folder", "a/../../b.png"),
    named("too long", "has 300 characters", "x" * 300),
    named("turned around", "cannot be seen", "gpj.\u202egnp.exe"),
    # Forms.
    form("no end", 400, "no whole multipart form", b"--x\r\nContent-Disposition: form-data"),
    form(
        "cut off in the second picture",
        400,
        "It breaks off before its last boundary",
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + PICTURE
        + b'\r\n--x\r\nContent-Disposition: form-data; name="files"; filename="b.png"\r\n\r\n'
        + PICTURE[:9],
    ),
    form("no start", 400, "no whole multipart form", b"no boundary in here"),
    form("nothing in it", 422, 'no field "files"', b"--x--\r\n"),
    form(
        "null in name",
        422,
        "cannot be seen",
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a\0.png"\r\n\r\nx'
        b"\r\n--x--",
    ),
    form(
        "text for a file",
        422,
        "must be files",
        b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--x--\r\n',
    ),
    form(
        "text beside a file",
        422,
        "must be files",
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n'
        b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--x--\r\n',
    ),
    form(
        "no name",
        400,
        "no whole multipart form",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n",
    ),
    form(
        "many fields",
        400,
        "Too many fields",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 50 + b"--x--\r\n",
    ),
    Bad("other field", 422, 'no field "files"', files=files(PICTURE, field="file")),
    Bad("many files", 400, "Too many files", files=files(*[PICTURE] * 5)),
    Bad("too much", 413, "the limit is 200000", files=files(b"\0" * 300_000)),
    Bad("no body", 415, "send pictures as multipart/form-data"),
    Bad(
        "json", 415, "application/json", content=b"{}", headers={"Content-Type": "application/json"}
    ),
    Bad(
        "no boundary",
        415,
        "boundary",
        content=b"--x--",
        headers={"Content-Type": "multipart/form-data"},
    ),
    *(
        Bad(
            f"charset {charset}",
            415,
            "names in a form are UTF-8",
            content=b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xff"'
            b"\r\n\r\nx\r\n--x--\r\n",
            headers={"Content-Type": f"multipart/form-data; boundary=x; Charset={charset}"},
        )
        for charset in ("undefined", "punycode", "idna", '"utf-16"', "none", "")
    ),
    Bad("raw picture", 415, "image/png", content=PICTURE, headers={"Content-Type": "image/png"}),
    Bad(
        "urlencoded",
        415,
        "urlencoded",
        content=b"files=a",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Bad(
        "two for one map",
        422,
        "one picture at a time",
        "/v1/map",
        files=files(PICTURE, PICTURE, field="file"),
    ),
    Bad("map of text", 422, "is no picture", "/v1/map", files=files(b"text", field="file")),
    # Models.
    picture("unknown model", 404, 'unknown model "bolt"', PICTURE, path="/v1/score?model=bolt"),
    picture(
        "path for model", 404, "unknown model", PICTURE, path="/v1/score?model=../../etc/passwd"
    ),
    picture("long model", 422, "model", PICTURE, path="/v1/score?model=" + "x" * 500),
    picture("pin of words", 422, "sha256", PICTURE, path="/v1/score?sha256=hello"),
    picture("other pin", 409, "not 000000000000", PICTURE, path="/v1/score?sha256=000000000000"),
    asked("calibration of none", "/v1/models/bolt/calibration", "unknown model", 404),
    asked("no upload of models", "/v1/models", "POST is not possible", 405, "POST"),
    asked("no replacing of models", "/v1/models/nut", "nothing here", 404, "PUT"),
    # The log.
    asked("limit of words", "/v1/inspections?limit=all", "limit: Input should be a valid integer"),
    asked("limit of nothing", "/v1/inspections?limit=0", "limit"),
    asked("limit too high", "/v1/inspections?limit=1000000000", "limit"),
    asked("limit NaN", "/v1/inspections?limit=nan", "limit"),
    asked("before the first", "/v1/inspections?after=-1", "after"),
    asked("after all numbers", f"/v1/inspections?after={2**63}", "after"),
    asked("injection", "/v1/inspections?decision=normal'--", "decision"),
    asked("picture of none", "/v1/inspections/99/picture", "is gone", 404),
    asked("map of none", f"/v1/inspections/{10**30}/map", "is gone", 404),
    asked("picture of words", "/v1/inspections/one/picture", "number"),
    asked("no deleting", "/v1/inspections", "DELETE is not possible", 405, "DELETE"),
    # Feedback.
    feedback("of none", '{"id": 99, "verdict": "miss"}', "no inspection 99", 404),
    feedback("NaN", '{"id": NaN, "verdict": "miss"}', "id"),
    feedback("infinite", '{"id": 1e999, "verdict": "miss"}', "id"),
    feedback("too large", f'{{"id": {2**64}, "verdict": "miss"}}', "id"),
    feedback("enormous", f'{{"id": {"9" * 5000}, "verdict": "miss"}}', "parsing the body", 400),
    feedback("text for number", '{"id": "1", "verdict": "miss"}', "id"),
    feedback("unknown verdict", '{"id": 1, "verdict": "maybe"}', "verdict"),
    feedback("more than asked", '{"id": 1, "verdict": "miss", "admin": true}', "admin"),
    feedback(
        "long comment", json.dumps({"id": 1, "verdict": "miss", "comment": "x" * 2001}), "comment"
    ),
    feedback("half a character", '{"id": 1, "verdict": "miss", "comment": "\\ud800"}', ""),
    feedback("no object", "[1]", ""),
    feedback("no JSON", "{", ""),
    feedback("deep", "[" * 30_000, "parsing the body", 400),
    feedback("long", "[" * 100_000, "the limit of all that is no picture is 32768", 413),
    feedback("as a form", '{"id": 1, "verdict": "miss"}', "", **{"Content-Type": "text/plain"}),
    # Who asks.
    asked("nothing there", "/v2/score", "nothing here", 404),
    asked("up the tree", "/static/../../etc/passwd", "nothing here", 404),
    Bad(
        "other name",
        400,
        "not called by that name",
        "/healthz",
        "GET",
        headers={"Host": "evil.example"},
    ),
    Bad(
        "rebound name",
        400,
        "not called by that name",
        "/healthz",
        "GET",
        headers={"Host": "127.0.0.1.evil.example:80"},
    ),
    Bad(
        "other site",
        403,
        "pages of other sites",
        files=files(PICTURE),
        headers={"Origin": "https://evil.example"},
    ),
    *(
        Bad(
            f"no origin {origin}",
            403,
            "pages of other sites",
            files=files(PICTURE),
            headers={"Origin": origin},
        )
        for origin in ("http://[", "http://[::", "//127.0.0.1", "http://", "", "[", "http://\u2100")
    ),
    Bad(
        "hidden site", 403, "pages of other sites", files=files(PICTURE), headers={"Origin": "null"}
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_it_is_refused_in_words(service: httpx.Client, bad: Bad) -> None:
    answer = service.request(
        bad.method,
        bad.path,
        files=bad.files,
        content=bad.content,
        headers={name: value.encode() for name, value in bad.headers.items()},
    )
    assert answer.status_code == bad.status, answer.text
    words = answer.json()["error"]
    assert re.search(re.escape(bad.says), words) and len(words) < 1000
    assert "Traceback" not in words and "site-packages" not in words
    alive = service.post("/v1/score", files=files(PICTURE))
    assert alive.json()["results"][0]["decision"] == "normal"


def test_the_pages_of_this_service_may_use_it(service: httpx.Client) -> None:
    host = f"{service.base_url.host}:{service.base_url.port}"
    for origin in (f"http://{host}", f"HTTPS://{host}"):
        assert service.get("/v1/models", headers={"Origin": origin}).status_code == 200
    assert service.get("/v1/models", headers={"Origin": f"ftp://{host}"}).status_code == 403


@pytest.mark.parametrize("charset", ["utf-8", '"UTF8"'])
def test_the_charset_of_a_form_may_be_said(service: httpx.Client, charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xc3\xa4.png"\r\n\r\n'
    kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = service.post("/v1/score", content=body + PICTURE + b"\r\n--x--\r\n", headers=kind)
    assert answer.json()["results"][0]["name"] == "ä.png"


def test_a_picture_that_has_no_name_gets_one(service: httpx.Client) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    body = 2 * (part + PICTURE + b"\r\n") + b"--x--\r\n"
    answer = service.post("/v1/score", content=body, headers=kind)
    assert [each["name"] for each in answer.json()["results"]] == ["picture 1", "picture 2"]


def test_there_are_many() -> None:
    assert len(BAD) >= 40
    assert len({bad.name + bad.path for bad in BAD}) == len(BAD)


def test_whatever_the_description_allows_is_answered_as_it_says(
    service: httpx.Client, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.base_url}/openapi.json"),
            # A picture of one pixel fits the description, and is refused all the same.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--max-examples", "10", "--seed", "1", "--workers", "1", "--no-color"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"(\d+) generated, \1 passed", done.stdout)
    assert found is not None and int(found[1]) > 200
    assert service.get("/healthz").status_code == 200


def test_a_name_that_is_a_script_is_a_name(service: httpx.Client) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    sent = [("files", (name, PICTURE, "image/png"))]
    answer = service.post("/v1/score", files=sent)
    assert answer.json()["results"][0]["name"] == name
    assert answer.headers["content-type"] == "application/json"
    assert service.get("/v1/inspections").json()["inspections"][0]["name"] == name


def raw(service: httpx.Client) -> socket.socket:
    return socket.create_connection((service.base_url.host, service.base_url.port or 0), 120)


def answered(connection: socket.socket) -> bytes:
    """All that comes until the service hangs up."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def test_a_slow_upload_is_given_up(impatient: httpx.Client) -> None:
    with raw(impatient) as connection:
        connection.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="'
        )
        connection.settimeout(0.1)
        received = b""
        for _ in range(9000):
            if b"in 1 seconds" in received:
                break
            connection.sendall(b"a")
            with suppress(TimeoutError):
                received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 408")
    assert impatient.get("/healthz").status_code == 200


def test_the_longest_comment_may_be_written_in_any_way(service: httpx.Client) -> None:
    number = service.post("/v1/score", files=files(PICTURE)).json()["results"][0]["id"]
    said = {"id": number, "verdict": "miss", "comment": "\U0001f600" * 2000}
    for plain in (False, True):
        body = json.dumps(said, ensure_ascii=plain)
        kind = {"Content-Type": "application/json"}
        assert service.post("/v1/feedback", content=body, headers=kind).status_code == 201
        assert service.get("/v1/inspections").json()["inspections"][0]["comment"] == said["comment"]


def test_slow_feedback_is_given_up_too(impatient: httpx.Client) -> None:
    with raw(impatient) as connection:
        connection.sendall(
            b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        assert b"408" in answered(connection)


ALIVE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASKING = b"GET /v1/inspections/1/picture HTTP/1.1\r\nHost: localhost\r\n\r\n"


def more_than_sockets_take() -> bytes:
    """A picture of 10 MB."""
    pixels = np.random.default_rng(0).integers(0, 256, (1700, 2000, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def ask_alive(connection: socket.socket, more: bytes = b"") -> None:
    """Ask whether the service is alive, send `more` behind that, and wait for the answer."""
    connection.sendall(ALIVE + more)
    received = b""
    while b"alive" not in received:
        part = connection.recv(65536)
        assert part, "it has hung up"
        received += part


def test_a_slow_head_is_given_up(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, raw(service) as connection:
        patch.setattr(listening, "HEADER_SECONDS", 0.3)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        assert answered(connection) == b""
    with monkeypatch.context() as patch, raw(service) as connection:
        # What was connected has ten seconds for its first request, and less for the next one.
        ask_alive(connection)
        patch.setattr(listening, "HEADER_SECONDS", 0.3)
        connection.sendall(ALIVE + b"GET /he")
        assert answered(connection).count(b"alive") == 1


def test_a_slow_head_after_an_answer_is_given_up(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, raw(service) as connection:
        ask_alive(connection)
        patch.setattr(listening, "HEADER_SECONDS", 0.3)
        ask_alive(connection)
        # Its own packet: uvicorn no longer waits for a request, and for its rest without end.
        connection.sendall(b"GET /he")
        assert answered(connection) == b""


def test_who_sends_the_next_request_early_has_time_for_its_content(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, raw(service) as connection:
        ask_alive(connection)
        patch.setattr(listening, "HEADER_SECONDS", 0.5)
        head = b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
        ask_alive(connection, head + b"Content-Type: application/json\r\n\r\n{")
        time.sleep(1.0)
        connection.sendall(b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422")


def test_who_reads_in_the_end_may_ask_again(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = more_than_sockets_take()
    limits = replace(settings, recent_bytes=2 * len(content), max_bytes=2 * len(content))
    with serving(limits) as service:
        assert service.post("/v1/score", files=files(content)).status_code == 200
        with monkeypatch.context() as patch, raw(service) as connection:
            patch.setattr(listening, "READ_SECONDS", 1.0)
            connection.sendall(ASKING)
            time.sleep(0.1)
            received = 0
            while received < len(content):
                received += len(connection.recv(1 << 20))
            time.sleep(1.5)
            ask_alive(connection)


def test_chunks_without_a_length_are_refused(service: httpx.Client) -> None:
    answer = service.post("/v1/score", content=iter([b"--x--"]))
    assert answer.status_code == 411 and "Content-Length" in answer.json()["error"]


def test_a_length_beyond_the_limit_is_refused_before_it_comes(service: httpx.Client) -> None:
    with raw(service) as connection:
        connection.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /" + b"a" * 100_000,
    ],
)
def test_what_is_no_http_is_refused(service: httpx.Client, request_: bytes) -> None:
    with raw(service) as connection:
        connection.sendall(request_ + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    assert service.get("/healthz").status_code == 200


def test_who_hangs_up_in_the_middle_harms_nobody(service: httpx.Client) -> None:
    for _ in range(5):
        with raw(service) as connection:
            connection.sendall(
                b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            )
    assert service.post("/v1/score", files=files(PICTURE)).status_code == 200


def test_who_never_reads_is_cut_off_and_memory_returns(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "READ_SECONDS", 3600)
    gone: set[object] = set()
    ended = listening.Protocol.connection_lost

    def noted(protocol: listening.Protocol, error: Exception | None) -> None:
        ended(protocol, error)
        gone.add(protocol.client)

    monkeypatch.setattr(listening.Protocol, "connection_lost", noted)
    content = more_than_sockets_take()
    limits = replace(
        settings,
        recent_bytes=2 * len(content),
        max_bytes=2 * len(content),
        max_pending_bytes=7 * len(content) // 2,
    )
    with serving(limits) as service:

        def ask() -> httpx.Response:
            return service.get("/v1/inspections/1/picture")

        assert service.post("/v1/score", files=files(content)).status_code == 200
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(raw(service)).sendall(ASKING)
            # What they do not read is held, so there is no room for another one.
            begun = 'path="/v1/inspections/{number}/picture",status="200"} 3.0'
            until(lambda: begun in service.get("/metrics").text)
            refused = ask()
            assert refused.status_code == 429 and "nobody has read" in refused.json()["error"]
            assert service.get("/readyz").status_code == 200
        until(lambda: ask().status_code == 200)
        with raw(service) as connection:
            with monkeypatch.context() as patch:
                patch.setattr(listening, "READ_SECONDS", 0.2)
                connection.sendall(ASKING)
                until(lambda: connection.getsockname() in gone)
            received = 0
            with suppress(ConnectionResetError):
                received = len(answered(connection))
            assert received < len(content)
        assert ask().content == content


def test_an_answer_leaves_in_parts_and_whole(settings: ServiceSettings) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nobody asks")

    async def send(message: Message) -> None:
        sent.append(message)

    # One alone may be longer than all that may be unread.
    limits = replace(settings, max_bytes=PART, max_pending_bytes=PART)
    for size in (0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 5):
        body = bytes(i % 251 for i in range(size))
        guard = Guard(Response(body), limits, count=lambda path, status: None)
        sent.clear()
        scope = {"type": "http", "path": "/", "headers": [(b"host", b"localhost")]}
        asyncio.run(guard(scope, receive, send))
        parts = [message["body"] for message in sent[1:]]
        assert b"".join(parts) == body and max(map(len, parts)) <= PART
        assert [message.get("more_body", False) for message in sent[1:]] == [
            *[True] * (len(parts) - 1),
            False,
        ]
        assert guard._unread == 0


def status(settings: ServiceSettings, path: str, length: int = 0, **headers: str) -> int:
    """What the guard, before an application that takes all, answers."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nobody asks")

    async def send(message: Message) -> None:
        sent.append(message)

    named = {"host": "localhost", "content-length": str(length), **headers}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    guard = Guard(Response(), settings, count=lambda path, status: None)
    asyncio.run(guard({"type": "http", "path": path, "headers": raw}, receive, send))
    return int(sent[0]["status"])


def test_the_longest_requests_are_taken(settings: ServiceSettings) -> None:
    limits = replace(settings, max_bytes=100_000, max_pending_bytes=100_000)
    for path, longest in (
        *(("/v1/score", 100_000), ("/v1/score/", 100_000), ("/v1/map", 100_000)),
        ("/v1/feedback", SHORT),
    ):
        statuses = [status(limits, path, length) for length in (longest, longest + 1)]
        assert statuses == [200, 413]


def test_names_of_hosts_and_schemes_may_be_in_capitals(settings: ServiceSettings) -> None:
    token = "a-token-that-nobody-guesses"
    guarded = replace(settings, token=token)
    for scheme in ("Bearer", "bearer", "BEARER"):
        right = {"authorization": f"{scheme} {token}", "host": "LocalHost:8000"}
        assert status(guarded, "/v1/models", **right) == 200
    # The page itself, which asks for the token, needs none.
    for path, expected in (("/", 200), ("/static/app.js", 200), ("/staticky", 401)):
        assert status(guarded, path) == expected


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("fails", "status"), [(True, 500), (False, 503)])
def test_what_fails_or_is_stopped_is_answered_once(
    settings: ServiceSettings, fails: bool, begun: bool, status: int
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if fails:
            raise RuntimeError("what nobody expected")
        await asyncio.Event().wait()

    async def ask() -> None:
        guard = Guard(app, settings, count=lambda path, status: None)
        scope = {"type": "http", "path": "/", "headers": [(b"host", b"localhost")]}
        task = asyncio.create_task(guard(scope, lambda: asyncio.Future(), send))
        await asyncio.sleep(0)
        task.cancel()  # as uvicorn does when it has waited long enough
        await task
        assert guard._pending == guard._unread == 0

    asyncio.run(ask())
    assert [message.get("status") for message in sent] == ([200] if begun else [status, None])
    assert begun or "error" in json.loads(sent[-1]["body"])


def test_bodies_in_hand_are_bounded(settings: ServiceSettings) -> None:
    limits = replace(settings, max_bytes=100_000, max_pending_bytes=150_000, upload_seconds=3600.0)
    with serving(limits) as service:

        def ask() -> httpx.Response:
            return service.post("/v1/score", files=files(b"\0" * 60_000))

        with raw(service) as connection:
            connection.sendall(
                b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            )
            until(lambda: ask().status_code == 429)
            assert ask().headers["retry-after"] == "1"
            assert service.post("/v1/score", files=files(PICTURE)).status_code == 200
        until(lambda: ask().status_code == 422)
