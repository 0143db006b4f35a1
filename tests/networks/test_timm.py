"""Backbones of timm, with random weights: what they give is what timm gives by other ways."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError
from onlygood.networks.backbones import backbone


@pytest.fixture(scope="module")
def timm() -> Any:
    """The package, also beside a torch that torchvision's operators were not built for."""
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its import wants operators declared that only its own builds bring; nothing calls them.
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    return timm


def weights(timm: Any, model: str, folder: Path) -> tuple[Any, Path]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = timm.create_model(model).eval()
    torch.save(whole.state_dict(), folder / "random.pth")
    return whole, folder / "random.pth"


def normalised(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (x.expand(-1, 3, -1, -1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(
        3, 1, 1
    )


def test_blocks_of_a_transformer_are_layers(timm: Any, tmp_path: Path) -> None:
    whole, path = weights(timm, "test_vit", tmp_path)
    found = backbone("timm:test_vit", ("blocks.1", "blocks.3"), path)
    assert found.layers == ("blocks.1", "blocks.3")
    assert found.strides == (16, 16)
    x = torch.rand(2, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    mean, std = whole.pretrained_cfg["mean"], whole.pretrained_cfg["std"]
    expected = whole.forward_intermediates(
        normalised(x, mean, std), indices=[1, 3], intermediates_only=True, norm=False
    )
    for mine, reference in zip(found(x), expected, strict=True):
        torch.testing.assert_close(mine, reference)
    # Sizes that its patches do not divide are padded.
    assert [tuple(maps.shape[2:]) for maps in found(x[:, :, :100, :150])] == [(7, 10), (7, 10)]


def test_names_of_strides_and_of_timm(timm: Any, tmp_path: Path) -> None:
    _, path = weights(timm, "test_resnet", tmp_path)
    found = backbone("timm:test_resnet", ("stride16", "layer2"), path)
    assert found.layers == ("layer2", "stride16")
    x = torch.rand(1, 3, 64, 64)
    by_stride = backbone("timm:test_resnet", ("stride8",), path)(x)
    assert found.strides == (8, 16)
    torch.testing.assert_close(found(x)[0], by_stride[0])
    with pytest.raises(ConfigError, match=r'no layer "layer9"; did you mean "layer'):
        backbone("timm:test_resnet", ("layer9",), path)


def test_channels_come_first_whatever_the_network_prefers(timm: Any, tmp_path: Path) -> None:
    model = "mambaout_femto"
    _, path = weights(timm, model, tmp_path)
    theirs = timm.create_model(model, features_only=True)
    assert theirs.output_fmt.value == "NHWC"
    (maps,) = backbone(f"timm:{model}", ("stride8",), path)(torch.rand(1, 3, 64, 96))
    assert maps.shape == (1, theirs.feature_info.info[1]["num_chs"], 8, 12)
