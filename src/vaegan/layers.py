"""The modules behind the words of a blueprint, one class or constructor each."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegan.blueprint import Traced
from vaegan.norms import BatchNorm, GroupNorm
from vaegan.ranks import ALONE, Ranks

__all__ = [
    "Classes",
    "Dropout",
    "Film",
    "Label",
    "Logit",
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
        case "image" if layer.get("/", 1) == 2:
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
