import numpy as np
import pytest
from scipy import ndimage

from vaegan.data import Dataset
from vaegan.errors import DataError
from vaegan.metrics.ranking import (
    blurred,
    cut,
    nearer,
    ranking_test,
    shifted,
    squared_error,
)


def test_shifts_are_what_they_say(digits: Dataset) -> None:
    pixels = digits.test.pixels[:20]
    one = shifted(pixels)
    assert np.array_equal(one[:, 1:, 1:], pixels[:, :-1, :-1])
    assert not one[:, 0].any() and not one[:, :, 0].any()
    half = shifted(pixels, half=True)
    expected = ndimage.shift(pixels[..., 0].astype(float), (0, 0.5, 0.5), order=1)
    assert np.abs(half[..., 0] - expected).max() <= 0.5
    twice = ndimage.shift(expected, (0, 0.5, 0.5), order=1)  # two halves are one, blurred
    assert np.abs(twice[:, 1:] - one[:, 1:, :, 0]).mean() < 15


def test_blur_alone_neither_moves_nor_adds_and_is_as_wide_as_the_half_shift() -> None:
    dot = np.zeros((1, 9, 9, 1), np.uint8)
    dot[0, 4, 4] = 240
    y = np.arange(9.0)
    for copy, centre in ((blurred(dot), 4.0), (shifted(dot, half=True), 4.5)):
        rows = copy[0, :, :, 0].sum(axis=1).astype(float)
        mean = rows @ y / rows.sum()
        assert mean == pytest.approx(centre)
        assert rows @ (y - mean) ** 2 / rows.sum() == pytest.approx(0.25, abs=0.02)
        assert abs(int(copy.sum()) - 240) <= 4


def test_cuts_fall_on_ink_and_depend_on_seed_and_place_alone(digits: Dataset) -> None:
    pixels = digits.test.pixels[:200]
    for size in (1, 3, 6):
        damaged = cut(pixels, size, seed=5)
        gone = damaged != pixels
        assert gone.any(axis=(1, 2, 3)).all()
        rows, columns = gone.any(axis=(2, 3)), gone.any(axis=(1, 3))
        for where in (rows, columns):
            first, last = where.argmax(axis=1), where.shape[1] - where[:, ::-1].argmax(axis=1)
            assert (last - first <= size).all()
        assert not damaged[gone].any()
    assert np.array_equal(cut(pixels, 4, seed=1)[:7], cut(pixels[:7], 4, seed=1))
    assert not np.array_equal(cut(pixels, 4, seed=1), cut(pixels, 4, seed=2))
    # A larger cut takes all that the smaller one takes
    assert (cut(pixels, 5) <= cut(pixels, 3)).all()
    blank = np.zeros((2, 28, 28, 1), np.uint8)
    assert np.array_equal(cut(blank, 3), blank)
    with pytest.raises(DataError, match=r"cut size \(=29\) must be between 1 and 28"):
        cut(pixels, 29)


def test_pixels_prefer_the_cut_as_often_as_is_known(mnist: Dataset) -> None:
    """The shares were measured with a cut whose exact placing is not recorded: 0.035 apart."""
    pixels = mnist.test.pixels[:3000]
    half = squared_error(shifted(pixels, half=True), pixels)
    known = {3: 0.985, 4: 0.933, 5: 0.801, 6: 0.644, 7: 0.472}
    for size, share in known.items():
        found = (squared_error(cut(pixels, size), pixels) < half).mean()
        assert found == pytest.approx(share, abs=0.035)


def test_a_tie_is_half_a_win() -> None:
    shift, damage = np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 2, 2])
    assert nearer(shift, damage).tolist() == [1, 0.5, 0, 0]


def test_a_square_on_any_ink_pixel_is_harder_than_one_on_the_most_ink(mnist: Dataset) -> None:
    """The shares that the module's docstring tells of the first 1,000 test digits."""
    pixels = mnist.test.pixels[:1000]
    for half, shares in ((False, (0.001, 0.005, 0.009)), (True, (0.397, 0.571, 0.689))):
        far = squared_error(shifted(pixels, half), pixels)
        for size, share in zip((6, 7, 8), shares):
            found = nearer(far, squared_error(cut(pixels, size), pixels)).mean()
            assert found == pytest.approx(share, abs=0.001)


def test_pixels_score_zero_when_strict_and_an_invariant_metric_scores_one(
    digits: Dataset,
) -> None:
    pixels = digits.test.pixels[:150]

    def features(images: np.ndarray) -> list[np.ndarray]:
        flat = images.reshape(len(images), -1).astype(np.float32) / 255
        spectrum = np.abs(np.fft.rfft2(images[..., 0].astype(float))).reshape(len(images), -1)
        return [flat, spectrum]  # the spectrum does not see a shift within the image

    for test in ranking_test(features, pixels, cuts=(3, 5)):
        for name in ("shift_1", "shift_half", "blur"):
            wins, wrong = test.wins[name], test.wrong[name]
            assert wins.shape == (2, 150) and wrong.shape == (150,)
            assert not wins[0, wrong].any() and wins[0] == pytest.approx(test.pixels[name])
            assert test.pixels[name].mean() == pytest.approx(1 - wrong.mean(), abs=0.01)
        assert test.wins["shift_1"][1].mean() > 0.99
        wrong = {name: each.sum() for name, each in test.wrong.items()}
        assert wrong["shift_1"] > wrong["shift_half"] > wrong["blur"]
