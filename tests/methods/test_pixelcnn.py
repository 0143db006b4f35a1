import io
import math

import pytest
import torch
from PIL import Image

from onlygood.core.errors import ConfigError
from onlygood.core.stage import Batch
from onlygood.methods.pixelcnn import PixelCNN, PixelCNNConfig, compressed_bits, mutated
from tests.methods.nets import SHAPE, batch, images

SMALL = {"width": 2, "layers": 1}


def pixelcnn(**config) -> PixelCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PixelCNN(PixelCNNConfig(**{**SMALL, **config}), SHAPE)


def bits(network, x):
    return -network(x).double().sum((1, 2)) / math.log(2)


def test_both_networks_are_trained_by_bits_of_their_images() -> None:
    method, x = pixelcnn(mutation=0.5), images()
    torch.testing.assert_close(
        method.loss(batch()).total, bits(method.network, x).float().mean() / 1024
    )
    other = mutated(batch(), 0.5)
    torch.testing.assert_close(
        method.background_loss(batch()).total,
        bits(method.background, other).float().mean() / 1024,
    )


def test_a_share_of_pixels_is_moved_round_to_any_level() -> None:
    x = torch.full((40, 1, 32, 32), 200 / 255)
    y = mutated(Batch(normal=x, generator=torch.Generator().manual_seed(0)), 0.3)
    levels = (y * 255).round()
    torch.testing.assert_close(levels / 255, y)
    kept = (y == x).float().mean()
    assert math.isclose(kept, 0.7 + 0.3 / 256, abs_tol=0.01)
    changed = levels[y != x]
    assert (changed.min(), changed.max()) == (0, 255)
    assert math.isclose(changed.mean(), 127.5, abs_tol=2)


@torch.no_grad()
def test_the_score_is_one_of_three_and_all_are_told_in_bits() -> None:
    x = images()
    for score_by in ("ratio", "complexity", "likelihood"):
        method = pixelcnn(score_by=score_by)
        own, background = bits(method.network, x), bits(method.background, x)
        expected = {
            "likelihood": own,
            "complexity": own - compressed_bits(x),
            "ratio": own - background,
        }
        scores = method.score(x)
        for name, values in expected.items():
            torch.testing.assert_close(scores.terms[name], values.float(), rtol=1e-4, atol=0.05)
        assert torch.equal(scores.total, scores.terms[score_by])
        if score_by != "complexity":
            whole = scores.map.sum((1, 2)) / math.log(2)
            torch.testing.assert_close(whole, scores.total, rtol=1e-4, atol=0.05)


def test_images_have_the_size_of_their_smallest_file() -> None:
    noise, flat = torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    sizes = compressed_bits(torch.cat([noise, flat]))
    assert sizes[1] < 8 * 200 < 8 * 3000 < sizes[0]
    picture = Image.fromarray((noise[0] * 255).round().byte().permute(1, 2, 0).numpy())
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=9)
    assert sizes[0] <= 8 * len(file.getvalue())


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="a likelihood ratio needs a background"):
        PixelCNNConfig(mutation=0.0)
    method = pixelcnn(mutation=0.0, score_by="complexity")
    assert [update.name for update in method.stages()[0].updates] == ["network"]
    assert set(method.score(images()).terms) == {"likelihood", "complexity"}
