"""How alike two images are, and how sharp one is: uint8 pixels (N, H, W, C) in, floats (N,) out.

Pixels are divided by 255 first: every measure speaks of values in [0, 1]. Each function returns
one number an image; take the mean, and its interval from `metrics.bootstrap`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from vaegan.errors import DataError

__all__ = [
    "grey_share",
    "laplacian_variance",
    "mean_gradient",
    "mse",
    "psnr",
    "sharpness",
    "specks",
    "ssim",
]

WINDOW, SIGMA = 11, 1.5
BLOCK = 1000


def mse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared error of each pair of images, (N,), in [0, 1]."""
    _check_pair(a, b)
    gap = a.astype(np.int32) - b.astype(np.int32)
    return np.square(gap).mean(axis=(1, 2, 3)) / 255**2


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of each pair, -10 log10 MSE, in dB (N,); inf for equal images.

    The mean over a set is usually taken of these, not of the MSE: say which.
    """
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse(a, b))


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair, (N,), in [-1, 1], 1 for equal images.

    Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13: an 11 x 11 Gaussian window of sigma 1.5, K1 =
    0.01, K2 = 0.03, range 1, averaged over the windows that lie inside the image and over the
    channels. Images below 11 pixels get the largest odd window that fits.
    """
    _check_pair(a, b)
    down, across = _gaussian(a.shape[1]), _gaussian(a.shape[2])
    c1, c2 = 0.01**2, 0.03**2

    def local_mean(images: np.ndarray) -> np.ndarray:
        return down @ images @ across.T

    found = []
    for i in range(0, len(a), BLOCK):
        x, y = (np.moveaxis(p[i : i + BLOCK], 3, 1) / 255 for p in (a, b))
        mean_x, mean_y = local_mean(x), local_mean(y)
        var_x, var_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
        covariance = local_mean(x * y) - mean_x * mean_y
        numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        denominator = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
        found.append((numerator / denominator).mean(axis=(1, 2, 3)))
    return np.concatenate([np.empty(0), *found])


@cache
def _gaussian(size: int) -> np.ndarray:
    """The matrix (size - window + 1, size) that averages along one axis, inside the image only."""
    window = min(WINDOW, size - (size + 1) % 2)
    weights = np.exp(-0.5 * (np.arange(window) - window // 2) ** 2 / SIGMA**2)
    weights /= weights.sum()
    matrix = np.zeros((size - window + 1, size))
    for row in range(len(matrix)):
        matrix[row, row : row + window] = weights
    return matrix


def mean_gradient(pixels: np.ndarray) -> np.ndarray:
    """Mean length of the gradient, by differences of neighbours, per pixel (N,). Blur lowers it,
    specks and broken strokes raise it above that of real images.
    """
    found = []
    for i in range(0, len(pixels), BLOCK):
        x = _grey(pixels[i : i + BLOCK])
        down = np.diff(x, axis=1)[:, :, :-1]
        across = np.diff(x, axis=2)[:, :-1]
        found.append(np.hypot(down, across).mean(axis=(1, 2)))
    return np.concatenate([np.empty(0), *found])


def laplacian_variance(pixels: np.ndarray) -> np.ndarray:
    """Variance of the four-neighbour Laplacian inside the image (N,), the usual measure of focus
    (Pech-Pacheco et al. 2000).
    """
    found = []
    for i in range(0, len(pixels), BLOCK):
        x = _grey(pixels[i : i + BLOCK])
        around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
        found.append((around - 4 * x[:, 1:-1, 1:-1]).var(axis=(1, 2)))
    return np.concatenate([np.empty(0), *found])


def grey_share(pixels: np.ndarray, low: float = 0.1, high: float = 0.9) -> np.ndarray:
    """Share of values between `low` and `high` of the range (N,): neither ink nor paper."""
    within = (pixels > low * 255) & (pixels < high * 255)
    return within.mean(axis=(1, 2, 3))


def sharpness(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """mean_gradient, laplacian_variance and grey_share of each image by name, each (N,).

    Their means over a set by those of the real images are 1 at best; below is blur, above specks.
    """
    measures = (mean_gradient, laplacian_variance, grey_share)
    return {measure.__name__: measure(pixels) for measure in measures}


def specks(pixels: np.ndarray, size: float = 0.01, contrast: float = 0.1) -> np.ndarray:
    """How many specks lie on each image's ground, int (N,).

    A speck is a connected area (corners connect) of at most `size` of the image's pixels that
    differ by more than `contrast` of the range from the ground, which is the image's median.
    Drawings have hardly any; photographs have no ground, and many.
    """
    from scipy.ndimage import label

    height, width = pixels.shape[1:3]
    apart = np.zeros((3, 3, 3), bool)
    apart[1] = True  # neighbours within an image, never across two
    found = []
    for i in range(0, len(pixels), BLOCK):
        x = _grey(pixels[i : i + BLOCK])
        marked = np.abs(x - np.median(x, axis=(1, 2), keepdims=True)) > contrast
        areas = label(marked, apart)[0].ravel()
        sizes = np.bincount(areas)[1:]
        places = np.zeros(len(sizes) + 1, int)
        places[areas] = np.arange(len(areas))  # a pixel of each, whichever
        owners = places[1:] // (height * width)
        found.append(np.bincount(owners[sizes <= size * height * width], minlength=len(x)))
    return np.concatenate([np.empty(0, int), *found])


def _grey(pixels: np.ndarray) -> np.ndarray:
    """float64 (N, H, W) in [0, 1], the mean over the channels."""
    return pixels.mean(axis=3) / 255


def _check_pair(a: np.ndarray, b: np.ndarray) -> None:
    """Raise DataError unless both are uint8 pixels of one shape."""
    if a.dtype != np.uint8 or b.dtype != np.uint8 or a.shape != b.shape or a.ndim != 4:
        raise DataError(
            f"give two sets of uint8 pixels of one shape (N, H, W, C), got {a.dtype} {a.shape} "
            f"and {b.dtype} {b.shape}"
        )
