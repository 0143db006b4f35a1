"""Several services as the guide has them: behind nginx, run for real; on Kubernetes, by shape."""

import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from onlygood.cli.serve import serve
from onlygood.deploy.service.listening import GRACE_SECONDS
from onlygood.deploy.service.settings import MIB, ServiceSettings
from tests.deploy.conftest import exported, model
from tests.deploy.stream import Process, files, normal, serving, until
from tests.docs.test_factory import free_port

__all__ = ["exported", "model"]

FACTORY = Path(__file__).parents[2] / "docs" / "guides" / "factory"
GUIDE = FACTORY.parent / "service.md"
LIMITS = """
daemon off; master_process off; pid {0}/pid; error_log {0}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    include {0}/onlygood.conf;
}}
"""
"""What a whole configuration has around that of the guide."""


@pytest.fixture
def services(model: Path, tmp_path: Path) -> Iterator[list[Process]]:
    log = tmp_path / "log.sqlite"
    with Process(model, "--log", log) as one, Process(model, "--log", log) as two:
        yield [one, two]


@pytest.fixture
def nginx(services: list[Process], tmp_path: Path) -> Iterator[str]:
    """The address of nginx with the file of the guide, in which only ports are other ones."""
    text = (FACTORY / "nginx.conf").read_text("utf-8")
    ports = [str(free_port()), *(service.url.rpartition(":")[2] for service in services)]
    for number, port in enumerate(ports):
        assert f":{8000 + number}" in text
        text = text.replace(f":{8000 + number}", f":{port}")
    (tmp_path / "onlygood.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(LIMITS.format(tmp_path))
    command = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "errors"]
    address = f"http://127.0.0.1:{ports[0]}"
    with subprocess.Popen(command) as process:
        try:
            until(lambda: answers(address))
            yield address
        finally:
            process.terminate()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_a_killed_service_costs_no_request(
    nginx: str, services: list[Process], tmp_path: Path
) -> None:
    stop = threading.Event()
    told: list[httpx.Response] = []
    broken: list[httpx.RemoteProtocolError] = []

    def ask(client: httpx.Client) -> None:
        while not stop.is_set():
            try:
                told.append(client.post("/v1/score", files=files(normal(len(told)))))
            except httpx.RemoteProtocolError as error:
                broken.append(error)

    with httpx.Client(base_url=nginx, timeout=30) as client:
        threads = [threading.Thread(target=ask, args=[client]) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(told) > 40)
            shares = [decided(service) for service in services]
            services[0].kill()
            killed_at = len(told)
            until(lambda: len(told) > killed_at + 40)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert all(share > 0 for share in shares), "both had their part"
        assert {answer.status_code for answer in told} == {200}
        # A service writes one answer at a time, its head first: killed between, it breaks that off.
        assert len(broken) <= 1
        ids = [answer.json()["results"][0]["id"] for answer in told]
        assert len(set(ids)) == len(ids)
        with closing(sqlite3.connect(tmp_path / "log.sqlite")) as log:
            logged = {row[0] for row in log.execute("SELECT id FROM inspections")}
        assert set(ids) <= logged
        # One that died when its decision was in the log, but not told, has left a row more.
        assert len(logged) <= len(ids) + len(threads)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_pictures_are_found_where_they_were_judged(nginx: str, services: list[Process]) -> None:
    with httpx.Client(base_url=nginx, timeout=30) as client:
        ids = [
            client.post("/v1/score", files=files(normal(i))).json()["results"][0]["id"]
            for i in range(6)
        ]
        assert all(decided(service) for service in services)
        for number in 2 * ids:
            assert client.get(f"/v1/inspections/{number}/picture").status_code == 200
            answer = client.post("/v1/feedback", json={"id": number, "verdict": "correct"})
            assert answer.status_code == 201
        assert client.get("/metrics").status_code == 404


def decided(service: Process) -> int:
    """Pictures that a service has judged."""
    found = re.findall(r"^onlygood_pictures_total{.*} (\d+)", metrics(service), re.M)
    return sum(map(int, found))


def metrics(service: Process) -> str:
    return httpx.get(f"{service.url}/metrics").text


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    documents = yaml.safe_load_all((FACTORY / "kubernetes.yaml").read_text("utf-8"))
    found = list(documents)
    assert len(found) == 3
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


@pytest.fixture(scope="module")
def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["StatefulSet onlygood"]["spec"]["template"]["spec"]
    return found


def entry_point() -> list[str]:
    """Of the image."""
    text = (FACTORY / "Containerfile").read_text("utf-8").replace("\\\n", "")
    found = re.search(r"^ENTRYPOINT (\[.*\])", text, re.M)
    assert found is not None
    return list(yaml.safe_load(found[1]))


def test_the_pod_starts_a_service_that_its_probes_reach(
    pod: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    (container,) = pod["containers"]
    words = entry_point() + container["args"]
    (port,) = container["ports"]
    assert port["containerPort"] == 8000, "the usual one"
    options = typer_options([*words[2:]])
    settings = ServiceSettings(
        models=(model,),
        log=tmp_path / "log.sqlite",
        host=options["host"],
        token=16 * "t",
        allowed_hosts=tuple(options["allow_host"]),
        keep_bytes=options["keep_megabytes"] * MIB,
        threads=options["threads"],
    )
    stranger = {"Host": "10.0.0.7:8000"}
    paths = {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    with serving(settings) as client:
        for name, path in paths.items():
            probe = container[f"{name}Probe"]["httpGet"]
            assert (probe["path"], probe["port"]) == (path, port["name"])
            headers = {header["name"]: header["value"] for header in probe["httpHeaders"]}
            assert client.get(path, headers=headers).status_code == 200
            assert client.get(path, headers=stranger).status_code == 400, "the header is needed"


def typer_options(words: list[str]) -> dict[str, Any]:
    """What the command takes from a command line."""
    import typer
    from typer.main import get_command

    app = typer.Typer()
    app.command()(serve)
    return dict(get_command(app).make_context("serve", words).params)


def test_everything_that_the_pod_names_is_mounted(
    manifest: dict[str, Any], pod: dict[str, Any]
) -> None:
    (container,) = pod["containers"]
    options = typer_options(entry_point()[2:] + container["args"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (claim,) = manifest["StatefulSet onlygood"]["spec"]["volumeClaimTemplates"]
    # One volume a log: a claim of each pod, not a volume of all.
    assert mounts[str(options["log"].parent)] == claim["metadata"]["name"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "secret" in volumes[mounts[str(options["token_file"].parent)]]
    assert mounts[str(options["models"][0].parent)] in volumes
    assert set(mounts.values()) == {*volumes, claim["metadata"]["name"]}
    limits = container["resources"]["limits"]
    assert int(limits["cpu"]) == options["threads"]
    storage = claim["spec"]["resources"]["requests"]["storage"]
    # Verdicts have an eighth of the log's room, and a write-ahead log needs some as well.
    assert int(storage.removesuffix("Gi")) * 1024 >= 1.5 * options["keep_megabytes"]
    assert pod["terminationGracePeriodSeconds"] > GRACE_SECONDS
    selector = manifest["StatefulSet onlygood"]["spec"]["selector"]["matchLabels"]
    assert manifest["Service onlygood"]["spec"]["selector"] == selector
    assert "onlygood" in options["allow_host"]


def test_each_pod_answers_to_its_own_name(manifest: dict[str, Any], pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    spec = manifest["StatefulSet onlygood"]["spec"]
    pods = manifest[f"Service {spec['serviceName']}"]["spec"]
    # Only a service without an address of its own gives its pods names.
    assert (pods["clusterIP"], pods["selector"]) == ("None", spec["selector"]["matchLabels"])
    (variable,) = container["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    options = typer_options(entry_point()[2:] + container["args"])
    assert f"$({variable['name']}).{spec['serviceName']}" in options["allow_host"]
    assert f"`onlygood-0.{spec['serviceName']}:8000`" in GUIDE.read_text("utf-8")
