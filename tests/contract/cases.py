"""What the family contract needs to know of each method; a new method adds its entry here."""

from onlygood.testing.cases import (
    CASES,
    SIDE,
    Case,
    batch,
    case_of,
    digits,
    fresh,
    images,
    pictures,
    resolved,
    scored,
    store,
    train,
    trained,
    updates,
)

__all__ = [
    "CASES",
    "SIDE",
    "Case",
    "batch",
    "case_of",
    "digits",
    "fresh",
    "images",
    "pictures",
    "resolved",
    "scored",
    "store",
    "train",
    "trained",
    "updates",
]

# In float32, so that the figures do not depend on the processor.
_DIGITS = {
    **{"width": 2, "latent": 8, "lr": 3e-3, "batch_size": 8},
    # With rates that fall, AUROC of a game no longer swings from one look to the next.
    **{"precision": "float32", "decay_from": 0.3},
}

_SLOWER = {"lr": 3e-3, "batch_size": 8, "precision": "float32", "decay_from": 0.3}

CASES |= {
    "cbigan": Case(
        tiny={"width": 2, "latent": 4, "generator_steps": 2, "ema_decay": 0.5},
        digits={**_DIGITS, "alpha": 3e-2, "steps": 60},
        auroc=0.95,
        preset="paper",
    ),
    "cebigan": Case(
        tiny={"width": 2, "latent": 4},
        digits={**_DIGITS, "width": 4, "steps": 150},
        auroc=0.95,
    ),
    "ama": Case(
        tiny={"width": 2, "latent": 4, "atypical_start": 0},
        digits={**_DIGITS, "lr_drops": 0, "steps": 200},
        auroc=0.92,
    ),
    "piad": Case(
        tiny={
            "width": 2,
            "critic_width": 2,
            "latent_critic_width": 4,
            "latent": 4,
            "backbone": "efficientnet-lite0",
            "layer": "stride8",
            "gamma_every": 2,
        },
        digits={
            **_DIGITS,
            "width": 4,
            "critic_width": 4,
            "latent_critic_width": 16,
            "critic_lr": 2e-3,
            "lr": 2e-3,
            "gamma_every": 10,
            "steps": 60,
        },
        auroc=0.95,
        preset="mnist",
    ),
    "autoencoder": Case(
        tiny={"width": 2, "latent": 4}, digits={**_DIGITS, "steps": 150}, auroc=0.97
    ),
    "ganomaly": Case(
        tiny={"width": 2, "latent": 4}, digits={**_DIGITS, "width": 4, "steps": 100}, auroc=0.95
    ),
    "f_anogan": Case(
        tiny={"width": 2, "latent": 4, "critic_steps": 2},
        digits={**_DIGITS, "width": 4, "critic_steps": 2, "encoder_lr": 2e-3, "steps": 150},
        auroc=0.9,
    ),
    "egbad": Case(
        tiny={"width": 2, "latent": 4, "ema_decay": 0.5},
        digits={**_DIGITS, "width": 4, "ema_decay": 0.9, "steps": 150},
        auroc=0.9,
    ),
    "alad": Case(
        tiny={"width": 2, "critic_width": 4, "latent": 4, "ema_decay": 0.5},
        digits={**_DIGITS, "width": 4, "critic_width": 8, "ema_decay": 0.9, "steps": 150},
        auroc=0.9,
    ),
    "anogan": Case(
        tiny={"width": 2, "latent": 4, "search_steps": 3, "restarts": 2},
        digits={**_DIGITS, "width": 4, "search_steps": 30, "search_lr": 0.1, "steps": 150},
        auroc=0.9,
    ),
    "skip_ganomaly": Case(
        tiny={"width": 2, "latent": 4},
        # By pixels: features of D are worse than guessing at first.
        digits={**_DIGITS, "width": 4, "score_features": 0.0, "steps": 100},
        auroc=0.93,
    ),
    "ae_ssim": Case(
        # With fewer steps all residuals are nearly 1, and what rounding makes of them is not small.
        tiny={"width": 2, "latent": 4, "score_peak": 0.5, "steps": 40},
        digits={**_SLOWER, "width": 4, "latent": 8, "steps": 150},
        auroc=0.95,
    ),
    "vae": Case(
        tiny={"width": 2, "latent": 4},
        digits={**_SLOWER, "width": 4, "latent": 8, "output": "linear", "steps": 150},
        auroc=0.95,
    ),
    "vae_grad": Case(
        tiny={"width": 2, "latent": 4, "score_peak": 0.5, "search_steps": 3},
        digits={
            **_SLOWER,
            **{"width": 4, "latent": 8, "output": "linear", "steps": 150},
            **{"search_steps": 5, "score_peak": 0.0},
        },
        auroc=0.9,
    ),
    "deep_svdd": Case(
        tiny={"widths": (2, 2, 4), "latent": 16, "objective": "soft_boundary", "warmup_epochs": 0},
        digits={**_SLOWER, "widths": (4, 8), "latent": 16, "steps": 100},
        auroc=0.9,
    ),
    "lsa": Case(
        tiny={"stem": 2, "widths": (2, 4), "hidden": 4, "latent": 4, "estimator": 2, "bins": 8},
        digits={
            **_SLOWER,
            **{"stem": 4, "widths": (4, 8), "hidden": 16, "latent": 8, "estimator": 4},
            "steps": 150,
        },
        auroc=0.9,
    ),
    "gpnd": Case(
        tiny={"width": 2, "critic_width": 4, "latent": 4},
        digits={**_DIGITS, "width": 4, "critic_width": 8, "power": 0.2, "steps": 100},
        auroc=0.9,
    ),
    "geotrans": Case(
        tiny={"width": 2, "shifts": False},
        digits={**_SLOWER, "width": 4, "shifts": False, "steps": 150},
        auroc=0.9,
    ),
    "itae": Case(
        tiny={"width": 2},
        digits={
            **{"batch_size": 8, "precision": "float32", "decay_from": 0.3},
            **{"width": 4, "momentum": 0.9, "steps": 150},
        },
        auroc=0.9,
    ),
    "ocgan": Case(
        tiny={"width": 2, "critic_width": 2, "latent": 4, "mining_steps": 2},
        digits={**_DIGITS, "width": 4, "critic_width": 4, "steps": 100},
        auroc=0.9,
    ),
    "adgan": Case(
        tiny={"width": 2, "latent": 4, "critic_steps": 2, "search_steps": 3, "restarts": 2},
        digits={
            **_DIGITS,
            **{"width": 4, "critic_steps": 2, "steps": 150},
            **{"restarts": 2, "search_steps": 15, "search_lr": 0.2, "tuning_lr": 1e-3},
        },
        auroc=0.9,
    ),
    "avid": Case(
        tiny={"width": 2, "w_reconstruction": 1.0, "score_pixels": 1.0},
        digits={**_SLOWER, "width": 4, "steps": 200},
        auroc=0.9,
    ),
    "cavga": Case(
        tiny={"width": 2, "latent": 2},
        digits={**_SLOWER, "width": 4, "latent": 1, "steps": 150},
        auroc=0.9,
    ),
    "fence_gan": Case(
        tiny={"width": 2, "latent": 4, "features": 4, "pretraining_share": 1.0},
        digits={
            **{**_DIGITS, "lr": 1e-3, "discriminator_lr": 1e-3, "width": 16, "features": 64},
            **{"alpha": 0.5, "beta": 1.0, "gamma": 0.5, "steps": 300},
        },
        auroc=0.95,
    ),
    "pixelcnn": Case(
        tiny={"width": 2, "layers": 1},
        digits={**_SLOWER, "width": 4, "layers": 1, "lr": 1e-2, "mutation": 0.2, "steps": 200},
        auroc=0.85,
    ),
    "glow": Case(
        tiny={"levels": 2, "depth": 1, "width": 4, "warmup": 0},
        digits={
            **{**_SLOWER, "lr": 1e-2},
            **{"levels": 2, "depth": 2, "width": 8, "warmup": 10, "steps": 150},
        },
        auroc=0.95,
    ),
    "waic": Case(
        tiny={"members": 2, "levels": 2, "depth": 1, "width": 4, "warmup": 0},
        digits={
            # With fewer steps the models still agree on nothing, and the variance is all noise.
            **{**_SLOWER, "lr": 1e-2, "members": 3},
            **{"levels": 2, "depth": 2, "width": 8, "warmup": 10, "steps": 200},
        },
        auroc=0.8,
    ),
    "mean_picture": Case(tiny={}, digits={}, auroc=0.9),
    "pca": Case(tiny={"components": 4}, digits={"components": 10}, auroc=0.99),
    "kde": Case(
        # A wider kernel than the likeliest: under that one all that is known is equally dense.
        tiny={"bandwidth": 4.0, "variance": 0.9, "contrast": True},
        digits={},
        auroc=0.99,
    ),
    "ocsvm": Case(tiny={"nu": 0.5, "variance": 0.9, "contrast": True}, digits={}, auroc=0.99),
    "knn": Case(tiny={"k": 3, "limit": 8}, digits={}, auroc=0.99),
    "reflect": Case(tiny={"latent": 2}, digits={"size": 32}, auroc=0.99),
    "gaussian": Case(tiny={}, digits={}, auroc=0.99),
    "patch_knn": Case(tiny={"limit": 20, "keep": "coreset"}, digits={}, auroc=0.99),
}
