"""The terms of the objectives: tensors in, one number per example out. Logits in, never log(p).

Every term sums over pixels, features or latents and keeps the batch, shape (B,); the objective
averages over the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vaegan.ranks import ALONE, Ranks

__all__ = [
    "adversarial_decoder",
    "adversarial_discriminator",
    "cross_entropy_costs",
    "feature_matching",
    "learned_similarity",
    "misread",
    "pixel",
]

Adversarial = Literal["saturating", "non-saturating", "hinge"]


def pixel(logits: Tensor, images: Tensor, kind: Literal["bce", "mse"]) -> Tensor:
    """-log p(x|z) per image up to a constant: (B,C,H,W) logits and images -> (B,) nats.

    `bce` is a Bernoulli per pixel; `mse` half the squared error, a Gaussian of unit variance.
    """
    logits = logits.float()
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum((1, 2, 3))
    return 0.5 * (logits.sigmoid() - images).square().sum((1, 2, 3))


def learned_similarity(
    real: list[Tensor],
    fake: list[Tensor],
    kind: Literal["mse", "bce"] = "mse",
    normalised: int = 0,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Larsen's per-image distance in the discriminator's features (eq. 7-8), (B,).

    `mse`: half the squared error summed over features, -log N(D_l(x) | D_l(x~), I) up to a
    constant. `bce`: the tutorial's cross-entropy between sigmoids.

    `normalised` (a number, the pixels of an image) makes every layer count alike, whatever its
    size and scale: its error is averaged over the features, divided by the mean square of the
    real ones, averaged over the layers, and multiplied by the number of pixels. It then has the
    size of a pixel loss and does not change when the discriminator rescales its weights. That
    mean square is of the batch, of all `ranks` together.
    """
    total = torch.zeros(len(fake[0]), device=fake[0].device)
    pairs = [(r.float(), f.float()) for r, f in zip(real, fake)]
    scales = _mean_squares([target for target, _ in pairs], ranks) if normalised else None
    for layer, (target, value) in enumerate(pairs):
        if kind == "bce":
            error = F.binary_cross_entropy_with_logits(value, target.sigmoid(), reduction="none")
        else:
            error = (value - target).square()
        # Summed as it lies, and weighed after that: to flatten channels-last features would copy
        # them, and to weigh each of them would turn their gradients out of that layout.
        errors = error.sum(tuple(range(1, error.ndim)))
        weight = 1.0 if kind == "bce" else 0.5
        if scales is not None:
            errors = errors / scales[layer]
            weight *= normalised / error[0].numel() / len(real)
        total = total + weight * errors
    return total


def feature_matching(real: list[Tensor], fake: list[Tensor], ranks: Ranks = ALONE) -> Tensor:
    """Half the squared distance of batch MEANS of features (Salimans et al. 2016), a scalar.

    Each layer is divided by its mean square and by the number of layers. Means are those of all
    `ranks` together.
    """
    total = torch.zeros((), device=fake[0].device)
    flat = [(r.float().flatten(1), f.float().flatten(1)) for r, f in zip(real, fake)]
    scales = _mean_squares([target for target, _ in flat], ranks)
    for scale, (target, value) in zip(scales, flat):
        gap = 0.5 * ranks.mean(value.mean(0) - target.mean(0)).square().mean()
        total = total + gap / scale / len(real)
    return total


def _mean_squares(features: list[Tensor], ranks: Ranks) -> Tensor:
    """Mean square of each layer's features over the batch of all ranks, (layers,), above 0."""
    squares = torch.stack([layer.detach().square().mean() for layer in features])
    return ranks.mean(squares) + 1e-8


def adversarial_discriminator(logits: Tensor, real: bool, kind: Adversarial) -> Tensor:
    """The discriminator's cost per image, (B,): cross-entropy, or the hinge of Lim & Ye 2017."""
    signed = logits.float() if real else -logits.float()
    return F.relu(1 - signed) if kind == "hinge" else F.softplus(-signed)


def adversarial_decoder(logits: Tensor, kind: Adversarial) -> Tensor:
    """The decoder's cost per fake image, (B,).

    saturating        log(1 - D), the minimax game
    non-saturating    -log D (Goodfellow et al. 2014)
    hinge             minus the logit
    """
    logits = logits.float()
    if kind == "saturating":
        return -F.softplus(logits)
    return -logits if kind == "hinge" else F.softplus(-logits)


def misread(classes: Tensor, labels: Tensor) -> Tensor:
    """-log p(label | image) of the auxiliary classifier (Odena et al. 2017), (B,) nats."""
    return F.cross_entropy(classes.float(), labels, reduction="none")


def cross_entropy_costs(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy per image of real and of fake logits, nats; what schedules look at."""
    return F.softplus(-real.detach().float()).mean(), F.softplus(fake.detach().float()).mean()
