import numpy as np

from onlygood import Detector, ImageSource


def test_as_many_parts_are_kept_aside_as_the_promise_about_parts_needs() -> None:
    random = np.random.default_rng(0)
    names = [f"part{part:03d}_view{view}" for part in range(100) for view in range(2)]
    pictures = ImageSource.of(random.integers(0, 256, (200, 8, 8), dtype=np.uint8), names=names)
    settings = {"size": 8, "components": 2}
    detector = Detector.fit("pca", pictures, settings=settings, group_by="^[^_]+")
    assert detector.calibration.n == 45
    assert detector.provenance["n_calibration"] == 90
    assert detector.calibration.note == ""


def test_raw_maps_are_made_only_where_they_are_wanted() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (8, 8, 8), dtype=np.uint8)
    detector = Detector.fit("pca", pictures, settings={"size": 8, "components": 2})
    with_maps, without = detector.score(pictures), detector.score(pictures, maps=False)
    assert all(result.map is None for result in without)
    assert [r._replace(map=None) for r in with_maps] == without
    assert {result.map.shape for result in with_maps if result.map is not None} == {(8, 8)}
