"""Records that were never run."""

from typing import Any


def line(auroc: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A record of `cebigan` on a toy data set."""
    return {
        "method": "cebigan",
        "config_hash": "aaaa",
        "preset": "small",
        "settings": {},
        "dataset": "toy",
        "protocol": "gpnd",
        "class": "round",
        "seed": 0,
        "schedule": "10 steps of 4 images",
        "steps": 10,
        "training_seconds": 90.0,
        "auroc": auroc,
        "parts": {"pixels": auroc, "features": 0.25},
        "average_precision": 0.75,
        "max_balanced_accuracy": 0.7,
        "max_balanced_accuracy_by_kind": 0.6,
        "fpr_at_95_tpr": 0.3,
        "images_per_second": 100.0,
        "device": "a processor",
        "threads": 2,
        "resolved": {"alpha": 0.9, "discriminator": "projection", "steps": 10},
        **changes,
    }


def setting(auroc: float, seed: int = 0, normal: str = "round", **resolved: Any) -> dict[str, Any]:
    """A record with other settings."""
    base = line()["resolved"] | resolved
    return line(
        auroc,
        seed=seed,
        resolved=base,
        config_hash=str(sorted(base.items())),
        settings={name: str(value) for name, value in resolved.items()},
        **{"class": normal},
    )
