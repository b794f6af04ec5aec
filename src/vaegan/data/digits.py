"""The 1,797 handwritten digits that come with scikit-learn, drawn in the manner of MNIST.

The digits were written by 13 people and scanned to 32 x 32 black and white; each of the 8 x 8
numbers of the file counts the ink in a cell of 4 x 4 (Alpaydin and Kaynak 1998, UCI repository,
"Optical Recognition of Handwritten Digits"). MNIST fits its digits into 20 x 20 of 28 x 28; so do
we: interpolate, find the stroke's edge, sample down with antialiasing.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vaegan.data.dataset import Dataset, Split, carve_validation
from vaegan.errors import DataError

__all__ = ["load_digits"]

TEST_COUNT, VALIDATION_COUNT, SPLIT_SEED = 500, 100, 0

FIELD, BOX = 28, 20  # pixels: the image, and the box of the digit in it
OVERSAMPLING = 3  # of the box, while edges are found
EDGE_SHARE, EDGE_FLOOR = 0.62, 0.2  # the edge lies at this share of the ink nearby, or at the floor
EDGE_WIDTH = 0.25  # of ink, from all ground to all stroke
UNIT = 1 << 9  # kernels are rounded to 1 / UNIT


def load_digits() -> Dataset:
    """Load the digits as uint8 (N, 28, 28, 1), white strokes on black; 1,197 + 100 + 500 images.

    The same bytes on every machine. scikit-learn itself is not imported (it takes a second).

    Raises:
        DataError: scikit-learn is not installed, or its file is damaged.
    """
    cells, labels = _read_cells()
    every = Split(_draw(cells)[..., None], labels)
    rest, test = carve_validation(every, TEST_COUNT, SPLIT_SEED)
    train, validation = carve_validation(rest, VALIDATION_COUNT, SPLIT_SEED)
    return Dataset("digits", train, validation, test, tuple("0123456789"))


def _read_cells() -> tuple[np.ndarray, np.ndarray]:
    """Read scikit-learn's file: ink counts 0..16 as float32 (1797, 8, 8), labels int64 (1797,)."""
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the digits come with scikit-learn, which is missing: install it")
    path = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    try:
        lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"cannot read {str(path)!r} ({error}): reinstall scikit-learn") from error
    if table.shape != (1797, 65) or table.min() < 0 or table[:, :64].max() > 16:
        raise DataError(f"{str(path)!r} does not hold the 1,797 digits: reinstall scikit-learn")
    return table[:, :64].reshape(-1, 8, 8).astype(np.float32), table[:, 64]


def _draw(cells: np.ndarray) -> np.ndarray:
    """Turn ink counts 0..16, float32 (N, 8, 8), into uint8 (N, 28, 28).

    All sums are of whole numbers below 2**24 and thus exact, whatever their order: no library,
    processor or thread count can change a pixel.
    """
    size = BOX * OVERSAMPLING
    smooth, blur = _resampling(8, size, _lanczos, True), _resampling(8, size, _bspline, False)

    # Strokes thinner than a cell are grey: put the edge at a share of the most ink nearby.
    framed = np.pad(cells, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(framed, (3, 3), axis=(1, 2))
    scale = np.float32(16 * UNIT * UNIT)
    ink = smooth @ cells @ smooth.T / scale
    nearby = blur @ windows.max(axis=(3, 4)) @ blur.T / scale
    edge = np.maximum(EDGE_SHARE * nearby, EDGE_FLOOR)
    fine = np.rint(255 * np.clip((ink - edge) / EDGE_WIDTH + 0.5, 0, 1)).astype(np.int32)

    # Average the oversampled pixels, rounding half up.
    share = OVERSAMPLING * OVERSAMPLING
    parts = fine.reshape(-1, BOX, OVERSAMPLING, BOX, OVERSAMPLING).sum(axis=(2, 4))
    margin = (FIELD - BOX) // 2
    boxes = ((2 * parts + share) // (2 * share)).astype(np.uint8)
    return np.pad(boxes, ((0, 0), (margin, margin), (margin, margin)))


def _resampling(
    count: int, size: int, kernel: Callable[[np.ndarray], np.ndarray], black: bool
) -> np.ndarray:
    """Return the (size, count) matrix that enlarges `count` samples, in whole multiples of 1/UNIT.

    `black`: the samples beyond the ends are 0; else the kernel is cut off there and renormalised.
    """
    centres = (np.arange(size) + 0.5) * count / size - 0.5
    weights = kernel(centres[:, None] - np.arange(-4, count + 4))
    inside = weights[:, 4:-4]
    total = weights if black else inside
    return np.rint(UNIT * inside / total.sum(axis=1, keepdims=True)).astype(np.float32)


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _bspline(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.maximum(2 - x, 0) ** 3 / 6)
