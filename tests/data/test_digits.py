import subprocess
import sys

import numpy as np
import pytest

from vaegan.data import load_dataset
from vaegan.data.digits import UNIT, _bspline, _draw, _lanczos, _read_cells, _resampling


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def drawn():
    """All digits in the file's order: ink (N, 8, 8) in [0, 1], pixels (N, 28, 28), labels."""
    cells, labels = _read_cells()
    return cells / 16, _draw(cells), labels


def test_cells_are_those_of_scikit_learn(drawn):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    assert np.array_equal(drawn[0] * 16, bunch.images)
    assert np.array_equal(drawn[2], bunch.target)


def test_splits(digits):
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1197, 100, 500]
    assert digits.train.pixels.shape[1:] == (28, 28, 1)
    assert digits.class_names == tuple("0123456789")
    for split in (digits.train, digits.validation, digits.test):
        shares = np.bincount(split.labels, minlength=10) / len(split)
        assert np.abs(shares - 0.1).max() < 0.006


def test_splits_are_disjoint_and_complete(digits, drawn):
    splits = (digits.train, digits.validation, digits.test)
    images = [image.tobytes() for split in splits for image in split.pixels]
    assert len(set(images)) == 1797  # no two digits are the same, so this means disjoint
    assert sorted(images) == sorted(image.tobytes() for image in drawn[1])


def test_the_same_bytes_everywhere(digits):
    # Frozen: a digit or a split that moves would make every earlier run refuse the data.
    assert digits.fingerprint == "fedf2039b2faa893638eae89bb1742477178d3578813e92d6f8f1070f51e2703"


def test_another_process_agrees_and_imports_neither_sklearn_nor_torch(digits):
    program = (
        "import sys; from vaegan.data import load_dataset;"
        "print(load_dataset('digits').fingerprint, {'sklearn', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [digits.fingerprint, "set()"]


def test_sums_stay_exact_in_float32():
    # |sum| <= 16 * (sum of |weights|)^2 must stay below 2^24 for every order of summation.
    for kernel, black in ((_lanczos, True), (_bspline, False)):
        weights = _resampling(8, 60, kernel, black)
        assert np.array_equal(weights, np.rint(weights))
        assert 16 * np.abs(weights).sum(axis=1).max() ** 2 < 2**24
        assert black or np.abs(weights.sum(axis=1) - UNIT).max() <= 2


def test_ink_is_kept(drawn):
    cells, pixels, _ = drawn
    ink = pixels[:, 4:24, 4:24] / 255

    # Average the box of 20 x 20 back to 8 x 8: each cell is 2.5 pixels wide.
    share = np.kron(np.eye(8), np.ones((1, 5))) @ np.kron(np.eye(20), np.ones((2, 1))) / 5
    back = share @ ink @ share.T
    assert np.corrcoef(back.ravel(), cells.ravel())[0, 1] > 0.96
    assert np.corrcoef(ink.mean((1, 2)), cells.mean((1, 2)))[0, 1] > 0.94
    each = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(back, cells, strict=True)]
    assert min(each) > 0.85


def test_pictures_are_like_those_of_mnist(drawn):
    # MNIST's test images: mean ink 0.1325, 49 % of the inked pixels grey, none outside 20 x 20
    # by much, grounds exactly black and strokes fully white.
    ink = drawn[1] / 255
    assert ink.mean() == pytest.approx(0.1373, abs=0.0005)
    grey = ((ink > 0.1) & (ink < 0.9)).sum() / (ink > 0.1).sum()
    assert grey == pytest.approx(0.477, abs=0.005)
    outside = drawn[1].copy()
    outside[:, 4:24, 4:24] = 0
    assert outside.max() == 0
    assert drawn[1].max(axis=(1, 2)).min() == 255
    assert (drawn[1] == 0).mean() > 0.7


def test_nearest_neighbour_reads_the_test_digits(digits):
    train = digits.train.pixels.reshape(1197, -1).astype(np.float32) / 255
    test = digits.test.pixels.reshape(500, -1).astype(np.float32) / 255
    distances = (train**2).sum(1) - 2 * test @ train.T
    read = digits.train.labels[distances.argmin(axis=1)]
    assert (read == digits.test.labels).mean() > 0.97
