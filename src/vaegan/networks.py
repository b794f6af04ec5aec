"""Encoder, decoder and discriminator: one implementation each, whatever the recipe or system."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaegan import layers, norms
from vaegan.blueprint import Traced
from vaegan.config import ModelConfig
from vaegan.prior import Prior

__all__ = ["Decoder", "Discriminator", "Encoder", "Judgement"]


class Reading(NamedTuple):
    """What comes out of a stack: its last layer, the features at its taps, its class logits."""

    last: Tensor
    taps: list[Tensor]
    classes: Tensor | None


class Stack(nn.Module):
    """A blueprint's layers in order. Taps are read on the way and do not change the path."""

    def __init__(self, traced: tuple[Traced, ...], config: ModelConfig):
        super().__init__()
        self.stages = nn.ModuleList()
        upsample = False
        for layer, after in zip(traced, (*traced[1:], None)):
            word = layer.layer.word
            if word == "up" and after and after.layer.word in {"conv", "image"}:
                upsample = after.layer.get("s", 1) == 1 and after.layer.get("/", 1) == 1
                if upsample:
                    continue
            self.stages.append(
                layers.build(
                    layer, config.num_classes, config.architecture.padding, upsample=upsample
                )
            )
            upsample = False

    def forward(self, x: Tensor, labels: Tensor | None) -> Reading:
        """(B, ...) -> what the last layer gives, and all that is read on the way."""
        taps: list[Tensor] = []
        classes: Tensor | None = None
        stages = list(self.stages)
        for stage, before, after in zip(stages, [None, *stages], [*stages[1:], None]):
            if isinstance(stage, norms.GroupNorm):
                x = stage(x, after.terms(labels) if isinstance(after, layers.Film) else None)
            elif isinstance(stage, layers.Film) and isinstance(before, norms.GroupNorm):
                continue  # it is in the norm
            elif isinstance(stage, layers.Tap):
                taps.append(stage(x))
            elif isinstance(stage, layers.Classes):
                classes = stage(x)
            elif isinstance(stage, (layers.Label, layers.Film, layers.Logit)):
                x = stage(x, labels)
            else:
                x = stage(x)
        return Reading(x, taps, classes)


class Encoder(nn.Module):
    """images (B,C,H,W) in [0,1], labels -> mean and log-variance (B, latent_dim) of q(z|x,y).

    A deterministic encoder (family `ae`) has no log-variance head and returns None for it.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        *body, head = config.traced("encoder")
        body = body if config.family == "ae" else body[:-1]
        self.centred = config.architecture.centred
        self.body = Stack(tuple(body), config)
        self.mean = nn.Linear(head.before[0], head.after[0])
        self.logvar = None if config.family == "ae" else nn.Linear(head.before[0], head.after[0])

    def forward(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One pass through the body, one through each head."""
        hidden = self.body(2 * images - 1 if self.centred else images, labels).last
        mean = self.mean(hidden).float()
        return mean, None if self.logvar is None else self.logvar(hidden).float()


class Decoder(nn.Module):
    """latents (B, latent_dim), labels -> LOGITS of the images (B,C,H,W); sigmoid gives [0,1].

    `prior` is what latents are drawn from when there is no image to encode.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        traced = config.traced("decoder")
        units = [line.layer["units"] for line in traced if line.layer.word == "coupling"]
        self.prior = Prior(config.latent_dim, units, config.num_classes)
        self.body = Stack(traced[len(units) :], config)
        self.centred = config.architecture.centred

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Images are sigmoid(logits); a tanh output a in [-1,1] is sigmoid(2a') in [0,1]."""
        logits: Tensor = self.body(latents, labels).last
        return 2 * logits if self.centred else logits


class Split(torch.autograd.Function):
    """Split along the batch. The gradient lies in memory as x does: torch's own would turn
    channels-last grids round wherever one part has no gradient. Once differentiable.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
        """(B, ...) -> parts of these numbers of rows."""
        ctx.set_materialize_grads(False)
        ctx.sizes, ctx.shape, ctx.stride = sizes, x.shape, x.stride()
        ctx.options = {"dtype": x.dtype, "device": x.device}
        return x.split(sizes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None]:
        """Zeros for the parts without a gradient."""
        whole = torch.empty_strided(ctx.shape, ctx.stride, **ctx.options).zero_()
        for part, gradient in zip(whole.split(ctx.sizes), gradients):
            if gradient is not None:
                part.copy_(gradient)
        return whole, None


class Judgement(NamedTuple):
    """What the discriminator says: logits (B,) before the sigmoid, features at every tap, and
    the logits (B, K) of its auxiliary classifier if it has one.
    """

    logits: Tensor
    features: list[Tensor]
    classes: Tensor | None = None

    def cut(self, sizes: dict[str, int]) -> dict[str, Judgement]:
        """Cut along the batch into the judgements of the kinds of image that lie in it."""
        parts = list(sizes.values())
        taps = [Split.apply(feature, parts) for feature in self.features]
        classes = None if self.classes is None else self.classes.split(parts)
        return {
            kind: Judgement(logits, [tap[i] for tap in taps], None if not classes else classes[i])
            for i, (kind, logits) in enumerate(zip(sizes, self.logits.split(parts)))
        }


class Discriminator(nn.Module):
    """images (B,C,H,W) in [0,1], labels -> Judgement. Without batch norm, each on its own."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.body = Stack(config.traced("discriminator"), config)
        self.centred = config.architecture.centred
        self.spectral = config.architecture.spectral_norm

    def forward(self, images: Tensor, labels: Tensor | None) -> Judgement:
        """One pass: the features and the logit share it."""
        return Judgement(*self.body(2 * images - 1 if self.centred else images, labels))

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the spectral norms up to date; called once a training step."""
        if self.spectral:
            norms.refresh_spectra(self)
