"""The style of images: how much they vary, how finely and in which directions, wherever that is.

Two kinds of statistics, (B, C) in groups that count alike:

contrasts   how far each channel of a grid deviates from its mean over the grid: of the
            discriminator's features (the texture statistic of Huang & Belongie 2017, eq. 6)
strokes     of the image itself: its contrast, how steep it is on a fine and on a coarse scale,
            and how that is shared between eight directions: weight, softness and slant of what
            is drawn

`Styles` knows what is usual in each class of a batch, and so what the style of an image is: heavy
for a one, not heavy as an eight is. Training asks for these; `vaegan.metrics.style` measures
afterwards what it was not asked for by name, thickness and slant.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from vaegan.ranks import ALONE, Ranks

__all__ = ["Styles", "contrasts", "strokes"]

DIRECTIONS = 8
FINE, COARSE = 1 / 28, 9 / 28
"""Widths over which an image is smoothed, as shares of its smaller side; at least a pixel."""
FAINT = 1e-6
"""Added to variances: no root is steep, no image without contrast divides by 0."""


def contrasts(features: list[Tensor]) -> list[Tensor]:
    """Standard deviations over the grids, each (B,C,H,W) -> (B,C), never quite 0.

    What is no grid is left out.
    """
    found = []
    for layer in features:
        if layer.ndim == 4:
            rows = layer.permute(0, 2, 3, 1).flatten(1, 2).float()  # as channels-last memory lies
            centred = rows - rows.mean(1, keepdim=True)
            found.append((centred.square().mean(1) + FAINT).sqrt())
    return found


def strokes(images: Tensor) -> list[Tensor]:
    """Images (B,C,H,W) in [0, 1] -> contrast (B,C), steepness (B,2C), directions (B,8C) twice.

        contrast        c, the standard deviation over the pixels
        steepness       t / c, t^2 the mean of (d_a x)^2 over pixels and directions a; fine, coarse
        directions      the root of the mean of (d_a x)^2 over pixels, by t; fine, then coarse

    d_a is the derivative in a direction of the image smoothed by a box of the scale's width, twice,
    per width. All eight are read off the structure tensor (Förstner & Gülch 1987), the mean of
    the gradient times its transpose. Beyond its border an image goes on as it ends.
    """
    x = images.float()
    height, width = x.shape[2:]
    contrast = (x.var((2, 3), correction=0) + FAINT).sqrt()
    angles = torch.arange(DIRECTIONS, device=x.device, dtype=x.dtype) * (torch.pi / DIRECTIONS)
    turns = torch.stack([angles.cos() ** 2, angles.sin() ** 2, (2 * angles).sin()])
    steepness, directions = [], []
    with torch.autocast(x.device.type, enabled=False):  # products would be rounded
        for scale in (FINE, COARSE):
            reach = max(1, round(scale * min(height, width)))
            smooth_down, steep_down = _smoothing(height, reach, x.device, x.dtype)
            smooth_right, steep_right = _smoothing(width, reach, x.device, x.dtype)
            right = smooth_down @ x @ steep_right.T
            down = steep_down @ x @ smooth_right.T
            products = (right.square(), down.square(), right * down)
            tensor = torch.stack([product.mean((2, 3)) for product in products], -1)
            squares = (tensor @ turns).clamp(min=0) + FAINT
            steep = squares.mean(-1).sqrt()
            steepness.append(steep / contrast)
            directions.append((squares.sqrt() / steep[..., None]).flatten(1))
    return [contrast, torch.cat(steepness, 1), *directions]


@functools.cache
def _smoothing(
    size: int, reach: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Matrices that smooth a line of pixels beyond both its ends, and take the slope of that.

    Both (size + 2 reach, size): a tent of this reach, which is a box twice; and its central
    difference, per reach. The line goes on beyond its ends with their values.
    """
    places = torch.arange(-reach - 1, size + reach + 1)[:, None]
    steps = torch.arange(1 - reach, reach)
    weights = ((reach - steps.abs()).double() / reach**2).expand(len(places), -1)
    smooth = torch.zeros(len(places), size, dtype=torch.float64)
    smooth.scatter_add_(1, (places + steps).clamp(0, size - 1), weights)
    slope = reach * (smooth[2:] - smooth[:-2]) / 2
    return smooth[1:-1].to(device, dtype), slope.to(device, dtype)


class Styles:
    """What is usual in each class of a batch of real images, and how each of them departs from it.

    textures and drawn: their `contrasts` (none, if nothing is asked of them) and `strokes`,
    constants; labels (N,). Means and variances are those of the batch of all `ranks` together.
    """

    def __init__(
        self,
        textures: list[Tensor],
        drawn: list[Tensor],
        labels: Tensor,
        classes: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.labels, self.ranks = labels, ranks
        groups = textures + drawn
        self.channels = [group.shape[1] for group in groups]
        self.strokes = slice(len(textures), None)
        """Which groups are of strokes."""
        styles = torch.cat([torch.ones_like(groups[0][:, :1]), *groups], 1)
        hot = F.one_hot(labels, classes).to(styles)
        with torch.autocast(styles.device.type, enabled=False):  # products would be rounded
            sums = ranks.mean(hot.T @ styles) * ranks.world
        self.counts = sums[:, 0]
        self.means = sums[:, 1:] / self.counts.clamp(min=1)[:, None]
        self.within = styles[:, 1:] - self.means[labels]
        squares = ranks.mean(self.within.square().sum(0)) * ranks.world
        freedom = (self.counts.sum() - (self.counts > 0).sum()).clamp(min=1)
        self.variances = [square.mean() / freedom + 1e-8 for square in squares.split(self.channels)]
        """Within the classes, of each group."""

    def lost(self, made: list[Tensor], targets: Tensor) -> Tensor:
        """How far each transferred image is from the style of its source, (M,).

        made: contrasts and strokes of M <= N images made of the batch's LAST M under the labels
        `targets` (M,), none of which is its source's.

            mean over channels, then groups of ((s(x') - u_y') - (s(x) - u_y))^2 / v

        u are the class means, v the group's variance within the classes: 0 where an image has all
        of it, about 2 where the two have nothing in common. The source is left out of the mean
        that it is compared with, which makes the gradient, a batch's means being what they are,
        right on average. Nothing is asked of an image where the batch holds no other image of its
        source's class, or none of its own.
        """
        alike = self.counts[self.labels][-len(targets) :, None]
        wanted = self.within[-len(targets) :] * alike / (alike - 1).clamp(min=1)
        gaps = torch.cat(made, 1) - self.means[targets] - wanted
        known = (alike[:, 0] > 1) & (self.counts[targets] > 0)
        return self._averaged(gaps, slice(None)) * known

    def unsaid(self, codes: Tensor) -> Tensor:
        """What of each image's strokes one line for all classes cannot read from its code, (N,).

        codes: (N, D). The line is the best for this batch, by ridge regression:

            s(x) - u_y = W (z - mean z),  W minimises |s - u - W (z - mean z)|^2 + D/2 |W|^2
            mean over channels, then groups of (s(x) - u_y - W (z - mean z))^2 / v

        W is held, which leaves the gradient of that minimum (Danskin 1967). Near 0 where a
        direction of the code means the same style under every label; where codes say nothing of
        it about (1 - D / N) (1 - K / N) of K classes: of a batch hardly larger than the code
        little is asked. Nothing is asked of an image that is the only one of its class.
        """
        known = (self.counts[self.labels] > 1).to(self.within)[:, None]
        wanted = self.within[:, -sum(self.channels[self.strokes]) :] * known
        codes = codes.float()
        size = codes.shape[1]
        with torch.autocast(codes.device.type, enabled=False):
            with torch.no_grad():
                sums = self.ranks.mean(torch.cat([codes * known, known], 1).sum(0))
                middle = sums[:size] / sums[size:].clamp(min=FAINT)
            centred = (codes - middle) * known
            with torch.no_grad():
                sums = centred.T @ torch.cat([centred, wanted], 1)
                gram, shared = (self.ranks.mean(sums) * self.ranks.world).tensor_split([size], 1)
                ridge = torch.eye(size, device=codes.device, dtype=codes.dtype) * (size / 2)
                line, _ = torch.linalg.solve_ex(gram + ridge, shared)
            gaps = wanted - centred @ line
        return self._averaged(gaps, self.strokes)

    def _averaged(self, gaps: Tensor, groups: slice) -> Tensor:
        """Squares of the gaps of these groups over their variances, (N, C) -> (N,)."""
        parts = gaps.square().split(self.channels[groups], 1)
        shares = [part.mean(1) / v for part, v in zip(parts, self.variances[groups])]
        return torch.stack(shares).mean(0)
