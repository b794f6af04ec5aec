"""pythae's VAEGAN on our networks, as a contender, in a Python that has pythae.

`PYTHON -m benchmarks.pythae_training SPEC`. Its own trainer, optimisers (Adam) and data loader; the
networks have obvious layers, as its users write them. The rule that holds networks back is
switched off by a wide margin, so that all three step at every step, as in the other programs.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAEGAN, VAEGANConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from pythae.trainers import (
    CoupledOptimizerAdversarialTrainer,
    CoupledOptimizerAdversarialTrainerConfig,
)
from torch import Tensor, nn

from benchmarks.plain import plainly
from benchmarks.subject import Subject
from benchmarks.worker import serve
from vaegan.images import to_images
from vaegan.model import Model

NEVER = 1e6


class Encoder(BaseEncoder):
    """Our encoder behind pythae's face."""

    def __init__(self, network: nn.Module, limit: float):
        super().__init__()
        self.network, self.limit = network, limit

    def forward(self, x: Tensor) -> ModelOutput:
        mean, logvar = self.network(x, None)
        return ModelOutput(embedding=mean, log_covariance=logvar.clamp(-self.limit, self.limit))


class Decoder(BaseDecoder):
    """Our decoder behind pythae's face."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z, None).sigmoid())


class Discriminator(BaseDiscriminator):
    """Our discriminator behind pythae's face; all taps together are its one layer."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.depth = network, 1

    def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> ModelOutput:
        judgement = self.network(x, None)
        if output_layer_levels is None:
            return ModelOutput(embedding=judgement.logits.sigmoid()[:, None])
        features = torch.cat([feature.flatten(1) for feature in judgement.features], 1)
        return ModelOutput(embedding_layer_1=features)


def faced(model: Model, config: VAEGANConfig) -> VAEGAN:
    """Our networks as pythae's model: it trains these very modules."""
    assert model.encoder is not None
    assert model.discriminator is not None
    return VAEGAN(
        config,
        Encoder(model.encoder, model.config.logvar_limit),
        Decoder(model.decoder),
        Discriminator(model.discriminator),
    )


def main() -> None:
    subject = Subject.given()
    with tempfile.TemporaryDirectory() as folder:
        dataset = subject.dataset(Path(folder))
        config = subject.config(dataset)
        model = plainly(Model(config.model, config.seed))
        shape, latent_dim = config.model.image_shape, config.model.latent_dim
        peer = faced(model, VAEGANConfig(shape, latent_dim, margin=NEVER))
        count = subject.steps * subject.batch
        pixels = np.resize(dataset.train.pixels, (count, *dataset.train.pixels.shape[1:]))
        images = to_images(pixels).contiguous()
        trainer = CoupledOptimizerAdversarialTrainer(
            peer,
            BaseDataset(images, torch.zeros(count)),
            training_config=CoupledOptimizerAdversarialTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=subject.batch,
                no_cuda=subject.device != "cuda",
            ),
        )
        trainer.prepare_training()
        epochs = iter(range(1, sys.maxsize))

        def epoch() -> None:
            """One epoch over the images of a lap: `subject.steps` steps."""
            trainer.train_step(next(epochs))

        serve(
            epoch,
            subject.steps,
            steps_a_call=subject.steps,
            about={"version": version("pythae")},
        )


if __name__ == "__main__":
    main()
