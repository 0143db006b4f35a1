from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.errors import ConfigError
from onlygood.losses.latent import kl_standard_normal
from onlygood.losses.ssim import ssim
from onlygood.methods.cavga import CAVGA
from tests.contract.cases import batch, fresh, images


def cavga(**config: object) -> CAVGA:
    method = fresh("cavga", **config).eval()
    assert isinstance(method, CAVGA)
    return method


def grad_cam(output: Tensor, features: Tensor) -> Tensor:
    """Attention of one number for each image, by a pass backwards."""
    (slope,) = torch.autograd.grad(output.sum(), features, retain_graph=True)
    return (slope.mean((2, 3), keepdim=True) * features).sum(1).sigmoid()


def test_losses_of_the_unsupervised_variant() -> None:
    method = cavga(beta=2.0, w_ssim=0.5, w_adv=0.3, w_ae=0.7)
    x = 2 * images() - 1
    features, (mean, log_variance) = method.encoder(x)
    x_hat = method.generator(mean + (log_variance / 2).exp() * batch().normals(128))
    real, fake = (
        method.discriminator(x).value.sigmoid(),
        method.discriminator(x_hat).value.sigmoid(),
    )
    expected = -real.log().mean() - (1 - fake).log().mean()
    torch.testing.assert_close(method.discriminator_loss(batch()).total, expected)
    expected = (
        (x - x_hat).square().mean()
        + 0.5 * (1 - ssim(images(), (x_hat + 1) / 2).mean())
        + 2 * kl_standard_normal(mean, log_variance).mean() / 1024
        - 0.3 * fake.log().mean()
        + 0.7 * (1 - grad_cam(mean, features)).mean()
    )
    torch.testing.assert_close(method.autoencoder_loss(batch()).total, expected)


def test_a_few_anomalous_images_guide_attention() -> None:
    method = cavga(weak=True, w_c=0.5, w_cga=0.7)
    assert method.classifier is not None
    # So that it takes some of the normal images for anomalous ones, whose attention does not count.
    features, (mean, _) = method.encoder(2 * images() - 1)
    gap = method.classifier(mean).diff(dim=1)
    with torch.no_grad():
        method.classifier.bias[1] -= gap.median()
    logits = method.classifier(mean)
    told = logits[:, 0] > logits[:, 1]
    assert 0 < told.sum() < len(told)
    guided = 1 - grad_cam(logits[:, 0], features) + grad_cam(logits[:, 1], features)
    known = method.encoder(2 * images().flip(3) - 1).posterior.mean
    anomalous = F.cross_entropy(method.classifier(known), torch.ones(5, dtype=torch.int64))
    expected = {
        "normal": F.cross_entropy(logits, torch.zeros(5, dtype=torch.int64)),
        "guidance": (told * guided.mean((1, 2))).mean(),
        "anomalous": anomalous,
    }
    loss = method.autoencoder_loss(replace(batch(), anomalous=images().flip(3)))
    for name, value in expected.items():
        torch.testing.assert_close(loss.terms[name], value)
    weighted = 0.5 * expected["normal"] + 0.7 * expected["guidance"] + 0.5 * expected["anomalous"]
    plain = cavga(w_ae=0.0)
    plain.load_state_dict(method.state_dict(), strict=False)
    rest = plain.autoencoder_loss(batch()).total
    torch.testing.assert_close(loss.total, rest + weighted)


def test_maps_are_what_attention_leaves_out() -> None:
    for weak in (False, True):
        method, x = cavga(weak=weak), 2 * images() - 1
        features, (mean, _) = method.encoder(x)
        if method.classifier is None:
            left_out = 1 - grad_cam(mean, features)
        else:
            left_out = grad_cam(method.classifier(mean)[:, 1], features)
        with torch.no_grad():
            scores = method.score(images())
        assert scores.map is not None
        torch.testing.assert_close(scores.map[:, 0, 0], left_out[:, 0, 0])
        torch.testing.assert_close(scores.terms["attention"], left_out.mean((1, 2)))
        assert ("classifier" in scores.terms) == weak


def test_known_anomalous_images_leave_the_running_statistics_alone() -> None:
    one, other = cavga(weak=True).train(), cavga(weak=True).train()
    one.autoencoder_loss(replace(batch(), anomalous=images()))
    other.autoencoder_loss(replace(batch(), anomalous=1 - images()))
    for a, b in zip(one.encoder.buffers(), other.encoder.buffers(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("weak", [False, True])
def test_anomalous_pictures_and_the_weak_variant_belong_together(weak: bool) -> None:
    given = batch() if weak else replace(batch(), anomalous=images())
    with pytest.raises(ConfigError, match="give such pictures and weak=true, or neither"):
        cavga(weak=weak).autoencoder_loss(given)


@pytest.mark.parametrize(("preset", "passes"), [("small", ()), ("paper", (60, 120, 180, 240))])
def test_rates_are_halved_where_the_preset_has_the_papers_length(
    preset: str, passes: tuple[int, ...]
) -> None:
    (stage,) = cavga(**CAVGA.presets[preset].config).stages()
    assert {update.optimizer.schedule.epochs for update in stage.updates} == {passes}
