"""Train pythae's VAEGAN on our networks, and leave a run that `vaegan evaluate` measures.

    PYTHONPATH=.:src PYTHON -m benchmarks.pythae_run --data mnist --minutes 10 --outdir runs/pythae

in a Python that has pythae and what this package needs. Trainer, losses, optimisers, rates (unless
`--rate` says another) and the rule that holds networks back are pythae's defaults. Encoder, decoder
and discriminator are those of the recipe `default`, less what is not a network's: the fitted prior,
and the spectral norm that a trainer must refresh. It knows no labels. Its weights are those of the
last step: it keeps no average.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import pythae  # noqa: F401
except ModuleNotFoundError:
    sys.exit("pythae is not installed in this Python: see benchmarks/README.md, Peers")

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAEGANConfig
from pythae.trainers import (
    CoupledOptimizerAdversarialTrainer,
    CoupledOptimizerAdversarialTrainerConfig,
)
from pythae.trainers.training_callbacks import TrainingCallback

from benchmarks.pythae_training import faced
from vaegan.config import RunConfig
from vaegan.data import Dataset, load_dataset
from vaegan.errors import RunError
from vaegan.files import write_tensors
from vaegan.images import to_images
from vaegan.model import Model
from vaegan.presets import DEFAULT
from vaegan.rundir import RunDirectory
from vaegan.settings import resolve

NETWORKS = ("encoder", "decoder", "discriminator")
BATCH = 64  # pythae's default, and ours


class TimeIsUp(Exception):
    """The budget is used up."""


class Clock(TrainingCallback):
    """Counts steps, and ends the training in the middle of an epoch."""

    def __init__(self, seconds: float, steps: int | None):
        self.steps, self.began, self.last = 0, time.monotonic(), steps
        self.seconds = math.inf if steps else seconds

    def on_train_step_end(self, training_config: Any, **_: Any) -> None:
        """After each batch."""
        self.steps += 1
        if self.steps == self.last or self.elapsed() > self.seconds:
            raise TimeIsUp

    def elapsed(self) -> float:
        """Seconds since training began."""
        return time.monotonic() - self.began


def config_of(data: str, dataset: Dataset, seed: int, rate: float) -> RunConfig:
    """The networks as settings; of those of the training only the rates are pythae's."""
    decoder = [line for line in DEFAULT.architecture.decoder if not line.startswith("coupling")]
    config = resolve(
        dataset,
        system="vae-gan",
        seed=seed,
        precision="fp32",
        overrides={
            "model.architecture.decoder": json.dumps(decoder),
            "model.architecture.spectral_norm": "false",
            **{f"optimiser.{name}_lr": str(rate) for name in NETWORKS},
        },
        source=data,
    )
    return config.model_copy(update={"recipe": "pythae"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steps", type=int, help="as many steps of 64, in place of minutes")
    parser.add_argument("--rate", type=float, default=1e-4, help="of all three optimisers")
    parser.add_argument("--outdir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = load_dataset(options.data)
    config = config_of(options.data, dataset, options.seed, options.rate)
    options.outdir.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(options.outdir)
    try:
        run.start(config, new=False)
    except RunError as error:  # the folder holds another run
        parser.error(str(error))
    model = Model(config.model, config.seed)
    images = to_images(dataset.train.pixels).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        trainer = CoupledOptimizerAdversarialTrainer(
            faced(model, VAEGANConfig(config.model.image_shape, config.model.latent_dim)),
            BaseDataset(images, torch.zeros(len(images))),
            training_config=CoupledOptimizerAdversarialTrainerConfig(
                output_dir=folder,
                num_epochs=10**6,
                per_device_train_batch_size=BATCH,
                no_cuda=True,
                seed=options.seed,
                **{f"{name}_learning_rate": options.rate for name in NETWORKS},
            ),
            callbacks=[clock := Clock(60 * options.minutes, options.steps)],
        )
        with suppress(TimeIsUp):
            trainer.train()
        seconds = clock.elapsed()
    print(f"{clock.steps:,} steps in {seconds / 60:.1f} minutes", file=sys.stderr)
    write_tensors(run.weights, model.eval().state_dict())
    epochs, steps = divmod(clock.steps, math.ceil(len(images) / BATCH))
    row = {
        "step": clock.steps,
        "images_seen": epochs * len(images) + steps * BATCH,
        "seconds": round(seconds, 3),
    }
    run.stats.write_text(json.dumps(row) + "\n", "utf-8")


if __name__ == "__main__":
    main()
