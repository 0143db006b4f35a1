from pathlib import Path
from typing import Any

import pytest

from onlygood.core.errors import ConfigError
from onlygood.deploy.service.settings import ServiceSettings

TOKEN = "a-token-that-nobody-guesses"
REACHED = {"host": "192.0.2.7", "token": TOKEN}


def made(**changes: Any) -> ServiceSettings:
    return ServiceSettings(**{"models": (Path("nut.onnx"),), "log": Path("log.sqlite"), **changes})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_this_machine_no_token_is_needed(host: str) -> None:
    assert made(host=host).local


def test_others_need_a_token_and_a_name() -> None:
    assert made(**REACHED).hosts == {"localhost", "127.0.0.1", "[::1]", "192.0.2.7"}
    everywhere = made(host="0.0.0.0", token=TOKEN, allowed_hosts=("Line.example",))
    assert "line.example" in everywhere.hosts
    assert "[2001:db8::1]" in made(host="2001:db8::1", token=TOKEN).hosts


def test_a_token_is_not_shown() -> None:
    assert TOKEN not in repr(made(**REACHED))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": ()}, "nothing to serve"),
        ({"models": (Path("nut.safetensors"),)}, "onlygood export nut.safetensors"),
        ({"models": (Path("a/nut.onnx"), Path("b/nut.onnx"))}, "nut came more than once"),
        ({"host": "0.0.0.0"}, "a token is needed"),
        ({"host": "line.example"}, "a token is needed"),
        ({"host": "0.0.0.0", "token": TOKEN}, "--allow-host"),
        ({"allowed_hosts": ("line.example:8000",)}, 'got "line.example:8000"'),
        ({"allowed_hosts": ("http://line.example",)}, "without http:// and port"),
        ({"allowed_hosts": ("fe80::1",)}, "IPv6 in brackets"),
        ({"token": "short"}, "16 or more"),
        ({"token": "with spaces that are not allowed"}, "no spaces"),
        ({"queue": 0}, "queue must be from 1 to"),
        ({"upload_seconds": float("nan")}, "upload_seconds must be from 0.1 to 3600, got nan"),
        ({"keep_days": float("inf")}, "keep_days must be from 1 to 36500, got inf"),
        ({"keep_days": 1e6}, "keep_days must be from 1 to 36500"),
        ({"threads": -1}, "threads must be from 0"),
        ({"queue": 4}, "would never have room in a queue of 4"),
        ({"max_pending_bytes": 1}, "would never have room in max_pending_bytes"),
        ({"keep_bytes": 1}, "keep_bytes must be"),
        ({"models": (Path("b\udcff.onnx"),)}, "is no UTF-8"),
        ({"pins": ("1f0c",)}, "a pin is"),
        ({"pins": ("hexadecimal!",)}, "a pin is"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made(**changes)
