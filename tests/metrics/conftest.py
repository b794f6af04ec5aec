import os
from pathlib import Path

import pytest

from vaegan.data import Dataset, load_dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The 1,797 embedded digits, 28 x 28."""
    return load_dataset("digits")


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """Real MNIST: VAEGAN_TEST_DATA/mnist, or ../shared/data/mnist beside the repository."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("VAEGAN_TEST_DATA", beside)) / "mnist"
    if not folder.is_dir():
        pytest.skip("no MNIST: name the folder that holds mnist/ in VAEGAN_TEST_DATA")
    return load_dataset(folder)
