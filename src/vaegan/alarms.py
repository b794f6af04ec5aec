"""Alarms in plain words: what goes wrong in training, named before anyone looks at a picture.

    posterior-collapse    the code carries nothing
    label-ignored         the decoder draws the same picture whatever the label, or another class
    label-leaks           the label can be read from the code, so that transfer keeps the old class
    discriminator-wins    it is never fooled, and has little left to teach
    discriminator-loses   it cannot tell real from generated
    samples-collapsed     the samples of a class are all alike

A check takes tensors and returns an `Alarm` or None. `vaegan.watch` makes the checks in training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaegan.config import ObjectiveConfig
from vaegan.randomness import generator

__all__ = [
    "Alarm",
    "discriminator_loses",
    "discriminator_wins",
    "label_disobeyed",
    "label_ignored",
    "label_leaks",
    "posterior_collapse",
    "samples_collapsed",
]

MIN_KL = 0.01  # nats a latent
MIN_LABEL_EFFECT = 0.1  # of the effect of label and latents together
MIN_SPREAD = 0.25  # of the spread of real images
MIN_WEIGHED_COST, MAX_WEIGHED_COST = 0.05, 0.99  # of the cost of a guess
MIN_ROWS = 10


@dataclass(frozen=True)
class Alarm:
    """What is wrong: a name for programs, a sentence for people, the value and its limit."""

    name: str
    text: str
    value: float
    limit: float

    @property
    def severity(self) -> float:
        """How many times the value is beyond its limit, on whichever side that is: 1 or more."""
        ratio = max(self.value, 1e-9) / self.limit
        return max(ratio, 1 / ratio)


def posterior_collapse(kl: Tensor) -> Alarm | None:
    """`kl` (N, latent_dim): KL of each image's posterior to the prior, nats. Below 0.01 a latent,
    on average, nothing of the image enters the code.
    """
    value = float(kl.mean())
    if not value < MIN_KL:
        return None
    text = (
        f"the code carries nothing: KL is {value:.4f} nats a latent, below {MIN_KL}; the decoder "
        "has learned to do without it. Lower objective.kl_weight"
    )
    return Alarm("posterior-collapse", text, value, MIN_KL)


def label_ignored(images: Tensor) -> Alarm | None:
    """`images` (M, K, ...): M latents, each decoded under K >= 2 labels.

    The effect of the label is the standard deviation over the labels of one latent, relative to
    that over all images (both the root of a mean over pixels). It is 0 if labels change nothing.
    """
    flat = images.flatten(2).float()
    own = flat.var(1, correction=0).mean()
    total = flat.flatten(0, 1).var(0, correction=0).mean()
    value = float((own / total).sqrt()) if total > 0 else 0.0
    if not value < MIN_LABEL_EFFECT:
        return None
    text = (
        f"the decoder ignores the label: another label changes a picture by {value:.1%} of what "
        "another label and code together do. Let decoder and discriminator see the label in more "
        "layers (`film`, `label`, `logit project`)"
    )
    return Alarm("label-ignored", text, value, MIN_LABEL_EFFECT)


def label_disobeyed(found: Tensor, asked: Tensor, classes: int) -> Alarm | None:
    """`found`, `asked` (N,): the labels that a judge reads in samples, and those asked for."""
    value, limit = float((found == asked).float().mean()), above_chance(0.25, classes)
    if not value < limit:
        return None
    text = (
        f"the decoder ignores the label: the judge reads the class that was asked for in "
        f"{value:.0%} of the samples, and chance is {1 / classes:.0%}"
    )
    return Alarm("label-ignored", text, value, limit)


def label_leaks(codes: Tensor, labels: Tensor, classes: int) -> Alarm | None:
    """`codes` (N, latent_dim) drawn from the posteriors, `labels` (N,): is the label in the code?

    Draws, not means: what the noise drowns never reaches the decoder. Linear discriminant analysis
    is fitted to one half, drawn at random, and read on the other.
    """
    order = torch.randperm(len(codes), generator=generator(0, "halves"))
    fit, test = order.chunk(2)
    if len(labels[fit].unique()) < 2:
        return None
    value = linear_accuracy(
        codes[fit].double(), labels[fit], codes[test].double(), labels[test], classes
    )
    limit = above_chance(0.5, classes)
    if not value > limit:
        return None
    text = (
        f"the code repeats the label: it can be read from the code of {value:.0%} of the images, "
        f"and chance is {1 / classes:.0%}; a transfer will keep the old class. Raise "
        "objective.kl_weight or transfer_weight"
    )
    return Alarm("label-leaks", text, value, limit)


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


def discriminator_wins(rows: Sequence[dict[str, float]], config: ObjectiveConfig) -> Alarm | None:
    """`rows` of stats.jsonl, ten or more: its cost is below 5 % of that of a guess."""
    value = weighed_cost(rows, config)
    if not value < MIN_WEIGHED_COST:
        return None
    text = (
        f"the discriminator wins: its cost is {value:.1%} of that of a guess, it is hardly ever "
        "fooled and has little left to teach. Lower optimiser.discriminator_lr, or raise "
        "objective.adversarial_weight, or augment"
    )
    return Alarm("discriminator-wins", text, value, MIN_WEIGHED_COST)


def discriminator_loses(rows: Sequence[dict[str, float]], config: ObjectiveConfig) -> Alarm | None:
    """`rows` of stats.jsonl, ten or more: its cost is that of a guess, or above."""
    value = weighed_cost(rows, config)
    if not value > MAX_WEIGHED_COST:
        return None
    text = (
        f"the discriminator loses: its cost is {value:.0%} of that of a guess, it cannot tell "
        "generated images from real ones. Raise optimiser.discriminator_lr, or lower "
        "objective.adversarial_weight"
    )
    return Alarm("discriminator-loses", text, value, MAX_WEIGHED_COST)


def weighed_cost(rows: Sequence[dict[str, float]], config: ObjectiveConfig) -> float:
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


def samples_collapsed(samples: Tensor, real: Sequence[Tensor]) -> Alarm | None:
    """`samples` (K, M, ...): M samples of each label; `real`: K sets (M_k, ...) of real images.

    The spread of a set is the root mean square distance of its pairs. A label is collapsed when
    its samples have less than a quarter of the spread of its real images; sets of one are skipped.
    """
    shares = {}
    for label, (made, true) in enumerate(zip(samples, real)):
        if len(true) > 1 and (reference := spread(true)) > 0:
            shares[label] = spread(made) / reference
    collapsed = [label for label, share in shares.items() if share < MIN_SPREAD]
    if not collapsed:
        return None
    value = min(shares.values())
    where = "the samples"
    if len(samples) > 1:
        listed = ", ".join(map(str, collapsed[:5])) + (", ..." if len(collapsed) > 5 else "")
        where += f" of label {listed}"
    text = (
        f"{where} are nearly all alike: their distance is {value:.0%} of that of real images. "
        "Lower objective.adversarial_weight or the learning rates"
    )
    return Alarm("samples-collapsed", text, value, MIN_SPREAD)


def spread(images: Tensor) -> float:
    """Root mean square distance of the pairs of a set (M, ...), over the root of its pixels."""
    return float((2 * images.flatten(1).float().var(0).mean()).sqrt())


def above_chance(share: float, classes: int) -> float:
    """The accuracy that lies a share of the way from chance to certainty."""
    return 1 / classes + share * (1 - 1 / classes)
