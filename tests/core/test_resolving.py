from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from onlygood.core.errors import ConfigError
from onlygood.core.resolving import (
    Field,
    describe,
    from_json,
    load_toml,
    parse_assignment,
    resolve,
    to_json,
)
from onlygood.core.settings import Preset, Training, View
from onlygood.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Settings of a toy."""

    alpha: float = 0.5
    """Weight, Eq. 1."""
    width: int = 8
    """Channels."""
    game: Literal["hinge", "wasserstein"] = "hinge"
    """Losses."""
    depth: Literal[2, 4] = 2
    name: str = "toy"
    """A name."""
    betas: tuple[float, float] = (0.0, 0.9)
    """Of Adam."""
    layers: tuple[str, ...] = ("fine", "coarse")
    """One or more."""
    clip: float | None = None
    """Largest gradient norm; None: any."""
    fast: bool = False
    """Be fast."""


PRESETS = {
    "default": Preset(summary="as it is", training={"minutes": 10.0}),
    "small": Preset(summary="small", config={"width": 4}, view={"size": 32}),
}


def config(**overrides: object) -> ToyConfig:
    resolved: ToyConfig = resolve("toy", ToyConfig, PRESETS, overrides=overrides).config
    return resolved


def test_override_beats_preset_beats_default() -> None:
    overrides = {"size": "64", "batch_size": 8}
    resolved = resolve("toy", ToyConfig, PRESETS, preset="small", overrides=overrides)
    assert resolved.config == ToyConfig(width=4)
    assert resolved.view == View(size=64)
    assert resolved.training == Training(batch_size=8)


def test_default_preset_is_used_without_a_name() -> None:
    assert resolve("toy", ToyConfig, PRESETS).training == Training(minutes=10.0)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"steps": 5}, Training(steps=5)),
        ({"images": "64"}, Training(images=64)),
        ({"minutes": "0.5"}, Training(minutes=0.5)),
        ({"batch_size": 8}, Training(batch_size=8, minutes=10.0)),
    ],
)
def test_a_budget_replaces_those_of_the_preset(given: dict[str, object], meant: Training) -> None:
    assert resolve("toy", ToyConfig, PRESETS, overrides=given).training == meant


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("alpha", "3e-3", 0.003),
        ("alpha", 1, 1.0),
        ("width", "16", 16),
        ("width", "1e2", 100),
        ("width", 16.0, 16),
        ("width", np.int64(16), 16),
        ("width", 2**53 + 1, 2**53 + 1),
        ("width", str(2**53 + 1), 2**53 + 1),
        ("alpha", np.float32(0.5), 0.5),
        ("game", "wasserstein", "wasserstein"),
        ("depth", "4", 4),
        ("name", "3", "3"),
        ("betas", "0, 0.5", (0.0, 0.5)),
        ("betas", "(0, .5)", (0.0, 0.5)),
        ("betas", [0, 0.5], (0.0, 0.5)),
        ("layers", "fine", ("fine",)),
        ("layers", "fine, middle, coarse", ("fine", "middle", "coarse")),
        ("clip", "none", None),
        ("clip", None, None),
        ("clip", "2", 2.0),
        ("fast", "true", True),
        ("fast", "No", False),
        ("fast", True, True),
    ],
)
def test_values_take_the_type_of_their_field(name: str, given: object, meant: object) -> None:
    value = getattr(config(**{name: given}), name)
    assert value == meant
    assert type(value) is type(meant)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("alpha", "much", "alpha takes a number, got 'much'"),
        ("alpha", "nan", "alpha takes a number"),
        ("alpha", "inf", "alpha takes a number"),
        ("alpha", True, "alpha takes a number, got True"),
        ("alpha", [1.0], "alpha takes a number"),
        ("width", "1.5", "width takes a whole number, got '1.5'"),
        ("width", True, "width takes a whole number"),
        ("alpha", 10**400, "alpha takes a number"),
        (
            "game",
            "hing",
            "game cannot be 'hing'; did you mean \"hinge\"? known: hinge, wasserstein",
        ),
        ("depth", 3, "depth cannot be 3; known: 2, 4"),
        ("depth", 2.5, "depth cannot be 2.5"),
        ("name", 3, "name takes text, got 3"),
        ("betas", "0.5", "betas takes 2 values, for example betas=0,0, got '0.5'"),
        ("betas", [0.1, "x"], "betas takes a number, got 'x'"),
        ("betas", 0.5, "betas takes 2 values"),
        ("layers", "", "layers takes one value or more, with commas between, got ''"),
        ("layers", [1], "layers takes text, got 1"),
        ("clip", "some", "clip takes a number"),
        ("fast", "perhaps", "fast takes true or false, got 'perhaps'"),
        ("fast", 1, "fast takes true or false, got 1"),
    ],
)
def test_wrong_types_are_refused(name: str, given: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**{name: given})
    assert str(caught.value).startswith(says)


def test_unknown_field_names_the_close_one_and_all_others() -> None:
    with pytest.raises(
        ConfigError, match=r'no setting "wdth" for method "toy"; did you mean "width"\? '
    ) as caught:
        config(wdth=1)
    assert "known: toy: alpha, width," in str(caught.value)
    assert "; pictures: size, aspect, pad," in str(caught.value)
    assert "; training: steps, images," in str(caught.value)


def test_unknown_preset_names_the_close_one() -> None:
    with pytest.raises(ConfigError, match='"smal"; did you mean "small"\\? known: default, small'):
        resolve("toy", ToyConfig, PRESETS, preset="smal")


def test_a_name_in_two_places_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Clash:
        size: int = 3

    with pytest.raises(ConfigError, match=r"View\.size .* shares its name with Clash"):
        resolve("clash", Clash, PRESETS)


def test_a_field_named_like_a_key_of_files_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Clash:
        preset: str = ""

    with pytest.raises(ConfigError, match=r"Clash\.preset .* a key of settings files"):
        resolve("clash", Clash, PRESETS)


@pytest.mark.parametrize("method", METHODS)
def test_every_preset_of_every_method_resolves(method: str) -> None:
    cls = METHODS[method]
    assert "default" in cls.presets
    for preset, bundle in cls.presets.items():
        resolved = resolve(method, cls.config_class, cls.presets, preset=preset)
        for name, value in bundle.config.items():
            assert getattr(resolved.config, name) == value


@pytest.mark.parametrize("settings", [View, Training])
def test_every_setting_of_pictures_and_training_has_one_line_on_it(settings: type) -> None:
    for field in describe(settings):
        assert field.doc.endswith("."), field.name
        assert "\n" not in field.doc, f"the docstring of {field.name} must be one line"


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_every_method_is_documented(method: str) -> None:
    for field in describe(METHODS[method].config_class):
        assert field.doc.endswith("."), field.name


@pytest.mark.parametrize(
    ("text", "pair"),
    [("alpha=3e-3", ("alpha", "3e-3")), (" name = a=b ", ("name", "a=b")), ("name=", ("name", ""))],
)
def test_assignment(text: str, pair: tuple[str, str]) -> None:
    assert parse_assignment(text) == pair


@pytest.mark.parametrize("text", ["alpha", "=3", ""])
def test_assignment_without_name_or_sign_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="written field=value"):
        parse_assignment(text)


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('method = "toy"\nalpha = 1\nbetas = [0.1, 0.2]\n')
    file = load_toml(path)
    assert (file.method, file.preset) == ("toy", None)
    assert config(**file.overrides) == ToyConfig(alpha=1.0, betas=(0.1, 0.2))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"alpha = ", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        (b"[training]\nsteps = 1", r"table \[training\]"),
        (b"preset = 3", "preset is a name in quotation marks, got 3"),
    ],
)
def test_bad_toml_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_toml(path)


def test_missing_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*none\.toml: No such"):
        load_toml(tmp_path / "none.toml")


def test_describe_reads_types_defaults_and_docs() -> None:
    fields = {field.name: field for field in describe(ToyConfig)}
    assert list(fields) == list(ToyConfig.__dataclass_fields__)
    assert fields["alpha"] == Field("alpha", "float", 0.5, "Weight, Eq. 1.")
    assert fields["depth"].doc == ""
    assert fields["betas"].type == "tuple[float, float]"


@dataclass(frozen=True, kw_only=True)
class OtherDefault(ToyConfig):
    """A field with another default, and one with another meaning."""

    alpha: float = 0.25
    width: int = 3
    """Of another network."""


def test_a_field_named_anew_keeps_its_meaning_where_it_says_no_other() -> None:
    first, second = (
        {field.name: field for field in describe(cls)} for cls in (ToyConfig, OtherDefault)
    )
    assert list(first) == list(second)
    assert (second["alpha"].default, second["alpha"].doc) == (0.25, first["alpha"].doc)
    assert (second["width"].default, second["width"].doc) == (3, "Of another network.")


def test_json_round_trip() -> None:
    settings = ToyConfig(betas=(0.1, 0.2), clip=3.0, depth=4, fast=True)
    data = to_json(settings)
    assert data["betas"] == [0.1, 0.2]
    assert from_json(ToyConfig, data) == settings


def test_json_of_an_older_version_takes_the_default() -> None:
    assert from_json(ToyConfig, {"width": 3}) == ToyConfig(width=3)


def test_json_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match='ToyConfig has no field "widht"; did you mean "width"'):
        from_json(ToyConfig, {"widht": 3})
