import base64

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import ConfigError
from onlygood.data.decode import decode
from onlygood.data.mask import mask_of, mask_text


def test_a_mask_is_a_short_text_and_comes_back():
    picture = np.zeros((600, 1600, 3), np.uint8)
    picture[100:300, 50:900, 1] = 7  # whatever is not black
    text = mask_text(picture)
    np.testing.assert_array_equal(mask_of(text), picture[:, :, 1] > 0)
    assert not mask_of(text).flags.writeable
    assert len(text) < 2000


def test_a_mask_that_ignores_all_is_refused():
    with pytest.raises(ConfigError, match="ignores every pixel; black is what counts"):
        mask_text(np.ones((4, 4, 1), np.uint8))


def test_a_mask_that_ignores_nothing_is_refused():
    clear = Image.fromarray(np.full((4, 4, 4), (255, 0, 0, 0), np.uint8))
    for nothing in (np.zeros((4, 4, 1), np.uint8), decode(clear, marks=True)):
        with pytest.raises(ConfigError, match="ignores no pixel, as all of it is black"):
            mask_text(nothing)


@pytest.mark.parametrize("text", ["mask.png", base64.b64encode(b"no picture").decode()])
def test_other_text_is_refused(text: str):
    with pytest.raises(ConfigError, match=r"is no mask \(.*give a mask picture as `--ignore FILE`"):
        mask_of(text)
