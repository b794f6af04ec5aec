"""Normalisations: of batches, of groups of channels, of weights by their largest singular value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from vaegan.ranks import ALONE, Ranks

__all__ = ["BatchNorm", "GroupNorm", "SpectralNorm", "normalise_spectrally", "refresh_spectra"]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) over the global batch, whatever the ranks.

    torch's own SyncBatchNorm does this on GPUs only.
    """

    ranks: Ranks = ALONE

    def _check_input_dim(self, input: Tensor) -> None:
        """(B, C) as well as (B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...), normalised by channel."""
        if not self.training or self.ranks.world == 1:
            return super().forward(input)
        dims, shape = (0, *range(2, input.ndim)), (1, -1, *[1] * (input.ndim - 2))
        x = input.float()
        mean = self.ranks.mean(x.mean(dims))
        centred = x - mean.view(shape)
        variance = self.ranks.mean(centred.square().mean(dims))
        with torch.no_grad():
            count = x.numel() // x.shape[1] * self.ranks.world
            unbiased = variance * (count / (count - 1))
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input)


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018), in single precision whatever the rest is in.

    A film that follows is folded into it, and takes no pass over the grid of its own.
    """

    def forward(self, input: Tensor, film: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, C, ...) -> (B, C, ...); `film` is `Film.terms`."""
        kind, size = torch.promote_types(self.weight.dtype, torch.float32), input.shape[:2]
        scale, shift = (term.to(kind).expand(size) for term in (self.weight, self.bias))
        if film is not None:
            scale, shift = scale * film[0], shift * film[0] + film[1]
        if not torch.is_grad_enabled():  # what is exported or traced is made of torch's operators
            return normalised(input, scale, shift, self.num_groups, self.eps)[0]
        out: Tensor = Normalised.apply(input, scale, shift, self.num_groups, self.eps)[0]
        return out


def normalised(
    x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Scale (x - mean) / sqrt(variance + eps) + shift, over groups of channels, like x.

    x (B, C, ...), scale and shift (B, C), in whose precision it is computed. Also returns, for each
    channel, its group's mean and 1 / sqrt(variance + eps), (B, C).

    torch's own group norm is slow on channels-last grids with a few channels a group. Here sums
    over the grid run along the channels, as they lie in memory, and all else is small: (B, C).
    """
    rows = _rows(x).to(scale.dtype)
    mean = _grouped(rows.mean(1), groups)
    centred = rows - mean[:, None]
    inverse = (_grouped(centred.square().mean(1), groups) + eps).rsqrt()
    out = torch.addcmul(shift[:, None], centred, (scale * inverse)[:, None])
    return _unrowed(out, x), mean, inverse


class Normalised(torch.autograd.Function):
    """`normalised` with a backward pass of its own; once differentiable."""

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The result, and what its gradient needs."""
        return normalised(x, scale, shift, groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep x as it came: in half precision where the rest is."""
        x, scale, _, ctx.groups, _ = inputs
        _, mean, inverse = output
        ctx.mark_non_differentiable(mean, inverse)
        ctx.save_for_backward(x, scale, mean, inverse)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of x, scale and shift."""
        x, scale, mean, inverse = ctx.saved_tensors
        rows = _rows(gradients[0]).to(scale.dtype)
        centred = _rows(x).to(scale.dtype) - mean[:, None]
        along_scale = (rows * centred).sum(1) * inverse
        along_shift = rows.sum(1)
        points = centred.shape[1]
        constant = -_grouped(scale * along_shift, ctx.groups) * inverse / points
        linear = -_grouped(scale * along_scale, ctx.groups) * inverse.square() / points
        out = torch.addcmul(constant[:, None], rows, (scale * inverse)[:, None])
        out.addcmul_(centred, linear[:, None])
        return _unrowed(out, x), along_scale, along_shift, None, None


def _rows(x: Tensor) -> Tensor:
    """(B, C, ...) -> (B, points, C), without a copy when channels lie last in memory."""
    return x[:, None] if x.ndim == 2 else x.movedim(1, -1).flatten(1, -2)


def _unrowed(rows: Tensor, like: Tensor) -> Tensor:
    """(B, points, C) -> (B, C, ...), of the shape and type of `like`."""
    return rows.to(like.dtype).view(len(like), *like.shape[2:], like.shape[1]).movedim(-1, 1)


def _grouped(values: Tensor, groups: int) -> Tensor:
    """Numbers of channels (B, C) -> for each channel the mean over its group, (B, C)."""
    parts = values.unflatten(1, (groups, -1))
    return parts.mean(2, keepdim=True).expand_as(parts).flatten(1)


class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value (Miyato et al. 2018), as a parametrization.

    The estimate u' W v is refreshed by `refresh`, once a step, and never inside forward: however
    often the network runs within a step, it is the same function.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        rows = weight.flatten(1)
        self.register_buffer("u", F.normalize(torch.randn(rows.shape[0]), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(rows.shape[1]), dim=0))
        self.refresh(weight, iterations=15)

    @torch.no_grad()
    def refresh(self, weight: Tensor, iterations: int = 1) -> None:
        """Power iteration on the raw weight; changes u and v in place."""
        rows = weight.flatten(1)
        for _ in range(iterations):
            self.v.copy_(F.normalize(rows.T @ self.u, dim=0))
            self.u.copy_(F.normalize(rows @ self.v, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """W / (u' W v), same shape; u and v count as constants."""
        # Elementwise, so that autocast leaves it in single precision.
        sigma = (weight.flatten(1) * torch.outer(self.u, self.v)).sum()
        return weight / sigma


def normalise_spectrally(module: nn.Module) -> None:
    """Put `SpectralNorm` on every convolution and linear layer of a network."""
    for part in list(module.modules()):
        if isinstance(part, (nn.Conv2d, nn.Linear)) and part.weight.numel():
            norm = SpectralNorm(part.weight.detach())
            parametrize.register_parametrization(part, "weight", norm)


def refresh_spectra(module: nn.Module) -> None:
    """One power iteration on every spectrally normalised weight; once a training step."""
    for part in module.modules():
        if isinstance(part, parametrize.ParametrizationList) and isinstance(part[0], SpectralNorm):
            part[0].refresh(part.original)
