"""Small IDX folders made on the spot, and the real data sets where they are present."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def idx_bytes(values: np.ndarray) -> bytes:
    """Write an IDX file by the format's definition, independently of the package."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_idx_folder(folder: Path, *, suffix: str = "-idx{n}-ubyte.gz", **changes) -> Path:
    """Write four small IDX files (36 + 12 images, 5 x 7, 3 classes); `changes` replace arrays."""
    generator = np.random.default_rng(0)
    arrays = {
        "train_images": generator.integers(0, 256, (36, 5, 7), np.uint8),
        "train_labels": np.arange(36, dtype=np.uint8) % 3,
        "t10k_images": generator.integers(0, 256, (12, 5, 7), np.uint8),
        "t10k_labels": np.arange(12, dtype=np.uint8) % 3,
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    for role, values in arrays.items():
        content = idx_bytes(values)
        if suffix.endswith(".gz"):
            content = gzip.compress(content, mtime=0)
        name = role.replace("_", "-") + suffix.format(n=values.ndim)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def idx_folder():
    """Return the function that writes a small IDX folder."""
    return write_idx_folder


def write_images(
    folder: Path, counts: dict[str, int], *, shape: tuple[int, ...] = (12, 10), seed: int = 0
) -> Path:
    """Write so many PNG files of noise into each sub-folder, grey or (H, W, 3)."""
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:04}.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def images():
    """Return the function that writes a folder of images."""
    return write_images


@pytest.fixture
def to_idx():
    """Return the function that writes an array as the bytes of an IDX file."""
    return idx_bytes


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with the real data sets (mnist/, ...), or skip."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("VAEGAN_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real data: set VAEGAN_TEST_DATA to a folder that holds mnist/")
    return folder
