"""What is held of pictures that a calibration looks at."""

import weakref
from typing import Any

import numpy as np
import pytest

from onlygood import Detector
from onlygood.data.source import ImageSource
from onlygood.raw_scores import BATCH, RawScorer, RawScores


def test_maps_of_calibration_pictures_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a million pictures would be 200 GB."""
    pictures = list(np.random.RandomState(0).randint(0, 256, (4 * BATCH, 8, 8), np.uint8))
    scorer = Detector.fit("mean_picture", pictures, settings={"size": 8}).scorer
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
