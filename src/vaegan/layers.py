"""The modules behind the words of a blueprint, one class or constructor each."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from vaegan.blueprint import Traced
from vaegan.ranks import ALONE, Ranks

__all__ = [
    "Classes",
    "Dropout",
    "Film",
    "GroupNorm",
    "Label",
    "Logit",
    "SpectralNorm",
    "SubpixelImage",
    "Tap",
    "UpsampledConv",
    "build",
]

Padding = Literal["tensorflow", "symmetric"]

CHANCES = 1 << 16
"""Dropout's rate counts in parts of this."""


class SameConv2d(nn.Conv2d):
    """Convolution with "same" padding: the output is ceil(H / stride) x ceil(W / stride).

    TensorFlow puts an odd pixel of padding at the end: stride 2 on 28 pixels pads (0, 1) for a
    3 x 3 kernel, (2, 3) for 7 x 7. `symmetric` pads k // 2 on every side.
    """

    def __init__(self, into: int, out: int, kernel: int, stride: int, padding: Padding):
        self.asymmetric = padding == "tensorflow" and stride > 1
        super().__init__(into, out, kernel, stride, 0 if self.asymmetric else kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, ceil(H/s), ceil(W/s))."""
        if self.asymmetric:
            pads: list[int] = []
            for size in (x.shape[3], x.shape[2]):
                step, kernel = self.stride[0], self.kernel_size[0]
                total = max((-(-size // step) - 1) * step + kernel - size, 0)
                pads += [total // 2, total - total // 2]
            x = F.pad(x, pads)
        return super().forward(x)


class UpsampledConv(nn.Conv2d):
    """Nearest-neighbour upsampling by two, then a k x k convolution, computed on the small grid.

    Upsampling is a transposed convolution with a 2 x 2 kernel of ones and stride 2. Composed with
    the k x k convolution it is one transposed convolution, whose (k+1) x (k+1) kernel is the sum
    of four shifted copies of the k x k one. It is the same function of the same weights at
    (k+1)^2 / (2k)^2 of the work: 4/9 for k = 3, 9/25 for k = 5.
    """

    def __init__(self, into: int, out: int, kernel: int):
        super().__init__(into, out, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, 2H, 2W)."""
        flipped = self.weight.flip(2, 3).transpose(0, 1)
        wide = F.pad(flipped, (1, 1, 1, 1))
        wide = wide[..., 1:] + wide[..., :-1]  # the four copies, two by two
        kernel = wide[..., 1:, :] + wide[..., :-1, :]
        return F.conv_transpose2d(x, kernel, self.bias, 2, self.kernel_size[0] // 2)


class SubpixelImage(nn.Conv2d):
    """Convolution to four values a channel on the half grid, then pixel shuffle (Shi et al. 2016).

    The images' own grid never carries more than the images' channels.
    """

    def __init__(self, into: int, channels: int, kernel: int):
        super().__init__(into, 4 * channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H/2, W/2) -> (B, C, H, W)."""
        return F.pixel_shuffle(super().forward(x), 2)


class Label(nn.Module):
    """Append the label: (B, N) -> (B, N+K) one-hot, (B, C, H, W) -> (B, C+K, H, W) as maps."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Concatenate along dimension 1; the identity when there are no classes."""
        if not self.num_classes or labels is None:
            return x
        onehot = F.one_hot(labels, self.num_classes).to(x.dtype)
        if x.ndim == 4:
            onehot = onehot[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.cat([x, onehot], dim=1)


class Film(nn.Module):
    """Scale and shift each channel by the label, x (1 + g[y]) + b[y] (Dumoulin et al. 2017)."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(num_classes, channels))
        self.shift = nn.Parameter(torch.zeros(num_classes, channels))

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """(B, C, ...) -> (B, C, ...); the identity when there are no classes."""
        terms = self.terms(labels)
        if terms is None:
            return x
        shape = (*x.shape[:2],) + (1,) * (x.ndim - 2)
        scale, shift = (term.view(shape).to(x.dtype) for term in terms)
        return x * scale + shift

    def terms(self, labels: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """1 + g[y] and b[y], each (B, C), in single precision; None when there are no classes."""
        if labels is None or not len(self.scale):
            return None
        # A product with one-hot rows: its backward is deterministic and fast, indexing's is not.
        onehot = F.one_hot(labels, len(self.scale)).to(self.scale.dtype)
        with torch.autocast(onehot.device.type, enabled=False):
            return 1 + onehot @ self.scale, onehot @ self.shift


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))) with leaky ReLU 0.2; a 1 x 1 shortcut if the channels change."""

    def __init__(self, into: int, out: int, kernel: int):
        super().__init__()
        self.first = SameConv2d(into, out, kernel, 1, "symmetric")
        self.second = SameConv2d(out, out, kernel, 1, "symmetric")
        self.shortcut = SameConv2d(into, out, 1, 1, "symmetric") if into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H, W)."""
        y = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))
        return self.shortcut(x) + y


class Tap(nn.Module):
    """Mark where features are read; with channels, read them through a convolution of its own.

    The convolution lies BESIDE the path: the path goes on from x, so no loss of the discriminator
    trains it. That is the tutorial's "metric layer".
    """

    def __init__(self, into: int, channels: int, kernel: int):
        super().__init__()
        self.branch = (
            SameConv2d(into, channels, kernel, 1, "symmetric") if channels else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features read here; the caller keeps x on the path."""
        features: Tensor = self.branch(x)
        return features


class Classes(nn.Linear):
    """Auxiliary classifier beside the path (Odena et al. 2017): (B, N) -> logits (B, K)."""

    def forward(self, x: Tensor) -> Tensor:
        """In single precision whatever the rest is computed in."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.bias.dtype))


class Logit(nn.Module):
    """One number per example; `project` adds <embedding[y], x> (Miyato & Koyama 2018, eq. 5)."""

    def __init__(self, units: int, num_classes: int, project: bool):
        super().__init__()
        self.linear = nn.Linear(units, 1)
        self.embedding = (
            nn.Linear(num_classes, units, bias=False) if project and num_classes else None
        )

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """(B, N) -> (B,), in single precision whatever the rest is computed in."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.linear.bias.dtype)
            logits = self.linear(x).squeeze(1)
            if self.embedding is not None and labels is not None:
                onehot = F.one_hot(labels, self.embedding.in_features).to(x.dtype)
                logits = logits + (self.embedding(onehot) * x).sum(1)
        return logits


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


def build(traced: Traced, num_classes: int, padding: Padding, *, upsample: bool) -> nn.Module:
    """The module for one traced layer; `upsample` folds a preceding `up 2` into a convolution."""
    layer, (channels, *_) = traced.layer, traced.before
    match layer.word:
        case "conv" if upsample and layer.get("s", 1) == 1:
            return UpsampledConv(channels, layer["channels"], layer["k"])
        case "conv":
            return SameConv2d(channels, layer["channels"], layer["k"], layer.get("s", 1), padding)
        case "deconv":
            kernel = layer["k"]
            return nn.ConvTranspose2d(channels, layer["channels"], kernel, 2, kernel // 2, 1)
        case "residual":
            return Residual(channels, layer["channels"], layer["k"])
        case "up":
            return nn.Upsample(scale_factor=2)
        case "maxpool":  # ceil mode pads at the end, as TensorFlow does
            return nn.MaxPool2d(2, ceil_mode=True)
        case "avgpool":
            return nn.AvgPool2d(2)
        case "flatten":
            return nn.Flatten()
        case "sum":
            return Sum()
        case "dense":
            return nn.Linear(channels, layer["units"])
        case "grid":
            return ToGrid(channels, traced.after)
        case "image" if layer.get("/"):
            return SubpixelImage(channels, traced.after[0], layer["k"])
        case "image" if layer.get("k") and upsample:
            return UpsampledConv(channels, traced.after[0], layer["k"])
        case "image" if layer.get("k"):
            return SameConv2d(channels, traced.after[0], layer["k"], 1, padding)
        case "image":
            return ToGrid(channels, traced.after)
        case "label":
            return Label(num_classes)
        case "film":
            return Film(channels, num_classes)
        case "relu":
            return nn.ReLU()
        case "silu":
            return nn.SiLU()
        case "lrelu":
            return nn.LeakyReLU(layer.numbers["slope"])
        case "batchnorm":
            return BatchNorm(channels)
        case "groupnorm":
            return GroupNorm(layer["groups"], channels)
        case "dropout":
            return Dropout(layer.numbers["rate"])
        case "features":
            return Tap(channels, layer.get("channels"), layer.get("k", 1))
        case "classes":
            return Classes(channels, num_classes) if num_classes else nn.Identity()
        case "logit":
            return Logit(channels, num_classes, bool(layer.get("project")))
    raise AssertionError(layer.word)  # pragma: no cover - `parse` knows no other word


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

    A film that follows is folded into it: one pass over the grid does both.
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
    """`normalised` with a backward pass of its own, twice over the grid; once differentiable."""

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
    """(B, points, C) -> (B, C, ...), of the shape and type of `like`; no copy of its own."""
    return rows.to(like.dtype).view(len(like), *like.shape[2:], like.shape[1]).movedim(-1, 1)


def _grouped(values: Tensor, groups: int) -> Tensor:
    """Numbers of channels (B, C) -> for each channel the mean over its group, (B, C)."""
    parts = values.unflatten(1, (groups, -1))
    return parts.mean(2, keepdim=True).expand_as(parts).flatten(1)


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) whose mask is drawn for the global batch.

    Each rank keeps its rows of it, so that a mask is the same however many ranks there are. The
    rate counts in steps of 1 / 65,536.
    """

    ranks: Ranks = ALONE

    def forward(self, input: Tensor) -> Tensor:
        """(B, ...) -> (B, ...); the identity in eval mode."""
        if not self.training or not self.p:
            return input
        size = (len(input) * self.ranks.world, *input.shape[1:])
        wide = input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if wide else torch.contiguous_format
        mask = torch.empty(size, dtype=input.dtype, device=input.device, memory_format=layout)
        dropped = min(round(self.p * CHANCES), CHANCES - 1)
        keep = 1 - dropped / CHANCES
        if mask.is_cpu:  # a draw of 64 bits decides for four numbers: bernoulli_ takes one for each
            count = mask.numel()
            words = torch.empty(-(-count // 4), dtype=torch.int64, device=mask.device)
            words.random_(-(1 << 63), None)
            chances = words.view(torch.int16)[:count]
            numbers = (mask.movedim(1, -1) if wide else mask).view(-1)
            torch.ge(chances, dropped - CHANCES // 2, out=numbers)
        else:
            mask.bernoulli_(keep)
        return (input * mask[self.ranks.rows]).div_(keep)


def look_across(module: nn.Module, ranks: Ranks) -> None:
    """Let the layers that look across a batch look across the global one."""
    for part in module.modules():
        if isinstance(part, (BatchNorm, Dropout)):
            part.ranks = ranks


class ToGrid(nn.Linear):
    """Linear layer whose output is read as a grid: (B, N) -> (B, C, H, W), channels last.

    What follows keeps the layout it is given, and is fastest in that one.
    """

    def __init__(self, units: int, grid: tuple[int, ...]):
        super().__init__(units, grid[0] * grid[1] * grid[2])
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """(B, N) -> (B, C, H, W)."""
        grid = super().forward(x).unflatten(1, self.grid)
        return grid.contiguous(memory_format=torch.channels_last)


class Sum(nn.Module):
    """(B, C, H, W) -> (B, C), summed over the grid."""

    def forward(self, x: Tensor) -> Tensor:
        """Sum over H and W."""
        return x.sum((2, 3))


def initialise(module: nn.Module, kind: Literal["glorot", "he", "gaussian"]) -> None:
    """Draw all weights of a network anew from the global generator; biases become zero."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            weight = part.weight
            if kind == "glorot":
                nn.init.xavier_uniform_(weight)
            elif kind == "he":
                nn.init.kaiming_normal_(weight, a=0.2)
            else:
                nn.init.normal_(weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


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
