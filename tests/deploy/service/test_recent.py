import numpy as np

from onlygood.core.settings import View
from onlygood.deploy.service.recent import OVERHEAD, Kept, Recent


def kept(size: int) -> Kept:
    return Kept(b"x" * size, "", (4, 5), View(), None, True)


def test_the_oldest_make_room() -> None:
    recent = Recent(100 + 2 * OVERHEAD)
    for number in range(1, 6):
        recent.add(number, kept(40))
    assert [recent.get(number) is not None for number in range(1, 6)] == [False] * 3 + [True] * 2


def test_maps_count() -> None:
    for limit, stays in ((121, True), (120, False)):  # 40 and 1, and 20 numbers of 4 bytes
        recent = Recent(limit + 2 * OVERHEAD)
        recent.add(1, kept(40))
        recent.add(2, Kept(b"x", "", (4, 5), View(), np.zeros((4, 5), np.float32), True))
        assert (recent.get(1) is not None) == stays and recent.get(2) is not None


def test_what_is_larger_than_all_is_not_kept() -> None:
    recent = Recent(100 + OVERHEAD)
    recent.add(1, kept(101))
    assert recent.get(1) is None
    recent.add(2, kept(100))
    assert recent.get(2) is not None


def test_tiny_pictures_do_not_take_more_than_is_allowed() -> None:
    recent = Recent(10 * OVERHEAD)
    for number in range(20):
        recent.add(number, kept(1))
    assert sum(recent.get(number) is not None for number in range(20)) == 9
