"""What is done to images before the discriminator sees them.

shifted   all of them, so that it cannot remember the real ones (Zhao et al. 2020)
tear      some real ones, which are then fakes: it learns what a detail in the wrong place is
          (negative data augmentation, Sinha et al. 2021; the patch is CutPaste's, Li et al. 2021)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TEARS", "TORN_IN", "shifted", "tear"]

TORN_IN = 8
"""One image of a batch in so many is torn: the first eighth of it."""
TEARS = 4
"""Draws in [0, 1) that decide where an image is torn."""
SMALLEST, LARGEST = 0.1, 0.22
"""Sides of a patch, as shares of the image's smaller side."""


def shifted(images: Tensor, direction: Tensor, share: float) -> Tensor:
    """Images (B,C,H,W), each moved by up to a share of its size; zeros move in.

    direction: (N, 2) in [-1, 1], down and right, taken again and again if images are more.
    """
    if not share:
        return images
    direction = direction.repeat(math.ceil(len(images) / len(direction)), 1)[: len(images)]
    height, width = images.shape[2:]
    reach = share * direction.new_tensor([height, width])
    down, right = (direction * reach).round().long().unbind(1)
    margin = math.ceil(share * max(height, width))
    padded = F.pad(images, [margin] * 4)
    rows = torch.arange(height, device=images.device) + (margin - down)[:, None]
    columns = torch.arange(width, device=images.device) + (margin - right)[:, None]
    padded = padded.take_along_dim(rows[:, None, :, None], dim=2)
    return padded.take_along_dim(columns[:, None, None, :], dim=3)


def tear(images: Tensor, draws: Tensor) -> Tensor:
    """Images (B,C,H,W) in [0, 1] with a square patch of each copied to another place of it.

    draws: (B, 4) in [0, 1), of the patch's size, its middle, and the row and column of its copy.
    The middle is drawn by how far a pixel is from the image's mean, squared, so that it is seldom
    on an empty ground. Now and then the copy is what was there already, and nothing is torn.
    """
    channels, height, width = images.shape[1:]
    smaller = min(height, width)
    size = (smaller * (SMALLEST + (LARGEST - SMALLEST) * draws[:, 0])).round().long().clamp(min=1)

    # Draw the middle of each patch.
    stand_out = (images - images.mean((2, 3), keepdim=True)).square().sum(1).flatten(1)
    reached = stand_out.cumsum(1)
    place = torch.searchsorted(reached, draws[:, 1:2] * reached[:, -1:], right=True).squeeze(1)

    # Look every pixel of the copy up where it comes from, along each axis.
    inside, sources = [], []
    axes = ((height, place // width, draws[:, 2]), (width, place % width, draws[:, 3]))
    for side, middle, share in axes:
        room = side - size
        origin = torch.minimum((middle - size // 2).clamp(min=0), room)
        target = (share * (room + 1)).long()
        line = torch.arange(side, device=images.device)
        offset = line - target[:, None]
        inside.append((offset >= 0) & (offset < size[:, None]))
        sources.append(torch.where(inside[-1], origin[:, None] + offset, line))
    both = inside[0][:, :, None] & inside[1][:, None, :]
    index = sources[0][:, :, None] * width + sources[1][:, None, :]
    copied = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
    return torch.where(both[:, None], copied.view_as(images), images)
