"""A look at a model in training: the measures of `vaegan evaluate` at a small size.

Where a name is one of metrics.json's the measure is the same, on training images and a few hundred
draws; a Fréchet distance of so few is too high, and falls as that of many does.

    latents_kl_per_latent       KL of the posteriors to the prior, nats, mean over the latents
    latents_active_units        how many latents say something about the image
    latents_label_read          share of the labels that linear discriminant analysis reads in draws
                                from the posteriors: what the noise drowns never reaches the decoder
    label_effect                of a label on a picture, of that of label and latents together
    prior_spread                distance of the samples of a class, of that of its real images
    prior_spread_by_class       the same for each class, None where unknown (a list)
    prior_frechet_distance      in the features of the judge, where there is one
    prior_label_accuracy        share of samples that the judge reads as asked
    prior_mean_gradient_ratio   their sharpness, of that of real images
    transfer_label_accuracy     share of transfers that the judge reads as asked
    reconstruction_mse, reconstruction_ssim, reconstruction_mean_gradient_ratio
    discriminator_cost          over the last rows of stats, of that of a guess
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaegan.config import ObjectiveConfig
from vaegan.images import to_pixels
from vaegan.metrics.distances import Moments, moments
from vaegan.metrics.fidelity import mean_gradient, mse, ssim
from vaegan.metrics.judge import Judge
from vaegan.metrics.latents import active_units, kl_per_dimension
from vaegan.model import Model
from vaegan.posterior import Posterior
from vaegan.randomness import generator

__all__ = [
    "PANELS",
    "Sight",
    "discriminator_cost",
    "label_effect",
    "label_read",
    "linear_accuracy",
    "look",
    "spread",
]

DRAWS, LABELS, SOURCES, PAIRS, JUDGED = 250, 10, 16, 256, 512
MIN_ROWS = 10

PANELS = {
    "Fréchet distance of samples": ("prior_frechet_distance",),
    "label read by the judge": ("prior_label_accuracy", "transfer_label_accuracy"),
    "spread of samples, of real": ("prior_spread",),
    "sharpness, of real": ("prior_mean_gradient_ratio", "reconstruction_mean_gradient_ratio"),
    "SSIM of reconstructions": ("reconstruction_ssim",),
    "KL, nats a latent": ("latents_kl_per_latent",),
    "active latents": ("latents_active_units",),
    "label read from the code": ("latents_label_read",),
    "effect of the label": ("label_effect",),
    "cost of the discriminator, of a guess": ("discriminator_cost",),
}
"""How the values of looks are drawn: title of the panel -> names."""


@dataclass(frozen=True)
class Sight:
    """What every look of a run sees: the same training images, and a judge if there is one.

    images: float (N, C, H, W) in [0, 1]; labels: int64 (N,), None for an unconditional model.
    """

    images: Tensor
    labels: Tensor | None
    judge: Judge | None = None

    @cached_property
    def pixels(self) -> np.ndarray:
        """The images as uint8 (N, H, W, C)."""
        return to_pixels(self.images)

    @cached_property
    def gradient(self) -> float:
        """Their mean gradient."""
        return float(mean_gradient(self.pixels).mean())

    @cached_property
    def judged(self) -> Moments | None:
        """Moments of the judge's features, of the classes that are sampled; None if too few."""
        assert self.judge is not None
        shown = self.pixels
        if self.labels is not None:
            shown = shown[self.labels.cpu().numpy() < LABELS]
        features = self.judge.features(shown[:JUDGED])
        return moments(features) if len(features) > features.shape[1] else None

    def sharpness(self, pixels: np.ndarray) -> float:
        """Mean gradient of pixels (M, H, W, C), of that of the images; NaN if that is 0."""
        return float(mean_gradient(pixels).mean()) / self.gradient if self.gradient else math.nan


@torch.no_grad()
def look(
    model: Model, sight: Sight, rows: Sequence[dict[str, float]], objective: ObjectiveConfig
) -> dict[str, Any]:
    """The values that the system has, by name; what is not finite is left out.

    `rows`: the last ones of stats.jsonl. No number is drawn that training would have drawn.
    """
    found: dict[str, Any] = {}
    means: Tensor | None = None
    if model.discriminator is not None:
        found["discriminator_cost"] = discriminator_cost(rows, objective)
    if model.encoder is not None:
        posterior = model.encode(sight.images, sight.labels)
        means = posterior.mean
        found |= _codes(posterior, sight, model.config.num_classes)
        found |= _reconstructions(model, means, sight)
    if model.config.num_classes:
        found |= _under_labels(model, means, sight)
    elif model.config.family != "ae":
        samples = model.decode(model.prior_latents(_normal(model, DRAWS)))
        found |= _samples(samples[None], [sight.images], sight)
    return {
        name: value
        for name, value in found.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


def _codes(posterior: Posterior, sight: Sight, classes: int) -> dict[str, float]:
    """What the code holds, and what it should not."""
    found = {"latents_active_units": float(active_units(posterior.mean.cpu().numpy()).sum())}
    if posterior.logvar is not None:
        kl = kl_per_dimension(posterior.mean.cpu().numpy(), posterior.logvar.cpu().numpy())
        found["latents_kl_per_latent"] = float(kl.mean())
    if sight.labels is not None:
        draws = posterior.sample(generator(0, "looks", "codes"))
        found["latents_label_read"] = label_read(draws.cpu(), sight.labels.cpu(), classes)
    return found


def _reconstructions(model: Model, means: Tensor, sight: Sight) -> dict[str, float]:
    """Errors and sharpness of the first images."""
    labels = None if sight.labels is None else sight.labels[:PAIRS]
    made, real = to_pixels(model.decode(means[:PAIRS], labels)), sight.pixels[:PAIRS]
    return {
        "reconstruction_mse": float(mse(real, made).mean()),
        "reconstruction_ssim": float(ssim(real, made).mean()),
        "reconstruction_mean_gradient_ratio": sight.sharpness(made),
    }


def _under_labels(model: Model, means: Tensor | None, sight: Sight) -> dict[str, Any]:
    """Latents from the prior, and codes, each decoded under every label (the first ten)."""
    asked = torch.arange(min(model.config.num_classes, LABELS), device=model.device)
    found: dict[str, Any] = {}
    grids: list[Tensor] = []
    if model.config.family != "ae":
        assert sight.labels is not None
        normal = _normal(model, DRAWS // len(asked))
        grids.append(_grid(model, normal, asked, model.prior_latents))
        real = [sight.images[sight.labels == label] for label in asked]
        found |= _samples(grids[0].transpose(0, 1), real, sight)
    if means is not None:
        grids.append(_grid(model, means[:SOURCES], asked, lambda latents, labels: latents))
        if sight.judge is not None and sight.judge.num_classes:
            read = sight.judge.predict(to_pixels(grids[-1].transpose(0, 1).flatten(0, 1)))
            found["transfer_label_accuracy"] = obeyed(read, len(asked))
    if len(asked) > 1:
        found["label_effect"] = label_effect(grids[0])
    return found


def _samples(samples: Tensor, real: Sequence[Tensor], sight: Sight) -> dict[str, Any]:
    """Spread, sharpness, distance and labels of samples (K, M, C, H, W), K = 1 without labels."""
    spreads: list[float | None] = []
    for made, true in zip(samples, real):
        reference = spread(true) if len(true) > 1 else 0.0
        spreads.append(spread(made) / reference if reference else None)
    known = [share for share in spreads if share is not None]
    pixels = to_pixels(samples.flatten(0, 1))
    found: dict[str, Any] = {
        "prior_spread": sum(known) / len(known) if known else math.nan,
        "prior_spread_by_class": spreads,
        "prior_mean_gradient_ratio": sight.sharpness(pixels),
    }
    if sight.judge is None:
        return found
    features, read = seen(sight.judge, pixels)
    if sight.judged and len(features) > features.shape[1]:
        found["prior_frechet_distance"] = sight.judged.distance(moments(features))
    if sight.labels is not None and read is not None:
        found["prior_label_accuracy"] = obeyed(read, len(samples))
    return found


def _normal(model: Model, count: int) -> Tensor:
    """The same draws (count, latent_dim) from N(0, I) at every look."""
    own = generator(0, "looks", "prior")
    return torch.randn(count, model.config.latent_dim, generator=own).to(model.device)


def _grid(
    model: Model, rows: Tensor, asked: Tensor, latents: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """What `latents` makes of every row (M, latent_dim) and label (K,): images (M, K, C, H, W)."""
    labels = asked.repeat(len(rows))
    drawn = model.decode(latents(rows.repeat_interleave(len(asked), 0), labels), labels)
    return drawn.unflatten(0, (len(rows), len(asked)))


def seen(judge: Judge, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Features (N, F) of pixels, and the labels (N,) read in them where the judge reads any."""
    if not judge.num_classes:
        return judge.features(pixels), None
    features, logits = judge.read(pixels)
    return features, logits.argmax(1)


# ── measures that evaluate does not have ─────────────────────────────────────────────────────────


def obeyed(read: np.ndarray, classes: int) -> float:
    """Share of `read` (N,) that is as asked: as many of each class, one class after the other."""
    return float((read == np.repeat(np.arange(classes), len(read) // classes)).mean())


def label_effect(images: Tensor) -> float:
    """`images` (M, K, ...): M latents, each decoded under K >= 2 labels.

    The standard deviation over the labels of one latent, relative to that over all images (both
    the root of a mean over pixels), in [0, 1]: 0 if labels change nothing.
    """
    flat = images.flatten(2).float()
    own = flat.var(1, correction=0).mean()
    total = flat.flatten(0, 1).var(0, correction=0).mean()
    return float((own / total).sqrt()) if total > 0 else 0.0


def label_read(codes: Tensor, labels: Tensor, classes: int) -> float:
    """Share of the `labels` (N,) that can be read from `codes` (N, latent_dim).

    Linear discriminant analysis is fitted to one half, drawn at random, and read on the other; NaN
    where that half has a single label.
    """
    order = torch.randperm(len(codes), generator=generator(0, "halves"))
    fit, test = order.chunk(2)
    if len(labels[fit].unique()) < 2:
        return math.nan
    return linear_accuracy(
        codes[fit].double(), labels[fit], codes[test].double(), labels[test], classes
    )


def linear_accuracy(
    codes: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, classes: int
) -> float:
    """Share of `other_labels` read right by linear discriminant analysis with equal priors."""
    present = torch.tensor([bool((labels == label).any()) for label in range(classes)])
    centres = torch.stack(
        [codes[labels == y].mean(0) if present[y] else codes[0] * 0 for y in range(classes)]
    )
    within = codes - centres[labels]
    covariance = within.T @ within / len(codes)
    ridge = 1e-3 * covariance.diagonal().mean().clamp(min=1e-12)
    inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance)).to(covariance))
    weights = centres @ inverse
    bias = -0.5 * (weights * centres).sum(1)
    bias[~present] = -math.inf
    found = (others @ weights.T + bias).argmax(1)
    return float((found == other_labels).float().mean())


def discriminator_cost(rows: Sequence[dict[str, float]], config: ObjectiveConfig) -> float:
    """The discriminator's mean cost over that of the best guess, which looks at no image.

    Costs are cross-entropies of real images and samples in nats, weighed as in L_GAN; a guess
    costs the entropy of the weights. The hinge's own loss is `gan`; there a guess costs twice the
    smaller weight. NaN for fewer than ten rows.
    """
    rows = [row for row in rows if "real_cost" in row]
    if len(rows) < MIN_ROWS:
        return math.nan

    def mean(name: str) -> float:
        return sum(row[name] for row in rows) / len(rows)

    fakes = config.prior_weight + config.reconstruction_weight + config.transfer_weight
    share = config.real_weight / (config.real_weight + fakes)
    if not 0 < share < 1:
        return math.nan
    if config.adversarial_loss == "hinge":
        return mean("gan") / (2 * min(config.real_weight, fakes))
    guess = -share * math.log(share) - (1 - share) * math.log(1 - share)
    return (share * mean("real_cost") + (1 - share) * mean("fake_cost")) / guess


def spread(images: Tensor) -> float:
    """Root mean square distance of the pairs of a set (M, ...), over the root of its pixels."""
    return float((2 * images.flatten(1).float().var(0).mean()).sqrt())
