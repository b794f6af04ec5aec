"""The learned-metric test: does a metric find a shifted digit nearer than a damaged one?

Doersch ("Tutorial on variational autoencoders", 2016, fig. 3) shows a 2, the same with a piece of
stroke missing, and the same shifted by half a pixel down and right. Pixels say that the damaged one
is nearer, people that the shifted one is. Here that is a test with a number: over many images, the
share of pairs (shifted copy, cut copy) in which the metric puts the shifted copy nearer. In the
strict test only the pairs count in which pixels are wrong, so that pixels score 0 by construction.

    shift_1     one pixel down and right: no blur
    shift_half  half a pixel down and right, bilinear: the mean of 2 x 2 pixels, which also blurs
    blur        the same blur (variance 1/4 px^2 along each axis) without the shift
    cut         a k x k square of paper, its middle on an ink pixel drawn for each image

Every copy is rounded to uint8, as whatever a model makes is.

How much ink the square takes decides how hard the test is. (Measured on 1,000 MNIST test digits
with squares of 6, 7 and 8 px: one whose middle is any ink pixel, as here, leaves pixels right in
.001, .005, .009 of the pairs at 1 px and .397, .571, .689 at half a pixel, a judge of 99.5 % in
.91, .95, .97 at 1 px; one laid where it takes the most ink, in .010, .024, .065 and .889, .968,
.994, and the judge in .998 and more: shares of the two kinds cannot be compared.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vaegan.errors import DataError

__all__ = [
    "VARIANTS",
    "RankingTest",
    "blurred",
    "cut",
    "nearer",
    "ranking_test",
    "shifted",
    "squared_error",
]

VARIANTS = ("shift_1", "shift_half", "blur")
Features = Callable[[np.ndarray], Sequence[np.ndarray]]


def shifted(pixels: np.ndarray, half: bool = False) -> np.ndarray:
    """Images moved down and right by one pixel, or by half of one; black comes in."""
    padded = np.pad(pixels, ((0, 0), (1, 0), (1, 0), (0, 0)))
    if not half:
        return padded[:, :-1, :-1].copy()
    total = padded[:, 1:, 1:].astype(np.uint16) + padded[:, :-1, 1:]
    total += padded[:, 1:, :-1].astype(np.uint16) + padded[:, :-1, :-1]
    return ((total + 2) // 4).astype(np.uint8)


def blurred(pixels: np.ndarray) -> np.ndarray:
    """Images blurred by (1, 6, 1) / 8 along both axes, as much as a half-pixel shift blurs."""
    x = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.uint16)
    x = x[:, :-2] + 6 * x[:, 1:-1] + x[:, 2:]
    x = x[:, :, :-2] + 6 * x[:, :, 1:-1] + x[:, :, 2:]
    return ((x + 32) // 64).astype(np.uint8)


def cut(pixels: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Images with a size x size square set to black, its middle on an ink pixel.

    Ink is any pixel above 0 in some channel; the draw for image i depends on seed and i alone, and
    is the same for every size. Images without ink stay as they are.
    """
    n, height, width, _ = pixels.shape
    if not 1 <= size <= min(height, width):
        raise DataError(f"cut size (={size}) must be between 1 and {min(height, width)}")
    ink = (pixels > 0).any(axis=3).reshape(n, -1)
    count = ink.sum(axis=1)
    chosen = (np.random.default_rng(seed).random(n) * count).astype(np.int64)
    place = (np.cumsum(ink, axis=1) <= chosen[:, None]).sum(axis=1)
    top, left = (place // width - size // 2)[:, None], (place % width - size // 2)[:, None]
    rows, columns = np.arange(height), np.arange(width)
    down = (rows >= top) & (rows < top + size) & (count > 0)[:, None]
    across = (columns >= left) & (columns < left + size)
    inside = down[:, :, None] & across[:, None, :]
    return np.where(inside[..., None], np.uint8(0), pixels)


def squared_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of squared differences of pixels in [0, 1], (N,)."""
    gap = a.astype(np.int32) - b.astype(np.int32)
    return np.square(gap).sum(axis=(1, 2, 3)) / 255**2


def nearer(distance_shift: np.ndarray, distance_cut: np.ndarray) -> np.ndarray:
    """1 where distance_shift < distance_cut, 1/2 where they are equal, 0 elsewhere."""
    return (distance_shift < distance_cut) + 0.5 * (distance_shift == distance_cut)


@dataclass(frozen=True)
class RankingTest:
    """What one metric finds at one size of cut, for N images, keyed by `VARIANTS`.

    wins: for each depth and pair 1 where the shifted copy is nearer, 0 where the cut one is, and
    1/2 for a tie (L, N). wrong: the pairs that pixels rank wrong, bool (N,). pixels: the wins of
    pixels (N,).
    """

    cut: int
    wins: dict[str, np.ndarray]
    wrong: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]


def ranking_test(
    features: Features, pixels: np.ndarray, cuts: Sequence[int] = (3, 5, 7), seed: int = 0
) -> list[RankingTest]:
    """Test the Euclidean distance in features at every depth, for each size of cut.

    features: uint8 pixels (N, H, W, C) -> list of (N, F_l), one for each depth; deterministic
    (dropout off), or d(x, x) > 0. pixels: images to make the pairs from; about 1,000 will do.
    """
    reference = features(pixels)
    copies = {
        "shift_1": shifted(pixels),
        "shift_half": shifted(pixels, half=True),
        "blur": blurred(pixels),
    }

    def distances(copy: np.ndarray) -> np.ndarray:
        pairs = zip(features(copy), reference)
        return np.stack([np.square(a.astype(float) - b).sum(axis=1) for a, b in pairs])

    errors = {name: squared_error(copy, pixels) for name, copy in copies.items()}
    far = {name: distances(copy) for name, copy in copies.items()}
    found = []
    for size in cuts:
        damaged = cut(pixels, size, seed)
        error, near = squared_error(damaged, pixels), distances(damaged)
        found.append(
            RankingTest(
                cut=size,
                wins={v: nearer(far[v], near) for v in VARIANTS},
                wrong={v: error < errors[v] for v in VARIANTS},
                pixels={v: nearer(errors[v], error) for v in VARIANTS},
            )
        )
    return found
