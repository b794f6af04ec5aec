"""What a batch's losses draw at random, all of it a function of (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaegan.augmentation import TEARS
from vaegan.config import ObjectiveConfig
from vaegan.model import Model
from vaegan.randomness import generator

__all__ = ["Draws"]


@dataclass(frozen=True)
class Draws:
    """All randomness of one batch but dropout: a function of (seed, index)."""

    posterior: Tensor
    """Noise (B, latent_dim) of the posterior sample."""
    prior: Tensor
    """Draws (B, latent_dim) from N(0, I), which the model's prior makes z_p of."""
    hop: Tensor
    """(B,) int64 in 1 .. K-1: how far the label moves for a transferred image."""
    shift: Tensor
    """(B, 2) in [-1, 1]: direction of the discriminator's augmentation."""
    tears: Tensor
    """(B, 4) in [0, 1): where an image is torn."""
    pixels: Tensor | None
    """Noise (B,C,H,W) of a denoising autoencoder."""

    @classmethod
    def of(
        cls, seed: int, index: int, model: Model, config: ObjectiveConfig, batch: int, rows: slice
    ) -> Draws:
        """Draw for the whole batch of all ranks and keep this rank's `rows`."""
        own = generator(seed, "draws", index)
        classes, size = model.config.num_classes, (batch, model.config.latent_dim)
        posterior, prior = torch.randn(size, generator=own), torch.randn(size, generator=own)
        hop = torch.randint(1, max(classes, 2), (batch,), generator=own)
        shift = torch.rand((batch, 2), generator=own) * 2 - 1
        pixels = (
            torch.randn((batch, *model.config.image_shape), generator=own)[rows].to(model.device)
            if config.noise
            else None
        )
        tears = torch.rand((batch, TEARS), generator=own)
        posterior, prior, hop, shift, tears = (
            tensor[rows].to(model.device) for tensor in (posterior, prior, hop, shift, tears)
        )
        return cls(posterior, prior, hop, shift, tears, pixels)
