"""The GANomaly of anomalib: learn, score and export, for `beside_anomalib.py`.

Runs in an environment that has anomalib, and imports nothing of ours. Takes a request as JSON and
prints an answer as the last line.
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import Ganomaly
from lightning.pytorch import Callback, seed_everything


class Clock(Callback):  # type: ignore[misc]  # lightning is not where mypy runs
    """Counts the pictures that training takes, and the seconds."""

    def __init__(self) -> None:
        self.images, self.seconds, self._began = 0, 0.0, 0.0

    def on_train_start(self, *_: object) -> None:
        """The time limit counts from here, too."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, _: int
    ) -> None:
        """Both networks have made their step."""
        self.images += len(batch.image)
        self.seconds = time.perf_counter() - self._began


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What it does with the pictures of a folder."""
    folder, side = Path(request["folder"]), (request["size"],) * 2
    work = Path(request["work"])
    seed_everything(request["seed"], verbose=False)
    clock = Clock()
    data = Folder(
        name="pictures",
        root=folder,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/bad",
        # Half of the test pictures, as it comes; they are for thresholds, which nobody needs here.
        val_split_mode="none",
        # Eight processes, as it comes, are too many for small pictures and few cores.
        num_workers=0,
        seed=request["seed"],
    )
    model = Ganomaly(
        pre_processor=Ganomaly.configure_pre_processor(image_size=side),
        visualizer=False,
        **request["settings"],
    )
    # Bare: no checkpoints, logs or progress bar. It would ask for the validation that is not there.
    engine = Engine(
        accelerator="cpu",
        barebones=True,
        callbacks=[clock],
        default_root_dir=work,
        limit_val_batches=0,
        max_epochs=-1,
        max_time={"seconds": 60 * request["minutes"]},
    )
    engine.fit(model=model, datamodule=data)
    # Else scores are clamped to the range of validation, and what is beyond is all alike.
    model.post_processor.enable_normalization = False
    began = time.perf_counter()
    batches = engine.predict(model=model, dataloaders=data.test_dataloader())
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    scores = torch.cat([batch.pred_score for batch in batches])
    anomalous = torch.cat([batch.gt_label for batch in batches]).bool()
    engine.trainer.save_checkpoint(work / "model.ckpt")
    exported = engine.export(
        model=model, export_type="onnx", export_root=work / "exported", input_size=side
    )
    return {
        "normal": scores[~anomalous].tolist(),
        "anomalous": scores[anomalous].tolist(),
        "trained_on": len(data.train_data),
        "images": clock.images,
        "training_seconds": clock.seconds,
        "scoring_seconds": seconds,
        "precision": engine.trainer.precision,
        "peak_mib": peak,
        "model_mb": (work / "model.ckpt").stat().st_size / 1e6,
        # Weights are in a file beside it.
        "onnx_mb": sum(path.stat().st_size for path in exported.parent.iterdir()) / 1e6,
        "versions": {name: version(name) for name in ("anomalib", "lightning", "torch")},
    }


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(sys.argv[1]))))
