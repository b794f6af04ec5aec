"""A model on pixels, as data sets hold and files store them: in bounded memory, without autograd.

`labels` are those of the data: a model that is told labels needs them, another is not told them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vaegan.batching import BATCH, in_batches
from vaegan.errors import DataError
from vaegan.images import to_images, to_pixels
from vaegan.model import Model
from vaegan.posterior import Posterior

__all__ = ["decode_pixels", "encode_pixels", "sample_pixels"]


@torch.no_grad()
def encode_pixels(
    model: Model, pixels: np.ndarray, labels: np.ndarray | None, batch: int = BATCH
) -> Posterior:
    """Pixels uint8 (N, H, W, C), labels (N,) -> posterior over latents (N, latent_dim), on the CPU.

    Raises what `Model.encode` raises.
    """

    def work(pixels: np.ndarray, labels: Tensor | None) -> tuple[Tensor | None, ...]:
        posterior = model.encode(to_images(pixels, model.device), labels)
        return tuple(
            None if one is None else one.float().cpu() for one in (posterior.mean, posterior.logvar)
        )

    mean, logvar = in_batches(work, pixels, _told(model, labels, len(pixels)), batch=batch)
    assert mean is not None
    return Posterior(mean, logvar, model.config.logvar_limit, model.config.kl_logvar_limit)


@torch.no_grad()
def decode_pixels(
    model: Model, latents: Tensor, labels: np.ndarray | None, batch: int = BATCH
) -> np.ndarray:
    """Latents (N, latent_dim), labels (N,) -> pixels uint8 (N, H, W, C).

    Raises what `Model.decode` raises.
    """

    def work(latents: Tensor, labels: Tensor | None) -> tuple[Tensor]:
        return (torch.from_numpy(to_pixels(model.decode(latents.to(model.device), labels))),)

    (pixels,) = in_batches(work, latents, _told(model, labels, len(latents)), batch=batch)
    assert pixels is not None
    return pixels.numpy()


@torch.no_grad()
def sample_pixels(
    model: Model,
    normal: Tensor,
    labels: np.ndarray | None,
    batch: int = BATCH,
    temperature: float | None = None,
) -> np.ndarray:
    """Draws (N, latent_dim) from N(0, I), labels (N,) -> pixels (N, H, W, C) of prior latents.

    `temperature` is the model's when left out. Raises what `Model.decode` raises.
    """
    told = _told(model, labels, len(normal))
    latents = model.prior_latents(normal.to(model.device), told, temperature)
    return decode_pixels(model, latents, labels, batch)


def _told(model: Model, labels: np.ndarray | None, count: int) -> Tensor | None:
    """Labels as the model wants them: None when it is told none."""
    if not model.config.num_classes or labels is None:
        return None
    if len(labels) != count:
        raise DataError(f"there are {len(labels)} labels for {count} images: give one each")
    return torch.from_numpy(np.ascontiguousarray(labels))
