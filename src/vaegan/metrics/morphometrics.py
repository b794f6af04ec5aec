"""What the style of a glyph is, in numbers: thickness, slant, length, width, height, area.

The definitions are those of Morpho-MNIST (Castro, Tan, Kainz, Konukoglu and Glocker, "Morpho-MNIST:
Quantitative Assessment and Diagnostics for Representation Learning", JMLR 20, 2019). An image is
enlarged four times (cubic spline, then a Gaussian of 4/3 enlarged pixels against staircases, as in
the pyramid expansion of that paper's program), cut to ink and paper half-way between its own
darkest and brightest value, and thinned to its medial axis. All images of a batch are measured at
once: enlarging is two matrix products, the distance map a running minimum over all rows, and the
thinning visits the ink pixels of every image in the same order as one image at a time would.

Ink is bright on a dark ground: give `255 - pixels` for dark writing on light paper.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from vaegan.errors import DataError

__all__ = ["Morphometrics", "measure"]

SCALE = 4
THRESHOLD = 0.5
DISCARDED_MASS = 0.01


@dataclass(frozen=True)
class Morphometrics:
    """Six measures of N images, each float64 (N,), lengths in pixels of the image as given.

    An image of one constant grey (a blank one) has no stroke: all its measures are NaN.

    thickness  twice the mean distance from the medial axis to the paper
    slant      arctan(-u11 / u02) of the grey-level moments, radians, leaning right is positive
    length     length of the medial axis, 1 for each pair of pixels that touch side by side, sqrt 2
               for each that touch at a corner: too long by up to a third where the axis zigzags
    width      between the edges, sheared by the slant, that each leave 1 % of the ink outside
    height     between the upper and the lower edge that each leave 1 % of the ink outside
    area       number of ink pixels
    """

    thickness: np.ndarray
    slant: np.ndarray
    length: np.ndarray
    width: np.ndarray
    height: np.ndarray
    area: np.ndarray

    @staticmethod
    def names() -> tuple[str, ...]:
        """The six names, in the order of the fields."""
        return tuple(field.name for field in fields(Morphometrics))

    def __len__(self) -> int:
        return len(self.thickness)

    def __getitem__(self, rows: np.ndarray | slice) -> Morphometrics:
        """The measures of some of the images, chosen by a slice, a mask or indices."""
        return Morphometrics(*(getattr(self, name)[rows] for name in self.names()))

    @property
    def blank(self) -> np.ndarray:
        """Which images have no stroke, bool (N,)."""
        return np.isnan(self.thickness)


def measure(pixels: np.ndarray, batch: int = 500, threads: int | None = None) -> Morphometrics:
    """Measure the strokes of every image; colours are averaged to grey first.

    pixels: uint8 (N, H, W, C), bright ink on a dark ground. batch: images measured at once, a
    matter of memory only (about 200 kB an image of 28 x 28 pixels). threads: batches measured side
    by side, by default one for every core up to 8. The result depends on neither.
    Raises DataError if `pixels` has another shape or type.
    """
    if pixels.ndim != 4 or pixels.dtype != np.uint8:
        raise DataError(
            f"morphometrics need uint8 pixels (N, H, W, C), got {pixels.dtype} {pixels.shape}: "
            "convert images in [0, 1] with (255 * images).round().astype('uint8')"
        )
    parts = [pixels[i : i + batch] for i in range(0, len(pixels), batch)]
    with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, 8)) as pool:
        columns = [np.empty((6, 0)), *pool.map(_measure, parts)]
    return Morphometrics(*np.concatenate(columns, axis=1))


def _measure(pixels: np.ndarray) -> np.ndarray:
    """Measures of one batch, float64 (6, N), in the order of `Morphometrics`."""
    hires = _enlarge(pixels.mean(axis=3, dtype=np.float32))
    low, high = hires.min(axis=(1, 2)).astype(float), hires.max(axis=(1, 2)).astype(float)
    ink = hires >= np.ceil(low + THRESHOLD * (high - low)).astype(np.uint8)[:, None, None]
    blank = low == high
    ink[blank] = False

    squared = _squared_distances(ink)
    axis = _medial_axis(ink, squared)
    points = np.flatnonzero(axis)
    image = points // axis[0].size
    radii = np.bincount(image, np.sqrt(squared.reshape(-1)[points]), minlength=len(pixels))
    with np.errstate(invalid="ignore"):
        thickness = 2 * radii / np.bincount(image, minlength=len(pixels)) / SCALE
    slant, width, height = _frame(hires)
    area = np.count_nonzero(ink, axis=(1, 2)) / SCALE**2
    columns = np.stack([thickness, slant, _length(axis) / SCALE, width, height, area])
    columns[:, blank] = np.nan
    return columns


# Enlarge


@cache
def _enlargement(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of the cubic spline (4 size, size) and of the smoothing (4 size, 4 size)."""
    from scipy.ndimage import gaussian_filter1d, zoom

    spline = zoom(np.eye(size), (SCALE, 1), order=3, mode="mirror", grid_mode=True)
    smooth = gaussian_filter1d(np.eye(SCALE * size), 2 * SCALE / 6, axis=0, mode="reflect")
    return spline.astype(np.float32), smooth.astype(np.float32)


def _enlarge(grey: np.ndarray) -> np.ndarray:
    """float32 (N, H, W) in [0, 255] -> uint8 (N, 4H, 4W), rounded down.

    The spline may not leave the image's own range, and its ripples outside the strokes do not count
    as ink where they are less than one level: beside strokes with grey edges, as pens make, that is
    all of them. Beside a sharp white bar they reach five levels, and width takes them in: a bar of
    1 px is 4.70 px wide, one of 2 px 3.46.
    """
    (down, smooth_down), (across, smooth_across) = map(_enlargement, grey.shape[1:])
    low, high = grey.min(axis=(1, 2), keepdims=True), grey.max(axis=(1, 2), keepdims=True)
    hires = np.matmul(down, grey @ across.T)
    np.clip(hires, low, high, out=hires)
    hires = np.matmul(smooth_down, hires @ smooth_across.T)
    return (hires + np.float32(1e-3)).astype(np.uint8)


# Measure the distance to the paper


def _squared_distances(ink: np.ndarray) -> np.ndarray:
    """Exact squared Euclidean distance from each ink pixel to the nearest paper pixel, int32.

    First down the columns, then d2(x) = min over k of k^2 + column(x + k)^2 along the rows, with k
    growing until k^2 exceeds every distance found. Outside the image there is neither.
    """
    n, height, width = ink.shape
    far = int(np.hypot(height, width)) + 1
    dtype = np.uint16 if far**2 + width**2 < 2**16 else np.int32
    column = np.empty((n, height, width), dtype=dtype)
    down = np.full((n, width), far, dtype=dtype)
    for y in range(height):
        down = (down + 1) * ink[:, y]
        column[:, y] = down
    up = np.full((n, width), far, dtype=dtype)
    for y in reversed(range(height)):
        up = (up + 1) * ink[:, y]
        np.minimum(column[:, y], up, out=column[:, y])
    np.minimum(column, far, out=column)

    column *= column
    squared = column.copy()
    for k in range(1, width):
        if k * k >= squared.max(initial=0):
            break
        farther = column + dtype(k * k)
        np.minimum(squared[:, :, k:], farther[:, :, :-k], out=squared[:, :, k:])
        np.minimum(squared[:, :, :-k], farther[:, :, k:], out=squared[:, :, :-k])
    return squared


# Thin to the medial axis


@cache
def _must_stay() -> np.ndarray:
    """Whether the centre of each 3 x 3 neighbourhood has to stay, bool (512,).

    Bit 3 * row + column of the index is that pixel. The centre stays if taking it out changes the
    number of 8-connected pieces, or if it has at most one neighbour (the end of a line).
    """
    from scipy.ndimage import label

    table = np.zeros(512, dtype=bool)
    for index in range(512):
        block = (index >> np.arange(9)).reshape(3, 3) & 1
        if block[1, 1]:
            pieces = label(block, np.ones((3, 3)))[1]
            block[1, 1] = 0
            table[index] = pieces != label(block, np.ones((3, 3)))[1] or block.sum() < 2
    return table


def _medial_axis(ink: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """The medial axis of every image, bool like `ink` (N, H, W).

    Ink pixels are visited by growing distance to the paper, corners (much paper around) last, equal
    ones in random order, and taken away where `_must_stay` allows. The first pixel of every image
    is visited at once, then the second, and so on: what happens in one image is exactly what
    scikit-image's `medial_axis(image, rng=0)` does.
    """
    n, height, width = ink.shape
    padded = np.zeros((n, height + 2, width + 2), dtype=np.uint8)
    padded[:, 1:-1, 1:-1] = ink
    axis = padded.reshape(-1)
    around = [dy * (width + 2) + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)]

    # Order the ink pixels of all images: by image, distance, paper around, then at random
    place = np.flatnonzero(axis)
    neighbours = np.zeros(len(place), dtype=np.int64)
    for step in around:
        neighbours += axis[place + step]
    image = place // padded[0].size
    count = np.bincount(image, minlength=n)
    chance = {size: np.random.default_rng(0).permutation(size) for size in set(count.tolist())}
    tie = np.concatenate([chance[size] for size in count.tolist()])
    bits = int(count.max(initial=0)).bit_length()
    rank = ((squared[ink].astype(np.int64) * 9 + 9 - neighbours) << bits) + tie
    rank += image << int(rank.max(initial=0)).bit_length()
    place = place[np.argsort(rank)]

    # Lay them out as visits x images, the image with the most ink first
    visit = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    by_count = np.argsort(-count, kind="stable")
    column = np.empty(n, dtype=np.int64)
    column[by_count] = np.arange(n)
    visits = np.zeros((count.max(initial=0), n), dtype=np.int64)
    visits[visit, column[image]] = place
    busy = n - np.searchsorted(np.sort(count), np.arange(len(visits)), side="right")

    # Three bits a pixel: whether the one to its left, itself, the one to its right is ink
    triple = (axis << 1).astype(np.int16)
    triple[1:] |= axis[:-1]
    triple[:-1] |= axis[1:].astype(np.int16) << 2

    goes, row = ~_must_stay(), width + 2
    for places, images in zip(visits, busy):
        here = places[:images]
        code = triple[here - row] + (triple[here] << 3) + (triple[here + row] << 6)
        gone = here[goes[code]]
        triple[gone] -= 2
        triple[gone - 1] -= 4
        triple[gone + 1] -= 1
    padded = (triple & 2).reshape(padded.shape)
    return padded[:, 1:-1, 1:-1].astype(bool)


def _length(axis: np.ndarray) -> np.ndarray:
    """Length of the medial axis in its own pixels (N,), 1 or sqrt 2 a pair of neighbours."""

    def pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a & b).sum(axis=(1, 2))

    straight = pairs(axis[:, 1:], axis[:, :-1]) + pairs(axis[:, :, 1:], axis[:, :, :-1])
    diagonal = pairs(axis[:, 1:, 1:], axis[:, :-1, :-1]) + pairs(axis[:, 1:, :-1], axis[:, :-1, 1:])
    return straight + np.sqrt(2) * diagonal


# Measure slant and extent on the grey levels


def _frame(hires: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slant (rad), width and height (pixels as given) of enlarged uint8 images, each (N,)."""
    n, height, width = hires.shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=float)
    sums = hires.reshape(-1, width).astype(np.float32) @ np.stack([np.ones_like(x), x], axis=1)
    rows, rows_x = sums.astype(float).reshape(n, height, 2).transpose(2, 0, 1)
    mass = rows.sum(axis=1)
    mass[mass == 0] = np.nan
    mean_y = rows @ y / mass
    u11 = rows_x @ y / mass - rows_x.sum(axis=1) / mass * mean_y
    u02 = rows @ y**2 / mass - mean_y**2
    with np.errstate(invalid="ignore", divide="ignore"):
        shear = np.where(u02 > 1e-9, u11 / u02, 0.0)

    # Count the ink left of each sheared vertical line, from one image width outside on either side
    place = np.flatnonzero(hires)
    row = place // width
    shift = 0.5 - shear[:, None] * (y - mean_y[:, None])
    line = np.floor(place % width + shift.reshape(-1)[row]).astype(np.int64) + 1
    bins = row // height * (3 * width) + np.clip(line + width, 0, 3 * width - 1)
    ink = np.bincount(bins, hires.reshape(-1)[place], minlength=3 * width * n)
    extent_x = _extent(np.cumsum(ink.reshape(n, 3 * width), axis=1) / mass[:, None])
    above = np.concatenate([np.zeros((n, 1)), np.cumsum(rows, axis=1)], axis=1)
    extent_y = _extent(above / mass[:, None])
    return np.arctan(-shear), extent_x / SCALE, extent_y / SCALE


def _extent(cumulated: np.ndarray) -> np.ndarray:
    """Distance between the places where a cumulated mass (N, T) in [0, 1] crosses 1 % and 99 %."""

    def crossing(share: float) -> np.ndarray:
        before = np.clip((cumulated <= share).sum(axis=1) - 1, 0, cumulated.shape[1] - 2)
        pick = np.arange(len(cumulated))
        low, high = cumulated[pick, before], cumulated[pick, before + 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return before + np.clip((share - low) / (high - low), 0, 1)

    return crossing(1 - DISCARDED_MASS) - crossing(DISCARDED_MASS)
