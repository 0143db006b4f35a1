"""What is held of pictures that a calibration looks at."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onlygood import Detector
from onlygood.core.errors import DataError
from onlygood.data.source import ImageSource, Picture
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime
from onlygood.detector.raw_scores import BATCH, Looked, RawScorer, RawScores


@pytest.fixture(scope="module")
def scorer() -> RawScorer:
    pictures = list(np.random.RandomState(0).randint(0, 256, (30, 8, 8), np.uint8))
    return Detector.fit("mean_picture", pictures, settings={"size": 8}).scorer


def test_maps_of_calibration_pictures_are_not_held(
    scorer: RawScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a million pictures would be 200 GB."""
    pictures = list(np.random.RandomState(0).randint(0, 256, (4 * BATCH, 8, 8), np.uint8))
    score, maps = RawScorer.score, list[weakref.ref[Any]]()

    def watched(self: RawScorer, batch: Any, **how: Any) -> RawScores:
        # The last ones may have a name still.
        assert [one() for one in maps[:-1]] == [None] * len(maps[:-1])
        found = score(self, batch, **how)
        maps.append(weakref.ref(found.maps))
        return found

    monkeypatch.setattr(RawScorer, "score", watched)
    survey = scorer.survey(ImageSource.of(pictures))
    assert len(maps) == 4 and survey.pixel_maxima is not None
    assert len(survey.totals) == len(survey.pixel_maxima) == len(pictures)


def test_parts_of_a_survey_make_the_whole(scorer: RawScorer) -> None:
    """Also where a part has no picture that can be read, and in pieces that were sent."""
    pixels = np.random.RandomState(1).randint(0, 256, (9, 8, 8), np.uint8)
    items = [Picture(str(n), one) for n, one in enumerate(pixels)]
    for bad in (1, 3, 4, 5):
        items[bad] = Picture(str(bad), b"no picture")
    source = ImageSource(items)
    whole = scorer.survey(source)
    parts = [scorer.looked(source, range(first, first + 3)) for first in (0, 3, 6)]
    merged, *others = (Looked.of(part.tensors()) for part in parts)
    for other in others:
        merged.merge(other)
    found = merged.survey(source)
    assert found.pictures.names == whole.pictures.names == ["0", "2", "6", "7", "8"]
    assert [one.name for one in found.unreadable] == ["1", "3", "4", "5"]
    assert found.unreadable == whole.unreadable
    assert found.pixel_median == whole.pixel_median is not None
    assert whole.pixel_maxima is not None
    for mine, expected in (
        (found.totals, whole.totals),
        (found.pixel_maxima, whole.pixel_maxima),
        (found.parts["pixels"], whole.parts["pixels"]),
    ):
        np.testing.assert_allclose(mine, expected, rtol=1e-6)
    with pytest.raises(DataError, match="none of the 3 calibration pictures can be read"):
        parts[1].survey(source.subset(range(3, 6)))


@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_hidden_does_not_glow_at_its_rim(tmp_path: Path) -> None:
    normal = np.full((40, 64, 64), 100, np.uint8)
    normal += np.random.default_rng(0).integers(0, 9, normal.shape, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[8:24, 36:60] = 255
    found = Detector.fit("mean_picture", normal, settings={"size": 64}, ignore=mask)
    bad = normal[0].copy()
    bad[40:60, 4:24] = 255  # Its colour fills what is hidden, too.
    (result,) = found.score([bad])
    assert result.map is not None
    assert result.map[50, 14] > 5
    assert result.map[mask > 0].max() == 0
    assert result.map[4:28, 32:63].max() < 1
    export(found, tmp_path / "m.onnx")
    (again,) = Runtime.load(tmp_path / "m.onnx").score([bad])
    np.testing.assert_allclose(again.map, result.map, atol=1e-3)
