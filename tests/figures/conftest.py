"""Real handwritten digits for pictures: the 8x8 ones bundled with scikit-learn."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 8, 8, 1) uint8 and (1797,) int64."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    return pixels, bunch.target.astype(np.int64)
