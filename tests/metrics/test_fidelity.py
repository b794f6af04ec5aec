import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from vaegan.data import Dataset
from vaegan.errors import DataError
from vaegan.metrics import fidelity
from vaegan.metrics.fidelity import (
    grey_share,
    laplacian_variance,
    mean_gradient,
    mse,
    psnr,
    sharpness,
    specks,
    ssim,
)


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    a = ndimage.gaussian_filter(random.random(shape), (0, 1.5, 1.5, 0))
    a = (a - a.min()) / (a.max() - a.min())
    b = np.clip(a + 0.1 * random.normal(size=shape), 0, 1)
    return np.rint(255 * a).astype(np.uint8), np.rint(255 * b).astype(np.uint8)


@pytest.mark.parametrize("shape", [(5, 28, 28, 1), (4, 33, 20, 3), (3, 11, 40, 1)])
def test_equal_to_scikit_image(shape: tuple[int, ...]) -> None:
    a, b = pair(shape)
    found = zip(a / 255, b / 255, mse(a, b), psnr(a, b), ssim(a, b))
    for x, y, error, decibel, similarity in found:
        assert error == pytest.approx(mean_squared_error(x, y), rel=1e-12)
        assert decibel == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), rel=1e-12)
        expected = structural_similarity(
            x,
            y,
            data_range=1,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert similarity == pytest.approx(expected, rel=1e-10)


def test_small_images_get_the_largest_window_that_fits() -> None:
    a, b = pair((1, 8, 8, 1))
    weights = np.exp(-0.5 * (np.arange(7) - 3) ** 2 / 1.5**2)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    found = []
    for i in range(2):
        for j in range(2):
            x, y = (p[0, i : i + 7, j : j + 7, 0] / 255 for p in (a, b))
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
            found.append(luminance * (2 * cov + 9e-4) / (vx + vy + 9e-4))
    assert ssim(a, b) == pytest.approx(np.mean(found))


def test_equal_images_have_the_ends_of_the_scales() -> None:
    a, _ = pair((3, 16, 16, 3))
    assert mse(a, a).tolist() == [0, 0, 0]
    assert psnr(a, a).tolist() == [np.inf] * 3
    assert ssim(a, a) == pytest.approx(1)
    flat = np.full((1, 16, 16, 1), 7, np.uint8)
    assert ssim(flat, flat) == pytest.approx(1)
    black, white = np.zeros((1, 12, 12, 1), np.uint8), np.full((1, 12, 12, 1), 255, np.uint8)
    assert mse(black, white).tolist() == [1]
    assert psnr(black, white).tolist() == [0]


def test_gradient_and_laplacian_of_known_images() -> None:
    ramp = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None] * 20, (2, 10, 10))[..., None]
    assert mean_gradient(ramp) == pytest.approx(20 / 255)
    assert laplacian_variance(ramp) == pytest.approx(0, abs=1e-20)
    assert mean_gradient(ramp.swapaxes(1, 2)) == pytest.approx(20 / 255)
    dot = np.zeros((1, 5, 5, 1), np.uint8)
    dot[0, 2, 2] = 255  # the nine values inside are -4, four 1 and four 0
    assert laplacian_variance(dot)[0] == pytest.approx(np.var([-4] + [1] * 4 + [0] * 4))
    assert mean_gradient(dot)[0] == pytest.approx((np.sqrt(2) + 2) / 16)


def test_grey_share_counts_what_is_neither_ink_nor_paper() -> None:
    values = np.array([0, 25, 26, 128, 229, 230, 255, 255], np.uint8).reshape(1, 2, 4, 1)
    assert grey_share(values).tolist() == [3 / 8]


@pytest.mark.parametrize("ink", [255, 0])
def test_specks_are_small_and_lie_apart(ink: int) -> None:
    paper = 255 - ink
    pixels = np.full((6, 20, 20, 3), paper, np.uint8)
    pixels[1:, 3:17, 9:11] = ink  # a stroke, and beside it ...
    pixels[2, 5, 3] = ink  # ... a speck
    pixels[3, 2:4, 2:4] = pixels[3, 10, 14] = ink  # ... two, of four pixels and of one
    pixels[4, 17, 11] = ink  # ... its own end, by a corner
    pixels[5, 5, 2:7] = ink  # ... five pixels, more than one in a hundred
    assert specks(pixels).tolist() == [0, 0, 1, 2, 0, 0]
    assert specks(pixels, size=0.02).tolist() == [0, 0, 1, 2, 0, 1]
    faint = np.where(pixels == paper, pixels, paper + (25 if ink else -25)).astype(np.uint8)
    assert not specks(faint).any()
    assert specks(faint, contrast=0.05)[3] == 2
    assert specks(pixels[:0]).tolist() == []


def test_blur_lowers_and_specks_raise_sharpness(digits: Dataset) -> None:
    real = digits.test.pixels
    given = {name: each.mean() for name, each in sharpness(real).items()}
    assert list(given) == ["mean_gradient", "laplacian_variance", "grey_share"]
    blurred = ndimage.gaussian_filter(real.astype(float), (0, 1, 1, 0)).astype(np.uint8)
    specks = np.where(np.random.default_rng(0).random(real.shape) < 0.05, 255 - real, real)
    soft, hard = (
        {name: each.mean() / given[name] for name, each in sharpness(pixels).items()}
        for pixels in (blurred, specks)
    )
    assert soft["mean_gradient"] < 0.8 and soft["laplacian_variance"] < 0.3
    assert soft["grey_share"] > 1.2
    assert hard["mean_gradient"] > 1.2 and hard["laplacian_variance"] > 1.5


def test_results_do_not_depend_on_the_block(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = digits.test.pixels[:50], digits.test.pixels[50:100]
    whole = [ssim(a, b), mean_gradient(a), laplacian_variance(a), specks(a)]
    monkeypatch.setattr(fidelity, "BLOCK", 7)
    blocks = (ssim(a, b), mean_gradient(a), laplacian_variance(a), specks(a))
    for before, after in zip(whole, blocks, strict=True):
        assert np.array_equal(before, after)
    assert len(ssim(a[:0], b[:0])) == len(mean_gradient(a[:0])) == 0


def test_wrong_input_is_one_clear_line() -> None:
    a = np.zeros((2, 12, 12, 1), np.uint8)
    for other in (a[:1], a / 255, a[..., 0]):
        with pytest.raises(DataError, match="two sets of uint8 pixels of one shape"):
            ssim(a, other)
