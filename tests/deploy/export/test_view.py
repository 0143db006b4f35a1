"""A part that is no square, with a region of interest and a mask, on its whole way."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from onlygood import Detector
from onlygood.core.settings import View
from onlygood.data.align import Pose, aligned
from onlygood.data.mask import mask_of
from onlygood.data.resize import looked_at
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime

ROI = "0.1,0.2,0.9,1"
LAMP = (slice(20, 36), slice(30, 50))
"""Blinks, and is to be ignored."""
SCRATCH = (slice(40, 46), slice(90, 110))
UNSEEN = (slice(0, 12), slice(0, 160))


def photo(seed: int) -> NDArray[np.uint8]:
    """A part of 160 x 60 pixels: slots, noise, and a lamp of any colour."""
    draw = np.random.default_rng(seed)
    slots = 120 + 50 * np.sin(np.arange(160) / 4) * np.sin(np.arange(60) / 8)[:, None]
    pixels = slots[..., None] + draw.normal(0, 4, (60, 160, 3))
    pixels[LAMP] = draw.integers(0, 256, 3)
    return pixels.clip(0, 255).astype(np.uint8)


def mask() -> NDArray[np.uint8]:
    ignored = np.zeros((60, 160), np.uint8)
    ignored[LAMP] = 255
    return ignored


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("pca", {"size": 64, "components": 3, "tile": 16, "overlap": 0.25, "smooth": 0.0}),
        ("autoencoder", {"size": 32, "width": 4, "latent": 4, "steps": 60}),
        ("reflect", {"size": 192, "averaged": False}),
    ],
    ids=["tiles", "padded", "features"],
)
def test_a_part_with_a_roi_and_a_mask(
    method: str, settings: Mapping[str, object], tmp_path: Path
) -> None:
    normal = [photo(i) for i in range(40)]
    fitted = Detector.fit(method, normal, settings={**settings, "roi": ROI}, ignore=mask())
    fitted.save(tmp_path / "it.safetensors")
    detector = Detector.load(tmp_path / "it.safetensors")
    view = detector.view
    assert view == fitted.view
    assert view.aspect == pytest.approx(128 / 48)
    assert view.canvas == (view.sides if method == "autoencoder" else view.shape) or view.tile

    bad, other = photo(99), photo(99)
    bad[SCRATCH] = 255
    # The same part, where it counts.
    other[LAMP], other[UNSEEN] = 255, 0
    plain, scratched, same = detector.score([photo(99), bad, other])
    assert same.score == plain.score < scratched.score
    assert scratched.decision == "anomalous"
    assert scratched.map is not None and scratched.map.shape == (60, 160)
    row, column = np.unravel_index(scratched.map.argmax(), scratched.map.shape)
    assert 36 <= row < 50 and 86 <= column < 114
    looked = looked_at((60, 160), view)
    assert not looked[LAMP].any() and not looked[UNSEEN].any() and looked[SCRATCH].all()
    assert not scratched.map[~looked].any()

    export(detector, tmp_path / "it.onnx")
    runtime = Runtime.load(tmp_path / "it.onnx", threads=1)
    assert runtime.view == view
    session = onnxruntime.InferenceSession(tmp_path / "it.onnx", providers=["CPUExecutionProvider"])
    pictures = [bad, other, normal[0]]
    ours, theirs = detector.score([*pictures, bad[1:]]), runtime.score([*pictures, bad[1:]])
    raw = session.run(["score", "map"], {"pictures": np.stack(pictures)})
    for i, (a, b) in enumerate(zip(ours[:3], theirs, strict=False)):
        assert (a.score, a.score) == pytest.approx((b.score, raw[0][i]), rel=1e-4)
        assert a.map is not None and b.map is not None
        np.testing.assert_allclose(a.map, b.map, rtol=1e-3, atol=1e-3)
    assert raw[1].shape == (3, *view.shape)
    for results in (ours, theirs):
        assert results[3].decision == "error"
        assert "is 160 x 59, and the mask of what is ignored 160 x 60" in str(results[3].error)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_part_that_lies_anyhow(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    poses = [Pose(*draw.uniform((-6, -0.04, -0.04), (6, 0.04, 0.04))) for _ in range(30)]
    normal = [aligned(photo(i), at) for i, at in enumerate(poses)]
    settings = {"size": 80, "components": 4, "tile": 16, "roi": "0.1,0.1,0.9,0.9"}
    detector = Detector.fit("pca", normal, settings=settings, ignore=mask(), align=photo(99))
    bad = photo(99)
    bad[SCRATCH] = 255
    turned = aligned(bad, Pose(5.0, -0.03, 0.02))
    export(detector, tmp_path / "it.onnx")
    runtime = Runtime.load(tmp_path / "it.onnx", threads=1)
    (straight, ours), (theirs,) = detector.score([bad, turned]), runtime.score([turned])
    assert ours.decision == "anomalous"
    assert ours.score == pytest.approx(theirs.score, rel=1e-4)
    assert ours.score == pytest.approx(straight.score, rel=0.25)
    assert ours.map is not None and theirs.map is not None
    np.testing.assert_allclose(ours.map, theirs.map, rtol=1e-3, atol=1e-3)
    peak = np.unravel_index(ours.map.argmax(), ours.map.shape)
    assert np.abs(np.argwhere(turned[..., 0] == 255) - peak).max(1).min() < 4


def test_a_mask_is_kept_as_it_was_given() -> None:
    view = Detector.fit("pca", [photo(i) for i in range(4)], ignore=mask()).view
    np.testing.assert_array_equal(mask_of(view.ignore), mask() > 0)
    assert View(ignore=view.ignore, roi=(0.0, 0.0, 1.0, 1.0)).ignore == view.ignore
