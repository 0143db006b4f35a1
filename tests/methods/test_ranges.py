"""Numbers that no method can work with are refused by name, before anything is done."""

import re

import pytest

from onlygood import settings
from onlygood.core.errors import ConfigError
from onlygood.methods import METHODS


@pytest.mark.parametrize(
    ("method", "assignment", "says"),
    [
        ("cbigan", "width=0", "width must be 1 or more, got 0"),
        ("cbigan", "latent=-1", "latent must be 1 or more, got -1"),
        ("cbigan", "critic_steps=0", "critic_steps must be 1 or more, got 0"),
        ("cbigan", "generator_steps=0", "generator_steps must be 1 or more, got 0"),
        ("cbigan", "alpha=1.01", "alpha must be in [0, 1], got 1.01"),
        ("cbigan", "score_features=-0.1", "score_features must be in [0, 1], got -0.1"),
        ("cbigan", "critic_betas=0,1", "critic_betas must be in [0, 1), got (0.0, 1.0)"),
        ("cbigan", "generator_betas=-1,0", "generator_betas must be in [0, 1), got (-1.0, 0.0)"),
        ("cbigan", "ema_decay=1", "ema_decay must be in [0, 1), got 1.0"),
        ("cbigan", "penalty_weight=-1", "penalty_weight must be 0 or more, got -1.0"),
        ("cbigan", "lr=0", "lr must be more than 0, got 0.0"),
        ("autoencoder", "width=0", "width must be 1 or more, got 0"),
        ("autoencoder", "latent=0", "latent must be 1 or more, got 0"),
        ("autoencoder", "betas=0,1", "betas must be in [0, 1), got (0.0, 1.0)"),
        ("autoencoder", "lr=-1", "lr must be more than 0, got -1.0"),
        ("pca", "components=0", "components must be 1 or more, got 0"),
        ("kde", "bandwidth=-1", "bandwidth must be 0 or more, got -1.0"),
        ("kde", "variance=0", "variance must be in (0, 1], got 0.0"),
        ("kde", "limit=1", "limit must be 2 or more, got 1"),
        ("ocsvm", "nu=1", "nu must be in (0, 1), got 1.0"),
        ("ocsvm", "gamma=-1", "gamma must be 0 or more, got -1.0"),
        ("ocsvm", "variance=1.1", "variance must be in (0, 1], got 1.1"),
        ("ocsvm", "limit=0", "limit must be 1 or more, got 0"),
        ("knn", "k=0", "k must be 1 or more, got 0"),
        ("knn", "limit=0", "limit must be 1 or more, got 0"),
        ("gaussian", "regularisation=0", "regularisation must be more than 0, got 0.0"),
        ("gaussian", "top=1.1", "top must be in [0, 1], got 1.1"),
        ("patch_knn", "limit=0", "limit must be 1 or more, got 0"),
        ("patch_knn", "top=-0.1", "top must be in [0, 1], got -0.1"),
    ],
)
def test_a_number_out_of_its_range_is_refused(method: str, assignment: str, says: str) -> None:
    cls = METHODS[method]
    overrides = dict([settings.parse_assignment(assignment)])
    with pytest.raises(ConfigError, match=re.escape(says)):
        settings.resolve(method, cls.config_class, cls.presets, overrides=overrides)


@pytest.mark.parametrize("edge", ["alpha=0", "alpha=1", "score_features=0", "ema_decay=0"])
def test_the_ends_of_a_range_belong_to_it(edge: str) -> None:
    cls = METHODS["cbigan"]
    overrides = dict([settings.parse_assignment(edge)])
    settings.resolve("cbigan", cls.config_class, cls.presets, overrides=overrides)
